//! THE table of socket options: what each does before the move, and which socket answers for it after. `docs/options.md`
//! is this table in words; a test below compares the two, and `tests/tests/options.rs` asks the kernel.

use libc::c_int;

/// Whether a connection on which the option is set can move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Before {
    /// It moves: the option acts on nothing that the program could miss, or acts again after the move.
    Moves,
    /// It stays on TCP, unless the value is the one that every socket has anyway.
    Stays(Usual),
}

/// The value that leaves everything as it is, as getsockopt gives it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Usual {
    /// An int, or a struct whose first and last int are this.
    Int(c_int),
    /// All bits set.
    Unlimited,
    /// No filter is attached.
    NoFilter,
    /// No name: an empty string.
    NoName,
    /// The kernel does not tell the value; the shim sees only the call that sets it.
    Untold,
}

/// Which socket has the option after the move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum After {
    /// The TCP socket alone, which answers.
    Tcp,
    /// Both sockets are set, TCP answers.
    Both,
    /// The new socket gets at least as much, TCP answers.
    Room,
    /// The new socket, which answers.
    New,
    /// Setting it is refused with this error; the TCP socket answers.
    Refused(c_int),
}

/// One option.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub level: c_int,
    pub number: c_int,
    pub before: Before,
    pub after: After,
    /// As the kernel's headers call it.
    #[cfg(test)]
    pub name: &'static str,
}

/// What is done with an option that has no row, because the kernel is younger than this table.
pub(super) const UNKNOWN: (Before, After) = (Before::Stays(Usual::Untold), After::Tcp);

const TCP: (Before, After) = (Before::Moves, After::Tcp);
const BOTH: (Before, After) = (Before::Moves, After::Both);
const ROOM: (Before, After) = (Before::Moves, After::Room);
const ONLY_TCP: (Before, After) = stays(Usual::Int(0));
/// Ancillary data that the shim makes after the move, not at the moment that the bytes came.
const TIMES: (Before, After) = (Before::Stays(Usual::Int(0)), After::Tcp);
/// Signatures of segments: the shim sees only the calls that set them.
const SIGNS: (Before, After) = (Before::Stays(Usual::Untold), After::Tcp);

const fn stays(usual: Usual) -> (Before, After) {
    (Before::Stays(usual), After::Refused(libc::EOPNOTSUPP))
}

macro_rules! rows {
    ($table:ident, $level:expr; $($number:literal $name:ident $class:expr;)+) => {
        pub(super) static $table: &[Row] = &[$(Row {
            level: $level,
            number: $number,
            before: { const CLASS: (Before, After) = $class; CLASS.0 },
            after: { const CLASS: (Before, After) = $class; CLASS.1 },
            #[cfg(test)]
            name: stringify!($name),
        },)+];
    };
}

