//! Rules, one by one and against a naive reading of them.

use std::net::IpAddr;

use matcher::addr::Addr;
use matcher::policy::{Mistake, Pair, Party, Policy, Rule};
use matcher::reason::Reason;
use proptest::prelude::*;

const OWN: u64 = 7;

fn party<'a>(address: &str, uid: u32, program: &'a str, netns: u64) -> Party<'a> {
    Party { address: Addr::from(address.parse::<std::net::SocketAddr>().unwrap()), uid, program, netns }
}

fn pair() -> Pair<'static> {
    Pair {
        client: party("172.18.0.3:40000", 1000, "client", 8),
        server: party("172.18.0.2:5432", 999, "postgres", 9),
        proven: false,
    }
}

fn rules(texts: &[&str]) -> Vec<Rule> {
    texts.iter().map(|t| Rule::parse(t, OWN).unwrap_or_else(|e| panic!("{t}: {e}"))).collect()
}

fn policy(deny: &[&str], allow: &[&str]) -> Policy {
    Policy { deny: rules(deny), allow: rules(allow), trust_users: true }
}

/// Whether a rule applies to [`pair`].
fn applies(text: &str) -> bool {
    policy(&[text], &[]).objection(&pair()) == Some(Reason::Policy)
}

#[test]
fn each_condition() {
    let holds = [
        "",
        "server.port=5432",
        "server.port=5000-6000",
        "server.port=1,server.port=5432",
        "client.address=172.18.0.0/16",
        "client.address=172.18.0.3",
        "client.address=::ffff:172.18.0.3",
        "client.address=0.0.0.0/0",
        "client.address=::/0",
        "client.uid=1000",
        "client.uid=1000-1999,server.uid=0-999",
        "server.program=postgres",
        "either.program=postgres",
        "either.program=client",
        "client.namespace=8",
        "either.namespace=9",
        "namespaces=different",
    ];
    let fails = [
        "server.port=5433",
        "server.port=40000",
        "client.port=5432",
        "client.address=172.19.0.0/16",
        "client.address=172.18.0.2",
        "client.address=fe80::/10",
        "client.uid=999",
        "client.uid=1000,server.uid=1000",
        "server.program=postgre",
        "either.program=postgresql",
        "client.namespace=9",
        "either.namespace=own",
        "namespaces=same",
    ];
    for text in holds {
        assert!(applies(text), "{text}");
    }
    for text in fails {
        assert!(!applies(text), "{text}");
    }
}

#[test]
fn either_is_one_end_that_meets_all_of_its_conditions() {
    assert!(applies("either.uid=999,either.program=postgres"));
    assert!(!applies("either.uid=1000,either.program=postgres"));
}

#[test]
fn unknown_namespaces_are_different() {
    let mut p = pair();
    (p.client.netns, p.server.netns) = (0, 0);
    assert_eq!(policy(&["namespaces=different"], &[]).objection(&p), Some(Reason::Policy));
    (p.client.netns, p.server.netns) = (OWN, OWN);
    assert_eq!(policy(&["namespaces=different"], &[]).objection(&p), None);
    assert_eq!(policy(&["namespaces=same,client.namespace=own"], &[]).objection(&p), Some(Reason::Policy));
}

#[test]
fn deny_wins_and_allow_excludes_the_rest() {
    assert_eq!(policy(&[], &[]).objection(&pair()), None);
    assert_eq!(policy(&[], &["server.port=5432"]).objection(&pair()), None);
    assert_eq!(policy(&[], &["server.port=1", "server.port=5432"]).objection(&pair()), None);
    assert_eq!(policy(&[], &["server.port=1"]).objection(&pair()), Some(Reason::Policy));
    assert_eq!(policy(&["client.uid=1000"], &["server.port=5432"]).objection(&pair()), Some(Reason::Policy));
}

#[test]
fn users_are_believed_of_one_another_only_when_asked_or_proven() {
    let mut policy = Policy::default();
    assert_eq!(policy.objection(&pair()), Some(Reason::OtherUser));
    assert_eq!(policy.objection(&Pair { proven: true, ..pair() }), None);
    let mut same = pair();
    same.server.uid = same.client.uid;
    assert_eq!(policy.objection(&same), None);
    policy.trust_users = true;
    assert_eq!(policy.objection(&pair()), None);
}

#[test]
fn what_cannot_be_read() {
    let parse = |text| Rule::parse(text, OWN).unwrap_err();
    for text in ["port=1", "server.prt=1", "peer.port=1", "server=1", ".port=1"] {
        assert!(matches!(parse(text), Mistake::UnknownKey(_)), "{text}");
    }
    for text in [
        "server.port=65536",
        "server.port=9-8",
        "server.port=-1",
        "server.port=",
        "client.address=10.0.0.0/33",
        "client.address=::/129",
        "client.address=ten",
        "client.uid=root",
        "client.program=",
        "client.namespace=other",
        "namespaces=both",
    ] {
        assert!(matches!(parse(text), Mistake::BadValue(..)), "{text}");
    }
    assert!(matches!(parse("server.port"), Mistake::NoValue(_)));
}

proptest! {
    /// A network holds exactly the addresses that share its first bits.
    #[test]
    fn networks(address: u32, other: u32, bits in 0u32..=32, near in 0u32..=32) {
        // Random addresses hardly ever share a network, so take one that differs in one bit.
        let other = if near == 32 { other } else { address ^ (1 << near) };
        let show = |a: u32| IpAddr::from(a.to_be_bytes()).to_string();
        let rule = Rule::parse(&format!("client.address={}/{bits}", show(address)), OWN).unwrap();
        let mut p = pair();
        p.client = party(&format!("{}:1", show(other)), 0, "", 8);
        let same = (0..bits).all(|i| (address ^ other) >> (31 - i) & 1 == 0);
        let policy = Policy { deny: vec![rule], allow: vec![], trust_users: true };
        prop_assert_eq!(policy.objection(&p).is_some(), same);
    }
}
