//! Suites that no package contains: Debian's sources, built with cmake below target/tmp, where the next run finds them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tests::run::Outcome;
use tests::skipped;
use tests::{Mode, Program, artifacts, run};

use super::compare::tail;

/// A source package, and the program that is built from it.
pub(crate) struct Sources {
    /// Debian's name of the package.
    pub package: &'static str,
    /// The program with the tests, as cmake names it.
    pub target: &'static str,
    /// Options for cmake.
    pub options: &'static [&'static str],
    /// Files that the build needs, and the packages that have them.
    pub needs: &'static [(&'static str, &'static str)],
}

/// Where the tests are.
pub(crate) struct Built {
    /// Package and version.
    pub name: String,
    /// The sources.
    pub tree: PathBuf,
    /// The built program.
    pub build: PathBuf,
}

impl Sources {
    /// Fetches and builds them, unless they are there. If they cannot be had, prints a message.
    pub(crate) fn built(&self) -> Option<Built> {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(self.package);
        let tree = self.missing().map_or_else(|| self.fetched(&dir), Err);
        let tree = match tree {
            Ok(tree) => tree,
            Err(why) => {
                skipped(&format!("the sources of Debian's {} are not here: {why}", self.package));
                return None;
            }
        };
        let build = dir.join("build");
        let (from, to) = (tree.display().to_string(), build.display().to_string());
        let mut configure = vec!["-S", &from, "-B", &to, "-DCMAKE_BUILD_TYPE=Debug"];
        configure.extend(self.options);
        for args in [configure, vec!["--build", &to, "--parallel", "2", "--target", self.target]] {
            let outcome = command("cmake", &args, &dir);
            assert!(outcome.passed(), "cmake {args:?}: {}", tail(&outcome));
        }
        let name = tree.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Some(Built { name, tree, build })
    }

    /// The packages that the build needs and that are not installed.
    fn missing(&self) -> Option<String> {
        let tools = [("/usr/bin/dpkg-source", "dpkg-dev"), ("/usr/bin/cmake", "cmake")];
        let all = tools.iter().chain(self.needs);
        let missing: Vec<_> = all.filter(|(path, _)| !Path::new(path).exists()).map(|(_, package)| *package).collect();
        (!missing.is_empty()).then(|| format!("this takes {}", missing.join(", ")))
    }

    /// The unpacked sources in `dir`. They are moved there once they are complete.
    fn fetched(&self, dir: &Path) -> Result<PathBuf, String> {
        let place = dir.join("sources");
        if !place.is_dir() {
            let new = dir.join("new");
            let _ = fs::remove_dir_all(&new);
            fs::create_dir_all(&new).expect("a directory");
            self.fetch(dir, &new)?;
            fs::rename(&new, &place).expect("both in one directory");
        }
        let tree =
            fs::read_dir(&place).expect("a directory").flatten().map(|entry| entry.path()).find(|path| path.is_dir());
        tree.ok_or(format!("there is no directory in {}", place.display()))
    }

    /// apt's own client, with a list of places and a store of the test's own: nothing of the system is changed.
    fn fetch(&self, dir: &Path, to: &Path) -> Result<(), String> {
        let of = |name: &str| {
            let path = dir.join("apt").join(name);
            fs::create_dir_all(&path).expect("a directory");
            path
        };
        let (parts, lists, cache) = (of("parts"), of("lists"), of("cache"));
        name_sources(&parts);
        let settings = [
            "Dir::Etc::sourcelist=/dev/null".into(),
            format!("Dir::Etc::sourceparts={}", parts.display()),
            format!("Dir::State::lists={}", lists.display()),
            format!("Dir::Cache={}", cache.display()),
            "Acquire::http::Timeout=20".into(),
            "Acquire::Retries=0".into(),
        ];
        let apt = |what: &[&str]| {
            let options = settings.iter().flat_map(|setting| ["-o", setting]);
            command("apt-get", &options.chain(what.iter().copied()).collect::<Vec<_>>(), to)
        };
        // One of several places may fail; only whether the sources arrive matters.
        let update = apt(&["update", "-q"]);
        let source = apt(&["source", "-q", self.package]);
        let why = || format!("{} {}", update.stderr.trim(), source.stderr.trim());
        if source.passed() { Ok(()) } else { Err(why()) }
    }
}

fn command(name: &str, args: &[&str], dir: &Path) -> Outcome {
    let program = Program::new(artifacts::installed(name), args).directory(dir).limit(Duration::from_secs(900));
    run(&program, Mode::Native, |_| Ok(()))
}

/// Writes the places of the system's packages as places of sources.
fn name_sources(to: &Path) {
    let more = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path());
    for path in more.chain(["/etc/apt/sources.list".into()]) {
        let (Ok(text), Some(name)) = (fs::read_to_string(&path), path.file_name()) else { continue };
        let lines: String = text.lines().map(|line| of_sources(line) + "\n").collect();
        fs::write(to.join(name), lines).expect("a file");
    }
}

/// One line of a file of either format (sources.list(5)).
fn of_sources(line: &str) -> String {
    if line.starts_with("Types:") {
        return "Types: deb-src".into();
    }
    line.strip_prefix("deb ").map_or(line.into(), |rest| format!("deb-src {rest}"))
}
