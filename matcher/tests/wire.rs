//! The messages: an encoded message is decoded to itself, and no other byte string is ever decoded to one.

use matcher::addr::{Addr, Tuple};
use matcher::reason::Reason;
use matcher::wire::{
    Direction, ErrorCode, MAX_MESSAGE, MAX_PREFIX, NAME_LEN, Opened, Query, Role, Terms, ToDaemon, ToShim, Transports,
};
use proptest::prelude::*;

fn addr() -> impl Strategy<Value = Addr> {
    (any::<[u8; 16]>(), any::<u16>()).prop_map(|(ip, port)| Addr { ip, port })
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::Sent), Just(Direction::Received)]
}

fn reason() -> impl Strategy<Value = Reason> {
    (0..Reason::ALL.len()).prop_map(|i| Reason::ALL[i])
}

fn opened() -> impl Strategy<Value = Opened> {
    let role = prop_oneof![Just(Role::Connected), Just(Role::Accepted)];
    (any::<[u64; 4]>(), role, addr(), addr()).prop_map(|([cookie, token, began, opened], role, local, peer)| Opened {
        cookie,
        token,
        role,
        tuple: Tuple { local, peer },
        began,
        opened,
    })
}

fn to_daemon() -> impl Strategy<Value = ToDaemon> {
    let cookie = any::<u64>();
    prop_oneof![
        (any::<u16>(), any::<[u8; 32]>(), any::<u8>()).prop_map(|(version, half, transports)| {
            let mut name = [0; NAME_LEN];
            name[..32].copy_from_slice(&half);
            ToDaemon::Hello { version, name, transports: Transports(transports) }
        }),
        opened().prop_map(ToDaemon::Opened),
        (opened(), any::<[Option<[u8; 32]>; 2]>()).prop_map(|(opened, hashes)| ToDaemon::Offer { opened, hashes }),
        (cookie, direction(), any::<[u8; 32]>()).prop_map(|(cookie, direction, hash)| ToDaemon::Prefix {
            cookie,
            direction,
            hash
        }),
        cookie.prop_map(|cookie| ToDaemon::Adopted { cookie }),
        (cookie, direction(), any::<u64>()).prop_map(|(cookie, direction, offset)| ToDaemon::Switched {
            cookie,
            direction,
            offset
        }),
        (cookie, any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(cookie, at, sent, received)| ToDaemon::Final {
            cookie,
            at,
            sent,
            received
        }),
        (cookie, reason()).prop_map(|(cookie, reason)| ToDaemon::Stayed { cookie, reason }),
        cookie.prop_map(|cookie| ToDaemon::Closed { cookie }),
        cookie.prop_map(|cookie| ToDaemon::Left { cookie }),
        cookie.prop_map(|cookie| ToDaemon::Returned { cookie }),
        cookie.prop_map(|cookie| ToDaemon::Deposit { cookie }),
        cookie.prop_map(|token| ToDaemon::Received { token }),
        prop_oneof![Just(Query::List), Just(Query::Stats)].prop_map(ToDaemon::Query),
    ]
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Connected), Just(Role::Accepted)]
}

fn to_shim() -> impl Strategy<Value = ToShim> {
    let code = prop_oneof![
        Just(ErrorCode::Malformed),
        Just(ErrorCode::Version),
        Just(ErrorCode::Unexpected),
        Just(ErrorCode::Limit)
    ];
    prop_oneof![
        (1..=MAX_PREFIX, any::<u32>(), any::<u32>()).prop_map(|(prefix_bytes, patience, small_writes)| {
            ToShim::Welcome(Terms { prefix_bytes, patience, small_writes })
        }),
        any::<(u64, u64)>().prop_map(|(cookie, token)| ToShim::Grant { cookie, token }),
        (any::<(u64, u64)>(), reason()).prop_map(|((cookie, token), reason)| ToShim::Refuse { cookie, token, reason }),
        (any::<(u64, u64, u64)>(), role()).prop_map(|((token, cookie, began), role)| ToShim::Passed {
            token,
            cookie,
            role,
            began
        }),
        any::<u64>().prop_map(|len| ToShim::Answer { len }),
        code.prop_map(|code| ToShim::Error { code }),
    ]
}

proptest! {
    #[test]
    fn a_message_to_the_daemon_survives_and_no_other_length_does(message in to_daemon(), extra in any::<u8>()) {
        let record = message.encode();
        let bytes = record.as_bytes();
        prop_assert!(bytes.len() <= MAX_MESSAGE);
        prop_assert_eq!(ToDaemon::decode(bytes), Ok(message));
        // Hello alone may end before its last field.
        let is_hello = |decoded| matches!(decoded, Err(_) | Ok(ToDaemon::Hello { .. })) && bytes[0] == 1;
        for len in 0..bytes.len() {
            let decoded = ToDaemon::decode(&bytes[..len]);
            prop_assert!(decoded.is_err() || len + 1 == bytes.len() && is_hello(decoded));
        }
        let longer = [bytes, &[extra]].concat();
        let decoded = ToDaemon::decode(&longer);
        prop_assert!(decoded.is_err() || is_hello(decoded));
        prop_assert!(ToDaemon::decode(&[&longer[..], &[extra]].concat()).is_err());
    }

    #[test]
    fn a_message_to_the_shim_survives_and_no_other_length_does(message in to_shim(), extra in any::<u8>()) {
        let record = message.encode();
        let bytes = record.as_bytes();
        prop_assert!(bytes.len() <= MAX_MESSAGE);
        prop_assert_eq!(ToShim::decode(bytes), Ok(message));
        for len in 0..bytes.len() {
            prop_assert!(ToShim::decode(&bytes[..len]).is_err());
        }
        let mut longer = bytes.to_vec();
        longer.push(extra);
        prop_assert!(ToShim::decode(&longer).is_err());
    }

    #[test]
    fn a_shim_that_knows_one_transport_says_hello_as_every_version_did(version in any::<u16>(), more in 2u8..) {
        let hello = |transports| ToDaemon::Hello { version, name: [7; NAME_LEN], transports };
        let known: Vec<u8> = [&[1][..], &version.to_le_bytes(), &[7; NAME_LEN]].concat();
        let said = hello(Transports::UNIX).encode();
        prop_assert_eq!(said.as_bytes(), &known[..]);
        prop_assert_eq!(ToDaemon::decode(&known), Ok(hello(Transports::UNIX)));
        // One that knows more is understood as far as this version goes.
        let longer = [&known[..], &[more]].concat();
        prop_assert_eq!(ToDaemon::decode(&longer), Ok(hello(Transports(more))));
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_mean_one_thing(tag in 0u8..=140, rest in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = vec![tag];
        bytes.extend(rest);
        for len in 0..bytes.len() {
            if let Ok(message) = ToDaemon::decode(&bytes[..len]) {
                let record = message.encode();
                prop_assert_eq!(record.as_bytes(), &bytes[..len]);
            }
            if let Ok(message) = ToShim::decode(&bytes[..len]) {
                let record = message.encode();
                prop_assert_eq!(record.as_bytes(), &bytes[..len]);
            }
        }
    }
}
