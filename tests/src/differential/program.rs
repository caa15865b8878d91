//! A program: the actions of the two ends of the streams, one step per line. It can be printed, read again, and run by
//! hand.

use std::fmt;
use std::str::FromStr;

/// An end of the streams.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum End {
    /// Descriptors 0 to 15.
    A,
    /// Descriptors 16 to 31.
    B,
}

impl End {
    /// Both ends.
    pub const BOTH: [End; 2] = [End::A, End::B];

    /// The other end.
    pub fn peer(self) -> End {
        match self {
            End::A => End::B,
            End::B => End::A,
        }
    }

    /// The end's name for the descriptor of a stream.
    pub fn slot(self, stream: usize) -> usize {
        stream + if self == End::B { 16 } else { 0 }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == End::A { "a" } else { "b" })
    }
}

/// One step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// A stream is opened; `by` connects.
    Open {
        /// Which stream.
        stream: usize,
        /// The end that connects.
        by: End,
    },
    /// Both ends talk until the stream is final, or stays.
    Warm(usize),
    /// Waits until ipcd has answered both ends of the stream.
    Settle(usize),
    /// ipcd is stopped: it neither answers nor ends.
    Stop,
    /// ipcd goes on.
    Resume,
    /// One end takes everything that the other has sent.
    Take {
        /// The end that takes.
        end: End,
        /// Its thread.
        thread: usize,
        /// The stream.
        stream: usize,
    },
    /// One end sends more than fits, while the other reads as much.
    Bulk {
        /// The end that sends.
        end: End,
        /// Its thread.
        thread: usize,
        /// How.
        how: String,
        /// The stream.
        stream: usize,
        /// How many bytes.
        bytes: usize,
    },
    /// A call, in the words of the interpreter; with a `!` before it, a call that does not go on for ever.
    Call {
        /// The end that makes it.
        end: End,
        /// Its thread.
        thread: usize,
        /// The call and its arguments.
        call: String,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Open { stream, by } => write!(f, "open {stream} {by}"),
            Step::Warm(stream) => write!(f, "warm {stream}"),
            Step::Settle(stream) => write!(f, "settle {stream}"),
            Step::Stop => f.write_str("stop"),
            Step::Resume => f.write_str("resume"),
            Step::Take { end, thread, stream } => write!(f, "{end}{thread} takeall {stream}"),
            Step::Bulk { end, thread, how, stream, bytes } => write!(f, "{end}{thread} bulk {how} {stream} {bytes}"),
            Step::Call { end, thread, call } => write!(f, "{end}{thread} {call}"),
        }
    }
}

impl Step {
    /// The words of a call; nothing for other steps.
    pub fn words(&self) -> Vec<&str> {
        match self {
            Step::Call { call, .. } => call.split(' ').collect(),
            _ => Vec::new(),
        }
    }
}

/// The name of a call, without the marks for "past the C library" and "ended by its timeout".
pub fn verb(call: &str) -> &str {
    let word = call.split(' ').next().unwrap_or_default().trim_start_matches('!');
    word.strip_prefix("raw").unwrap_or(word)
}

/// The actions of both ends, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    /// Threads that make calls at each end; 0: each process has one thread.
    pub threads: usize,
    /// Both ends are one process.
    pub one_process: bool,
    /// The streams are IPv6.
    pub v6: bool,
    /// The streams are not polled when they are opened: only their later calls show how the ends wait.
    pub unseen: bool,
    /// The steps.
    pub steps: Vec<Step>,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "threads {} {} {}", self.threads, u8::from(self.one_process), if self.v6 { 6 } else { 4 })?;
        f.write_str(if self.unseen { " unseen" } else { "" })?;
        self.steps.iter().try_for_each(|step| write!(f, "; {step}"))
    }
}

fn number<'a>(words: &mut impl Iterator<Item = &'a str>) -> Result<usize, String> {
    words.next().and_then(|word| word.parse().ok()).ok_or_else(|| "a number is missing".to_owned())
}

fn end(word: Option<&str>) -> Result<End, String> {
    match word {
        Some("a") => Ok(End::A),
        Some("b") => Ok(End::B),
        _ => Err(format!("{word:?} is no end")),
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Step, String> {
        let mut words = text.split_whitespace();
        let first = words.next().ok_or("an empty step")?;
        match first {
            "open" => Ok(Step::Open { stream: number(&mut words)?, by: end(words.next())? }),
            "warm" => Ok(Step::Warm(number(&mut words)?)),
            "settle" => Ok(Step::Settle(number(&mut words)?)),
            "stop" => Ok(Step::Stop),
            "resume" => Ok(Step::Resume),
            _ => {
                let (name, thread) = first.split_at_checked(1).ok_or("no end")?;
                let thread = thread.parse().map_err(|e| format!("{first}: {e}"))?;
                let (end, mut rest) = (end(Some(name))?, words.clone().skip(1));
                match words.clone().next() {
                    Some("takeall") => Ok(Step::Take { end, thread, stream: number(&mut rest)? }),
                    Some("bulk") => {
                        let how = rest.next().ok_or("no way to send")?.to_owned();
                        Ok(Step::Bulk { end, thread, how, stream: number(&mut rest)?, bytes: number(&mut rest)? })
                    }
                    _ => Ok(Step::Call { end, thread, call: words.collect::<Vec<_>>().join(" ") }),
                }
            }
        }
    }
}

impl FromStr for Program {
    type Err = String;

    /// Steps are separated by `;` or by the end of the line; the first is `threads N ONE-PROCESS FAMILY [unseen]`.
    fn from_str(text: &str) -> Result<Program, String> {
        let mut steps = text.split([';', '\n']).map(str::trim).filter(|step| !step.is_empty());
        let head = steps.next().and_then(|head| head.strip_prefix("threads ")).ok_or("no `threads` at first")?;
        let mut words = head.split(' ');
        let (threads, one_process, family) = (number(&mut words)?, number(&mut words)? != 0, number(&mut words)?);
        let unseen = words.next() == Some("unseen");
        let steps = steps.map(str::parse).collect::<Result<_, _>>()?;
        Ok(Program { threads, one_process, v6: family == 6, unseen, steps })
    }
}

/// Whether a step is one of these calls, by this end.
pub fn is_one_of(step: &Step, end: End, calls: &[&str]) -> bool {
    let call = match step {
        Step::Call { end: e, call, .. } if *e == end => verb(call),
        Step::Bulk { end: e, .. } if *e == end => "bulk",
        _ => return false,
    };
    calls.contains(&call)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_was_printed_can_be_read() {
        let text = "threads 2 1 6 unseen; open 0 b; warm 0; settle 0; stop; a1 send writev 0 100 0; resume; b2 takeall 0; b0 bulk send 1 5000";
        assert_eq!(text.parse::<Program>().expect("a program").to_string(), text);
        assert!("threads 2 1 6; c1 close 0".parse::<Program>().is_err());
    }
}
