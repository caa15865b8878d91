//! `ipcd ls`.

use std::collections::BTreeSet;

use comfy_table::{ContentArrangement, Table, presets};
use matcher::reason::Reason;
use matcher::wire::Query;

use super::SocketArg;
use crate::view::rows::{End, Row};

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    socket: SocketArg,
    /// Also show the last streams that ended.
    #[arg(long)]
    all: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Say what every state and reason means, and ask no daemon.
    #[arg(long)]
    explain: bool,
}

const STATES: &[(&str, &str)] = &[
    ("opened", "reported, its first bytes are not known yet"),
    ("waiting", "its first bytes are known, its peer is not"),
    ("granted", "paired, both ends were sent the new transport"),
    ("dual", "both ends watch both transports"),
    ("final", "both directions left TCP: the descriptor is a Unix-domain socket"),
    ("stay", "stays on TCP for ever, for the reason that is shown"),
    ("closed", "ended before anything was decided"),
];

pub fn main(args: &Args) -> Result<(), String> {
    if args.explain {
        return super::print(&explain());
    }
    let answer = super::ask(&args.socket.path(), Query::List)?;
    let mut rows: Vec<Row> = serde_json::from_slice(&answer).map_err(|e| format!("cannot read the answer: {e}"))?;
    rows.retain(|row| args.all || !row.ended);
    if args.json {
        let json = serde_json::to_string_pretty(&rows).map_err(|e| e.to_string())?;
        return super::print(&(json + "\n"));
    }
    super::print(&table(&rows))
}

fn explain() -> String {
    let mut text = String::from("States:\n");
    for (word, meaning) in STATES {
        text += &format!("  {word:<18}{meaning}\n");
    }
    text += "\nReasons:\n";
    for reason in Reason::ALL {
        text += &format!("  {:<18}{}\n", reason.word(), reason.explain());
    }
    text
}

fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no streams\n".into();
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["CLIENT", "SERVER", "PROGRAMS", "STATE", "REASON", "SWITCHED AT", "TO FINAL", "AGE"]);
    for row in rows {
        table.add_row([
            row.client.clone(),
            row.server.clone(),
            programs(row),
            if row.ended && row.state != "closed" { format!("{}, ended", row.state) } else { row.state.clone() },
            row.reason.clone().unwrap_or_default(),
            offsets(row),
            row.connect_to_final_us.map_or(String::new(), duration),
            duration(row.age_s * 1e6),
        ]);
    }
    let mut text = table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n") + "\n";
    let words: BTreeSet<&str> = rows.iter().filter_map(|r| r.reason.as_deref()).collect();
    for reason in Reason::ALL.iter().filter(|r| words.contains(r.word())) {
        text += &format!("\n{}: {}", reason.word(), reason.explain());
    }
    if !words.is_empty() {
        text += "\n";
    }
    text
}

fn programs(row: &Row) -> String {
    let end = |role: &str| {
        let end: Option<&End> = row.ends.iter().find(|e| e.role == role);
        end.map_or("?".into(), |e| format!("{}[{}]", e.program, e.pid))
    };
    format!("{} → {}", end("connected"), end("accepted"))
}

fn offsets(row: &Row) -> String {
    match (row.client_to_server_switched_at, row.server_to_client_switched_at) {
        (None, None) => String::new(),
        (up, down) => {
            let show = |o: Option<u64>| o.map_or("-".into(), |o| o.to_string());
            format!("{} / {}", show(up), show(down))
        }
    }
}

fn duration(us: f64) -> String {
    match us {
        us if us < 1e3 => format!("{us:.0} µs"),
        us if us < 1e6 => format!("{:.1} ms", us / 1e3),
        us if us < 120e6 => format!("{:.1} s", us / 1e6),
        us if us < 7200e6 => format!("{:.0} min", us / 60e6),
        us => format!("{:.0} h", us / 3600e6),
    }
}
