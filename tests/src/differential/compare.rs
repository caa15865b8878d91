//! Which results count as the same.

use super::program::{End, Program, is_one_of};
use super::result::{BLOCKED, LATE, number};
use super::rules::{Case, RULES};

/// How a result compares with the native one.
pub enum Judgement {
    /// The same.
    Same,
    /// The same in the end, with a named difference on the way.
    Named(&'static str),
    /// It may still become the same, because bytes and ends take time; the call to make for that.
    Again(String),
    /// Different.
    Other,
}

/// Polls that give the native result when they are repeated.
const LET_GO: &str = "an end that a program without the shim leaves waits for ipcd";
/// Reads that are complete in two parts.
const IN_PARTS: &str = "a read ends where the stream moves";

/// Joins two results of one call: bytes that came in parts, events that were reported one after the other.
pub fn join(call: &str, so_far: &str, next: &str) -> String {
    match (call.split(' ').next(), number(so_far), number(next)) {
        (Some("recv"), Some(a), Some(b)) if a > 0 && b > 0 && !next.contains("WRONG") => {
            let (head, tail) = next.split_once("= ").unwrap_or_default();
            let rest = tail.split_once(' ').map_or(String::new(), |(_, rest)| format!(" {rest}"));
            format!("{head}= {}{rest}", a + b)
        }
        (Some("recv"), Some(a), _) if a > 0 => so_far.to_owned(),
        (Some("drain"), ..) => {
            let total = |text: &str| text.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or_default();
            let then = next.split_once(' ').map_or("", |(_, then)| then);
            format!("{} {then}", total(so_far) + total(next))
        }
        _ => next.to_owned(),
    }
}

/// Judges the result of a call so far, of which the last part is `last`; `again`: the call was repeated.
pub fn judge(case: &Case, last: &str, again: bool) -> Judgement {
    if case.native == case.shim {
        return match case.shim == last {
            _ if again && case.looks() => Judgement::Named(LET_GO),
            true => Judgement::Same,
            false => Judgement::Named(IN_PARTS),
        };
    }
    let after = |result: &str, word: &str| result.split_once(word).map(|(_, rest)| rest.to_owned());
    if case.how("recvmmsg")
        && number(case.native) > Some(0)
        && number(case.native) == number(case.shim)
        && after(case.native, "left") == after(case.shim, "left")
    {
        return Judgement::Named(IN_PARTS);
    }
    case.again().map_or(Judgement::Other, Judgement::Again)
}

/// The name of a difference after which nothing can be compared.
pub fn name(case: &Case) -> Option<&'static str> {
    RULES.iter().find(|rule| (rule.holds)(case)).map(|rule| rule.name)
}

/// The same for a step of several calls.
pub fn name_of_composed(program: &Program, at: usize, native: &str, shim: &str) -> Option<&'static str> {
    let unread = |result: &str| result.strip_suffix(" and not all").map(str::to_owned);
    let full = unread(shim).is_some_and(|sent| sent == BLOCKED) && unread(native).is_some();
    if full || shim.strip_prefix(LATE) == Some(native) {
        return Some("how much fits");
    }
    let closed = End::BOTH.iter().any(|end| program.steps[..=at].iter().any(|step| is_one_of(step, *end, &["close"])));
    (closed && !shim.contains(BLOCKED) && !native.contains(BLOCKED))
        .then_some("what is written after an end has closed")
}

impl Case<'_> {
    /// The call that completes a result which may only be early.
    fn again(&self) -> Option<String> {
        match self.words[0] {
            "drain" => Some(self.words.join(" ")),
            // The last holder of the connection was another program, which has ended, or ipcd, which is closing it now.
            "poll" | "select" if self.words[1] == "0" && self.before(self.end.peer(), &["release"]) => {
                Some(self.words.join(" "))
            }
            "recv" if !self.peeks() => {
                let (wanted, has) = (number(self.native)?, number(self.shim)?);
                let [_, how, slot, _, flags, ..] = self.words[..] else { return None };
                (has > 0 && has < wanted).then(|| format!("recv {how} {slot} {} {flags}", wanted - has))
            }
            _ => None,
        }
    }
}