rows! { SOCKET, libc::SOL_SOCKET;
    1 SO_DEBUG TCP;
    2 SO_REUSEADDR TCP;
    3 SO_TYPE TCP;
    4 SO_ERROR TCP;
    5 SO_DONTROUTE TCP;
    6 SO_BROADCAST TCP;
    7 SO_SNDBUF ROOM;
    8 SO_RCVBUF TCP;
    9 SO_KEEPALIVE TCP;
    10 SO_OOBINLINE BOTH;
    11 SO_NO_CHECK TCP;
    12 SO_PRIORITY TCP;
    13 SO_LINGER TCP;
    14 SO_BSDCOMPAT TCP;
    15 SO_REUSEPORT TCP;
    16 SO_PASSCRED TCP;
    17 SO_PEERCRED TCP;
    18 SO_RCVLOWAT (Before::Stays(Usual::Int(1)), After::Both);
    19 SO_SNDLOWAT TCP;
    20 SO_RCVTIMEO BOTH;
    21 SO_SNDTIMEO BOTH;
    25 SO_BINDTODEVICE TCP;
    26 SO_ATTACH_FILTER stays(Usual::NoFilter);
    27 SO_DETACH_FILTER TCP;
    28 SO_PEERNAME TCP;
    29 SO_TIMESTAMP TIMES;
    30 SO_ACCEPTCONN TCP;
    31 SO_PEERSEC TCP;
    32 SO_SNDBUFFORCE ROOM;
    33 SO_RCVBUFFORCE TCP;
    34 SO_PASSSEC TCP;
    35 SO_TIMESTAMPNS TIMES;
    36 SO_MARK TCP;
    37 SO_TIMESTAMPING ONLY_TCP;
    38 SO_PROTOCOL TCP;
    39 SO_DOMAIN TCP;
    40 SO_RXQ_OVFL TCP;
    41 SO_WIFI_STATUS TCP;
    42 SO_PEEK_OFF (Before::Stays(Usual::Int(-1)), After::New);
    43 SO_NOFCS TCP;
    44 SO_LOCK_FILTER TCP;
    45 SO_SELECT_ERR_QUEUE TCP;
    46 SO_BUSY_POLL TCP;
    47 SO_MAX_PACING_RATE stays(Usual::Unlimited);
    48 SO_BPF_EXTENSIONS TCP;
    49 SO_INCOMING_CPU TCP;
    50 SO_ATTACH_BPF stays(Usual::NoFilter);
    51 SO_ATTACH_REUSEPORT_CBPF TCP;
    52 SO_ATTACH_REUSEPORT_EBPF TCP;
    53 SO_CNX_ADVICE TCP;
    55 SO_MEMINFO TCP;
    56 SO_INCOMING_NAPI_ID TCP;
    57 SO_COOKIE TCP;
    59 SO_PEERGROUPS TCP;
    60 SO_ZEROCOPY ONLY_TCP;
    61 SO_TXTIME TCP;
    62 SO_BINDTOIFINDEX TCP;
    63 SO_TIMESTAMP_NEW TIMES;
    64 SO_TIMESTAMPNS_NEW TIMES;
    65 SO_TIMESTAMPING_NEW ONLY_TCP;
    66 SO_RCVTIMEO_NEW BOTH;
    67 SO_SNDTIMEO_NEW BOTH;
    68 SO_DETACH_REUSEPORT_BPF TCP;
    69 SO_PREFER_BUSY_POLL TCP;
    70 SO_BUSY_POLL_BUDGET TCP;
    71 SO_NETNS_COOKIE TCP;
    72 SO_BUF_LOCK TCP;
    73 SO_RESERVE_MEM TCP;
    74 SO_TXREHASH TCP;
    75 SO_RCVMARK TCP;
    76 SO_PASSPIDFD TCP;
    77 SO_PEERPIDFD TCP;
    78 SO_DEVMEM_LINEAR TCP;
    79 SO_DEVMEM_DMABUF TCP;
    80 SO_DEVMEM_DONTNEED TCP;
    82 SO_RCVPRIORITY TCP;
    83 SO_PASSRIGHTS TCP;
    84 SO_INQ TCP;
}

