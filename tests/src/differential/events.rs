//! The readiness that a call has reported.

use std::collections::{BTreeMap, BTreeSet};

use super::result::BLOCKED;

/// The reported flags by name. A name is the place of an entry of poll or select, or the slot and turn of a
/// registration.
pub type Events = BTreeMap<String, BTreeSet<String>>;

/// The flags that report that something can be written.
const ROOM: &[&str] = &["OUT", "WRNORM", "WRBAND"];

/// The events in a result of such a call; empty if it blocks. `None` for other calls, and errors.
pub fn read(call: &str, result: &str) -> Option<Events> {
    if !matches!(call, "poll" | "select" | "epwait") {
        return None;
    }
    if result == BLOCKED {
        return Some(Events::new());
    }
    let mut words = result.strip_prefix("= ")?.split(' ');
    if words.next()?.starts_with('-') {
        return None;
    }
    let mut events = Events::new();
    for (place, word) in words.enumerate() {
        let (name, flags) = match call {
            "epwait" => word.split_once(':').map(|(name, flags)| (name.to_owned(), flags.to_owned()))?,
            "select" => (place.to_string(), sets(word.parse().ok()?)),
            _ => (place.to_string(), word.to_owned()),
        };
        let flags: BTreeSet<String> =
            flags.split('|').filter(|f| *f != "-" && !f.is_empty()).map(str::to_owned).collect();
        if !flags.is_empty() {
            // One registration may be reported by each of its two names.
            events.entry(name).or_default().extend(flags);
        }
    }
    Some(events)
}

/// The sets of select in the terms of poll.
fn sets(sets: u8) -> String {
    [(1, "IN"), (2, "OUT"), (4, "PRI")]
        .iter()
        .filter(|(bit, _)| sets & bit != 0)
        .map(|(_, name)| *name)
        .collect::<Vec<_>>()
        .join("|")
}

/// Whether everything in `part` is in `whole`.
pub fn hold(whole: &Events, part: &Events) -> bool {
    part.iter().all(|(name, flags)| whole.get(name).is_some_and(|all| all.is_superset(flags)))
}

/// Whether all of these flags report that something can be written.
pub fn is_room(flags: &str) -> bool {
    flags.split('|').all(|flag| ROOM.contains(&flag))
}

/// The events without the flags that report that something can be written.
pub fn without_room(events: &Events) -> Events {
    let kept = |flags: &BTreeSet<String>| flags.iter().filter(|f| !ROOM.contains(&f.as_str())).cloned().collect();
    let all = events.iter().map(|(name, flags)| (name.clone(), kept(flags)));
    all.filter(|(_, flags): &(String, BTreeSet<String>)| !flags.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_every_call_are_compared_by_name() {
        let read = |call, result| read(call, result).expect("events");
        assert_eq!(read("epwait", "= 2 0@5:IN|OUT 1@6:OUT"), read("epwait", "= 2 1@6:OUT 0@5:IN|OUT"));
        assert_eq!(without_room(&read("epwait", "= 2 0@5:IN|OUT 1@6:OUT")), read("epwait", "= 1 0@5:IN"));
        assert_eq!(without_room(&read("select", "= 2 2 3")), read("select", "= 1 0 1"));
        assert_eq!(without_room(&read("poll", "= 1 OUT -")), read("poll", BLOCKED));
        assert!(hold(&read("poll", "= 2 IN|OUT HUP"), &read("poll", "= 1 IN -")));
        assert!(!hold(&read("poll", "= 1 IN -"), &read("poll", "= 1 - IN")));
    }
}
