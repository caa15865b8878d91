//! How the tests name and start programs.

use std::path::Path;

use tests::{Mode, Program, artifacts, case, run};

/// An installed program with these arguments.
pub(crate) fn tool(name: &str, args: &[&str]) -> Program {
    Program::new(artifacts::installed(name), args)
}

/// A shell script; `$1` … are the arguments.
pub(crate) fn shell(script: &str, args: &[&str]) -> Program {
    let args: Vec<&str> = ["-c", script, "sh"].iter().chain(args).copied().collect();
    Program::new("/bin/sh", &args)
}

/// A number, or ten times as much with IPC_LONG in the environment.
pub(crate) fn load(count: usize) -> usize {
    if std::env::var_os("IPC_LONG").is_some() { 10 * count } else { count }
}

/// The path of a program's source beside this file.
pub(crate) fn script(name: &str) -> String {
    format!("{}/tests/applications/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// One of the Python programs beside this file.
pub(crate) fn python(name: &str, args: &[&str]) -> Program {
    let script = script(name);
    let args: Vec<&str> = [script.as_str()].iter().chain(args).copied().collect();
    // Debian's own Python: the installed modules are for it.
    Program::new("/usr/bin/python3", &args)
}

pub(crate) fn is_root() -> bool {
    // SAFETY: a call without arguments that returns a number.
    unsafe { libc::geteuid() == 0 }
}

/// A program (with its arguments) as this user, if the tests run as root: some servers refuse to run as root.
pub(crate) fn as_user(user: &str, command: &[&str]) -> Program {
    if is_root() {
        let become_user = ["--reuid", user, "--regid", user, "--clear-groups"];
        return tool("setpriv", &become_user.iter().chain(command).copied().collect::<Vec<_>>());
    }
    let [program, args @ ..] = command else { panic!("no program") };
    tool(program, args)
}

/// Gives a directory to this user, if the tests run as root.
pub(crate) fn chown(path: &Path, user: &str) {
    if is_root() {
        let program = tool("chown", &[user, &path.display().to_string()]);
        case::assert_passed(&run(&program, Mode::Native, |_| Ok(())), &program, Mode::Native);
    }
}
