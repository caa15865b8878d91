//! Why an endpoint stays on TCP. The command line prints exactly these words and sentences.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal, $word:literal;)+) => {
        /// Why an endpoint stays on TCP for ever.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum Reason { $($(#[doc = $doc])+ $name = $code,)+ }

        impl Reason {
            /// Every reason, in the order of its code.
            pub const ALL: &'static [Reason] = &[$(Reason::$name),+];

            /// The reason with this code, if there is one.
            pub fn from_code(code: u8) -> Option<Reason> {
                match code { $($code => Some(Reason::$name),)+ _ => None }
            }

            /// The name that `ipcd ls` shows and `--json` carries; stable.
            pub fn word(self) -> &'static str {
                match self { $(Reason::$name => $word,)+ }
            }

            /// One sentence for a person.
            pub fn explain(self) -> &'static str {
                match self { $(Reason::$name => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

reasons! {
    // Seen by the shim.
    /// No ipcd that this process may trust answered at its socket.
    NoDaemon = 1, "no-daemon";
    /// The process tracks as many endpoints as its table holds.
    TableFull = 2, "table-full";
    /// There is no descriptor number left for the new transport.
    NoDescriptors = 3, "no-descriptors";
    /// Bytes moved that libipc did not see (io_uring, raw system calls, stdio, another process).
    UnseenIo = 4, "unseen-io";
    /// A signal handler used the endpoint in the middle of a call on it.
    Reentered = 5, "re-entered";
    /// The program sent or asked for urgent data.
    Urgent = 6, "urgent-data";
    /// A socket option was set that only TCP has (zero copy, kernel TLS, filters, timestamping, repair).
    Option = 7, "socket-option";
    /// The program passed the descriptor to another process over a Unix socket.
    Passed = 8, "descriptor-passed";
    /// Neither direction's first bytes could be hashed (sent before ipcd named N, or by sendfile or splice).
    PrefixMissed = 9, "prefix-missed";
    /// The new transport ended before the peer switched: the peer process declined it or died.
    PeerDeclined = 10, "peer-declined";
    /// The program executed another program while it held the endpoint.
    Executed = 11, "executed";
    /// The program waits for the endpoint in a way that libipc cannot see or cannot extend.
    UnseenWait = 12, "unseen-wait";
    /// The kernel refused something that the switch needs.
    Kernel = 13, "kernel-refused";
    /// The program shut the reading half before the switch.
    Shut = 14, "shut";
    /// The connection was over before the switch.
    Closed = 15, "closed";
    /// The C library's streams (stdin, stdout, fdopen) may read and write the descriptor where libipc does not see it.
    Stdio = 16, "stdio";
    /// The program has forbidden itself system calls (seccomp) while the stream was between the transports.
    Confined = 17, "confined";
    /// The program wrote many small pieces in one direction, which TCP gathers (`ipcd serve --small-writes`).
    SmallWrites = 18, "small-writes";
    /// The program has asked for signals when the descriptor is ready (O_ASYNC), which only one socket can send.
    SignalDriven = 19, "signal-driven";

    // Decided by ipcd.
    /// No endpoint of this host reported the mirrored four-tuple in time: the peer is remote or has no libipc.
    NoPeer = 64, "no-peer";
    /// More than one endpoint could be the peer, and nothing that may be trusted tells them apart.
    Ambiguous = 65, "ambiguous";
    /// The only endpoint with the mirrored four-tuple carried different bytes.
    HashDiffers = 66, "hash-differs";
    /// One end has received more than the other has written.
    CountersDiffer = 67, "counters-differ";
    /// The socket that was passed is not the one that the message described.
    Unverified = 68, "unverified";
    /// ipcd holds as many endpoints of this process as its limits allow.
    Limit = 69, "limit";
    /// ipcd's policy keeps this pair on TCP (--allow, --deny, --policy).
    Policy = 70, "policy";
    /// Two users' programs pair across network namespaces only if ipcd has --everybody or --proof.
    OtherUser = 71, "other-user";
    /// An endpoint with other addresses carried the same bytes; `ipcd serve --proof` can tell whether it is the peer.
    Translated = 72, "translated";
    /// An endpoint has the peer's sequence numbers, but the network does not carry the flow hashes that would prove it.
    Unproven = 73, "unproven";
    /// The two ends know no transport in common: one of them has another version of libipc.
    NoTransport = 74, "no-transport";
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn codes_and_words_are_unique_and_round_trip() {
        for (i, a) in Reason::ALL.iter().enumerate() {
            assert_eq!(Reason::from_code(*a as u8), Some(*a));
            assert!(!a.explain().is_empty() && !a.explain().starts_with(' '));
            for b in &Reason::ALL[i + 1..] {
                assert_ne!(a.word(), b.word());
            }
        }
        assert_eq!(Reason::from_code(0), None);
    }
}
