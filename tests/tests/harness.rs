//! Tests of the harness itself, natively.

use std::process::Command;
use std::time::Duration;

use tests::case::{assert_passed, assert_same};
use tests::{Mode, Program, artifacts, needs, run};

#[test]
fn a_program_that_hangs_is_described_and_ended() {
    let program = Program::new("/bin/sh", &["-c", "sleep 1000 & sleep 1000"]).limit(Duration::from_millis(300));
    let outcome = run(&program, Mode::Native, |_| Ok(()));
    assert!(!outcome.passed());
    assert!(outcome.hang.contains("not finished after"), "{}", outcome.hang);
    assert!(outcome.hang.contains("sleep 1000"), "{}", outcome.hang);
}

#[test]
fn an_answer_that_is_an_error_ends_the_program() {
    let program = Program::new(artifacts::VICTIM, &["fionread"]);
    let outcome = run(&program, Mode::Native, |_| Err("no".into()));
    assert!(!outcome.passed() && outcome.hang.starts_with("no\n"));
}

/// The output of a victim may depend on nothing but the kernel: two native runs must agree.
#[test]
fn victims_print_the_same_twice() {
    let usage = Command::new(artifacts::VICTIM).output().expect("the victim");
    let usage = String::from_utf8(usage.stdout).expect("text");
    let names: Vec<&str> =
        usage.lines().filter(|l| l.starts_with("  ")).filter_map(|l| l.split_whitespace().next()).collect();
    assert!(names.len() > 60, "{usage}");
    let names: Vec<&str> = names.into_iter().filter(|name| can_run(name)).collect();
    // They mostly wait, so several run at once.
    std::thread::scope(|scope| {
        for share in names.chunks(names.len().div_ceil(5)) {
            scope.spawn(move || share.iter().for_each(|name| twice(name)));
        }
    });
}

/// Whether this machine can run the case; the test of the case itself reports that it is skipped.
fn can_run(name: &str) -> bool {
    match name {
        "less-privilege" => needs::another_root_and_user(),
        "many" => needs::descriptors(20_000),
        "high-numbers" => needs::descriptors(4096),
        _ => !name.starts_with("uring-") || needs::no_io_uring().is_none(),
    }
}

fn twice(name: &str) {
    let layouts = [(artifacts::VICTIM, [].as_slice()), (artifacts::VICTIM_FORTIFIED, &["--cold", "--near-accepts"])];
    for (path, layout) in layouts {
        let own: &[&str] = if name == "spawned" { &[artifacts::STATIC_HOLD] } else { &[] };
        let args: Vec<&str> = [name].iter().chain(layout).chain(own).copied().collect();
        let program = Program::new(path, &args);
        let first = run(&program, Mode::Native, |_| Ok(()));
        assert_passed(&first, &program, Mode::Native);
        let second = run(&program, Mode::Native, |_| Ok(()));
        assert_passed(&second, &program, Mode::Native);
        assert_same(&first, &second, &program, Mode::Native);
    }
}