rows! { TRANSPORT, libc::IPPROTO_TCP;
    1 TCP_NODELAY TCP;
    2 TCP_MAXSEG TCP;
    3 TCP_CORK TCP;
    4 TCP_KEEPIDLE TCP;
    5 TCP_KEEPINTVL TCP;
    6 TCP_KEEPCNT TCP;
    7 TCP_SYNCNT TCP;
    8 TCP_LINGER2 TCP;
    9 TCP_DEFER_ACCEPT TCP;
    10 TCP_WINDOW_CLAMP TCP;
    11 TCP_INFO TCP;
    12 TCP_QUICKACK TCP;
    13 TCP_CONGESTION TCP;
    14 TCP_MD5SIG SIGNS;
    16 TCP_THIN_LINEAR_TIMEOUTS TCP;
    17 TCP_THIN_DUPACK TCP;
    18 TCP_USER_TIMEOUT TCP;
    19 TCP_REPAIR ONLY_TCP;
    20 TCP_REPAIR_QUEUE TCP;
    21 TCP_QUEUE_SEQ TCP;
    22 TCP_REPAIR_OPTIONS TCP;
    23 TCP_FASTOPEN TCP;
    24 TCP_TIMESTAMP TCP;
    25 TCP_NOTSENT_LOWAT TCP;
    26 TCP_CC_INFO TCP;
    27 TCP_SAVE_SYN TCP;
    28 TCP_SAVED_SYN TCP;
    29 TCP_REPAIR_WINDOW TCP;
    30 TCP_FASTOPEN_CONNECT TCP;
    31 TCP_ULP (Before::Stays(Usual::NoName), After::Refused(libc::ENOENT));
    32 TCP_MD5SIG_EXT SIGNS;
    33 TCP_FASTOPEN_KEY TCP;
    34 TCP_FASTOPEN_NO_COOKIE TCP;
    35 TCP_ZEROCOPY_RECEIVE TCP;
    36 TCP_INQ TCP;
    37 TCP_TX_DELAY ONLY_TCP;
    38 TCP_AO_ADD_KEY SIGNS;
    39 TCP_AO_DEL_KEY TCP;
    40 TCP_AO_INFO SIGNS;
    41 TCP_AO_GET_KEYS TCP;
    42 TCP_AO_REPAIR TCP;
    43 TCP_IS_MPTCP TCP;
    44 TCP_RTO_MAX_MS TCP;
    45 TCP_RTO_MIN_US TCP;
    46 TCP_DELACK_MAX_US TCP;
}

/// The row of an option, if it has one. Every option of IP and IPv6 acts on packets and on names, and is TCP's.
pub(super) fn row(level: c_int, number: c_int) -> Option<&'static Row> {
    let table = match level {
        libc::SOL_SOCKET => SOCKET,
        libc::IPPROTO_TCP => TRANSPORT,
        _ => return None,
    };
    table.iter().find(|row| row.number == number)
}

/// The rows of options that are not TCP's alone, but for those with [`After::Room`].
pub(super) fn special() -> impl Iterator<Item = &'static Row> {
    let all = SOCKET.iter().chain(TRANSPORT);
    all.filter(|row| row.before != Before::Moves || !matches!(row.after, After::Tcp | After::Room))
}

/// What is done with an option.
pub(crate) fn class(level: c_int, number: c_int) -> (Before, After) {
    match row(level, number) {
        Some(row) => (row.before, row.after),
        None if matches!(level, libc::IPPROTO_IP | libc::IPPROTO_IPV6) => TCP,
        None => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line of the tables in docs/options.md.
    fn line(row: &Row) -> String {
        let before = match row.before {
            Before::Moves => "moves",
            Before::Stays(_) => "stays",
        };
        let after = match row.after {
            After::Tcp => "TCP",
            After::Both => "both",
            After::Room => "room",
            After::New => "new",
            After::Refused(libc::ENOENT) => "ENOENT",
            After::Refused(_) => "EOPNOTSUPP",
        };
        format!("| {} | {} | {before} | {after} |", row.number, row.name)
    }

    #[test]
    fn the_documentation_says_what_the_table_says() {
        let text = include_str!("../../../../docs/options.md");
        let told = |row: &&Row| text.lines().any(|l| l.starts_with(&line(row)));
        let missing: Vec<_> = SOCKET.iter().chain(TRANSPORT).filter(|row| !told(row)).map(line).collect();
        assert!(missing.is_empty(), "docs/options.md lacks {missing:#?}");
        let rows = text.lines().filter(|l| l.starts_with("| ") && l.as_bytes().get(2).is_some_and(u8::is_ascii_digit));
        assert_eq!(rows.count(), SOCKET.len() + TRANSPORT.len(), "docs/options.md has rows that the table has not");
    }

    #[test]
    fn every_option_has_one_row() {
        for table in [SOCKET, TRANSPORT] {
            for pair in table.windows(2) {
                assert!(pair[0].number < pair[1].number, "{} after {}", pair[1].name, pair[0].name);
            }
        }
    }
}
