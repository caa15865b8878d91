//! Reads the rules that say which pairs may leave TCP: from the command line, and from a file in TOML.
//!
//! ```toml
//! [[deny]]
//! server.port = [5432, "6000-6999"]
//!
//! [[allow]]
//! client.address = "172.18.0.0/16"
//! either.program = "redis-server"
//! ```

use std::os::fd::AsFd;
use std::path::Path;

use matcher::policy::{Policy, Rule};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use toml::{Table, Value};

use crate::kernel;

/// The rules of the command line, and those of a file beside them.
pub fn read(allow: &[String], deny: &[String], file: Option<&Path>, trust_users: bool) -> Result<Policy, String> {
    let own = own_namespace();
    let rules = |flag: &str, texts: &[String]| -> Result<Vec<Rule>, String> {
        texts.iter().map(|t| Rule::parse(t, own).map_err(|e| format!("--{flag} {t}: {e}"))).collect()
    };
    let mut policy = Policy { deny: rules("deny", deny)?, allow: rules("allow", allow)?, trust_users };
    if let Some(path) = file {
        let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        add(&mut policy, &text, own).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(policy)
}

fn add(policy: &mut Policy, text: &str, own: u64) -> Result<(), String> {
    for (name, rules) in text.parse::<Table>().map_err(|e| e.to_string())? {
        let into = match name.as_str() {
            "allow" => &mut policy.allow,
            "deny" => &mut policy.deny,
            _ => return Err(format!("there is no {name:?} here, only [[allow]] and [[deny]]")),
        };
        let Value::Array(rules) = rules else { return Err(format!("write [[{name}]], not [{name}]")) };
        for rule in rules {
            let Value::Table(conditions) = rule else { return Err(format!("{name}: {rule} is no rule")) };
            into.push(read_rule(&conditions, own)?);
        }
    }
    Ok(())
}

fn read_rule(conditions: &Table, own: u64) -> Result<Rule, String> {
    let mut rule = Rule::default();
    for (key, value) in conditions {
        match value {
            Value::Table(side) => {
                for (what, value) in side {
                    add_values(&mut rule, &format!("{key}.{what}"), value, own)?;
                }
            }
            value => add_values(&mut rule, key, value, own)?,
        }
    }
    Ok(rule)
}

fn add_values(rule: &mut Rule, key: &str, value: &Value, own: u64) -> Result<(), String> {
    let mut add = |text: &str| rule.add(key, text, own).map_err(|e| e.to_string());
    match value {
        Value::String(text) => add(text),
        Value::Integer(number) => add(&number.to_string()),
        // A condition without a value would hold for everything.
        Value::Array(values) if !values.is_empty() => values.iter().try_for_each(|v| add_values(rule, key, v, own)),
        other => Err(format!("{key} cannot be {other}")),
    }
}

/// The cookie of the network namespace that ipcd is in, which rules call `own`.
fn own_namespace() -> u64 {
    let Ok(socket) = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None) else { return 0 };
    kernel::u64_option(socket.as_fd(), libc::SOL_SOCKET, kernel::SO_NETNS_COOKIE).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Policy, String> {
        let mut policy = Policy::default();
        add(&mut policy, text, 7).map(|()| policy)
    }

    #[test]
    fn a_file_says_what_the_command_line_says() {
        let file = "
            [[deny]]
            server.port = [5432, \"6000-6999\"]
            namespaces = \"different\"
            [[deny]]
            either = { uid = 0, namespace = \"own\" }
            [[allow]]
            client.address = \"172.18.0.0/16\"
            [[allow]]
        ";
        let rule = |text| Rule::parse(text, 7).unwrap();
        let deny = vec![
            rule("server.port=5432,server.port=6000-6999,namespaces=different"),
            rule("either.uid=0,either.namespace=own"),
        ];
        let allow = vec![rule("client.address=172.18.0.0/16"), rule("")];
        assert_eq!(parse(file), Ok(Policy { deny, allow, trust_users: false }));
        assert_eq!(parse(""), Ok(Policy::default()));
    }

    #[test]
    fn mistakes_in_a_file_are_named() {
        for (text, word) in [
            ("[[refuse]]", "refuse"),
            ("[deny]\nserver.port = 1", "[[deny]]"),
            ("deny = [1]", "no rule"),
            ("[[deny]]\nserver.prt = 1", "server.prt"),
            ("[[deny]]\nport = 1", "port"),
            ("[[deny]]\nserver.port = []", "server.port"),
            ("[[deny]]\nserver.port = true", "server.port"),
            ("[[deny]]\nserver.port = 70000", "70000"),
            ("[[deny]\n", "deny"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
