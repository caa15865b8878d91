//! Which pairs may leave TCP. Packet filters, accounting and tcpdump no longer see the bytes of a stream that has left
//! it (docs/security.md), so the user who runs ipcd can choose which streams may leave and which may not.
//!
//! A rule names conditions of the end that connected (client), of the end that accepted (server), or of either, and
//! applies if all of them hold. A pair stays on TCP if a rule of `deny` applies, or if there are rules of `allow` and
//! none of them does. The order of the rules does not matter.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;
use core::ops::RangeInclusive;
use core::str::FromStr;

use crate::addr::Addr;
use crate::reason::Reason;

/// One end, as far as rules ask about it. Everything except the program's name comes from the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Party<'a> {
    /// Its own address, as the end itself sees it.
    pub address: Addr,
    /// The user of the process.
    pub uid: u32,
    /// The name of the program, as the process reports it.
    pub program: &'a str,
    /// The network namespace, 0 where the kernel does not have it.
    pub netns: u64,
}

/// A pair to decide about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pair<'a> {
    /// The end that connected.
    pub client: Party<'a>,
    /// The end that accepted.
    pub server: Party<'a>,
    /// Whether the kernel proves that the two are one stream: they share a namespace, or their sequence numbers agree.
    pub proven: bool,
}

/// Which pairs may leave TCP.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Policy {
    /// A pair to which any of these applies stays on TCP.
    pub deny: Vec<Rule>,
    /// If there are any, one of these has to apply.
    pub allow: Vec<Rule>,
    /// Whether programs of different users may pair where only their reports speak for the pair.
    pub trust_users: bool,
}

impl Policy {
    /// The reason for which a pair stays on TCP, if it does.
    pub fn objection(&self, pair: &Pair<'_>) -> Option<Reason> {
        let applies = |rules: &[Rule]| rules.iter().any(|r| r.applies(pair));
        if applies(&self.deny) || !(self.allow.is_empty() || applies(&self.allow)) {
            return Some(Reason::Policy);
        }
        let (a, b) = (pair.client.uid, pair.server.uid);
        (!pair.proven && !self.trust_users && a != b).then_some(Reason::OtherUser)
    }
}

/// Conditions that all have to hold. A rule without conditions always applies.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Rule {
    client: Side,
    server: Side,
    either: Side,
    /// Whether the two ends have to be in different network namespaces, or in the same one.
    across: Option<bool>,
}

/// The conditions of one end; an empty list holds for everything.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct Side {
    networks: Vec<Network>,
    ports: Vec<RangeInclusive<u32>>,
    uids: Vec<RangeInclusive<u32>>,
    programs: Vec<String>,
    namespaces: Vec<u64>,
}

/// An address and how many bits of it count; IPv4 as its mapped IPv6 address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Network {
    address: u128,
    bits: u32,
}

/// Why a rule cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mistake {
    /// There is no such condition.
    UnknownKey(String),
    /// The condition cannot have this value.
    BadValue(String, String, &'static str),
    /// The text is not of the form KEY=VALUE.
    NoValue(String),
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mistake::UnknownKey(key) => write!(
                f,
                "there is no condition {key:?}; there are namespaces, and address, port, uid, program and namespace of \
                 client, server and either (such as server.port)"
            ),
            Mistake::BadValue(key, value, wanted) => write!(f, "{key} cannot be {value:?}: {wanted}"),
            Mistake::NoValue(text) => write!(f, "{text:?} is no condition of the form KEY=VALUE"),
        }
    }
}

impl Rule {
    /// Reads `server.port=5432,client.uid=1000-1999`. A repeated key adds a value. `own` is the network namespace that
    /// the word `own` stands for.
    pub fn parse(text: &str, own: u64) -> Result<Rule, Mistake> {
        let mut rule = Rule::default();
        for condition in text.split(',').map(str::trim).filter(|c| !c.is_empty()) {
            let (key, value) = condition.split_once('=').ok_or_else(|| Mistake::NoValue(condition.into()))?;
            rule.add(key.trim(), value.trim(), own)?;
        }
        Ok(rule)
    }

    /// Adds one value to one condition.
    pub fn add(&mut self, key: &str, value: &str, own: u64) -> Result<(), Mistake> {
        let bad = |wanted| Mistake::BadValue(key.into(), value.into(), wanted);
        if key == "namespaces" {
            self.across = Some(match value {
                "same" => false,
                "different" => true,
                _ => return Err(bad("same or different is wanted")),
            });
            return Ok(());
        }
        let (side, what) = key.split_once('.').unwrap_or(("", key));
        let side = match side {
            "client" => &mut self.client,
            "server" => &mut self.server,
            "either" => &mut self.either,
            _ => return Err(Mistake::UnknownKey(key.into())),
        };
        match what {
            "address" => side.networks.push(value.parse().map_err(|()| bad("an address or ADDRESS/BITS is wanted"))?),
            "port" => side.ports.push(range(value, 65_535).ok_or_else(|| bad("a port or FROM-TO is wanted"))?),
            "uid" => side.uids.push(range(value, u32::MAX).ok_or_else(|| bad("a user's number or FROM-TO is wanted"))?),
            "program" if !value.is_empty() => side.programs.push(value.to_string()),
            "program" => return Err(bad("a name is wanted")),
            "namespace" if value == "own" => side.namespaces.push(own),
            "namespace" => side.namespaces.push(value.parse().map_err(|_| bad("own, or a cookie, is wanted"))?),
            _ => return Err(Mistake::UnknownKey(key.into())),
        }
        Ok(())
    }

    /// Whether all conditions hold.
    fn applies(&self, pair: &Pair<'_>) -> bool {
        let different = pair.client.netns == 0 || pair.client.netns != pair.server.netns;
        self.client.holds(&pair.client)
            && self.server.holds(&pair.server)
            && (self.either.holds(&pair.client) || self.either.holds(&pair.server))
            && self.across.is_none_or(|across| across == different)
    }
}

impl Side {
    fn holds(&self, party: &Party<'_>) -> bool {
        fn any<T>(list: &[T], holds: impl Fn(&T) -> bool) -> bool {
            list.is_empty() || list.iter().any(holds)
        }
        any(&self.networks, |n| n.contains(party.address))
            && any(&self.ports, |p| p.contains(&u32::from(party.address.port)))
            && any(&self.uids, |u| u.contains(&party.uid))
            && any(&self.programs, |p| p == party.program)
            && any(&self.namespaces, |n| *n == party.netns)
    }
}

impl Network {
    fn contains(self, address: Addr) -> bool {
        let host_bits = 128 - self.bits;
        let network = |a: u128| a.checked_shr(host_bits).unwrap_or(0);
        network(self.address) == network(u128::from_be_bytes(address.ip))
    }
}

impl FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Network, ()> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let (address, width) = match address.parse::<IpAddr>().map_err(drop)? {
            IpAddr::V4(v4) => (v4.to_ipv6_mapped(), 32),
            IpAddr::V6(v6) => (v6, 128),
        };
        let bits = match bits {
            Some(bits) => bits.parse::<u32>().ok().filter(|b| *b <= width).ok_or(())?,
            None => width,
        };
        Ok(Network { address: address.to_bits(), bits: bits + 128 - width })
    }
}

fn range(text: &str, limit: u32) -> Option<RangeInclusive<u32>> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
    (from <= to && to <= limit).then_some(from..=to)
}
