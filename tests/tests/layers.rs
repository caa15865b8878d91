//! The floors of libipc and ipcd (docs/architecture.md): a module uses what is on its own floor or below, and no two
//! modules use each other in a circle, in any crate.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, UseTree};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files below a directory, by the names of their modules.
fn modules(dir: &Path, prefix: &str, into: &mut BTreeMap<String, PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory").flatten() {
        let (path, name) = (entry.path(), entry.file_name().into_string().expect("a name in ASCII"));
        if path.is_dir() {
            modules(&path, &format!("{prefix}{name}::"), into);
        } else if let Some(name) = name.strip_suffix(".rs").filter(|name| !matches!(*name, "lib" | "main")) {
            into.insert(format!("{prefix}{name}"), path);
        }
    }
}

/// The paths that a file names.
struct Paths(Vec<Vec<String>>);

impl Paths {
    fn of_tree(&mut self, tree: &UseTree, mut path: Vec<String>) {
        match tree {
            UseTree::Path(step) => {
                path.push(step.ident.to_string());
                self.of_tree(&step.tree, path);
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.of_tree(tree, path.clone())),
            UseTree::Name(name) => self.0.push([path, vec![name.ident.to_string()]].concat()),
            UseTree::Rename(name) => self.0.push([path, vec![name.ident.to_string()]].concat()),
            _ => self.0.push(path),
        }
    }
}

/// Whether code is only for tests.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().filter(|a| a.path().is_ident("cfg")).any(|a| {
        let text = a.meta.require_list().map(|list| list.tokens.to_string()).unwrap_or_default();
        !text.starts_with("not") && (text.contains("test") || text.contains("loom"))
    })
}

impl Visit<'_> for Paths {
    fn visit_item_use(&mut self, item: &syn::ItemUse) {
        if !is_test(&item.attrs) {
            self.of_tree(&item.tree, Vec::new());
        }
    }

    fn visit_item_mod(&mut self, item: &syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_vis_restricted(&mut self, _: &syn::VisRestricted) {
        // Who may use an item is not what the item uses.
    }

    fn visit_path(&mut self, path: &syn::Path) {
        self.0.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }
}

/// The module that a path in another module leads to.
fn target(from: &str, path: &[String], all: &BTreeMap<String, PathBuf>) -> Option<String> {
    let mut at: Vec<&str> = from.split("::").collect();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => (at, rest) = (Vec::new(), &path[1..]),
        "self" => rest = &path[1..],
        "super" => {
            while rest.first().is_some_and(|step| step == "super") {
                at.pop();
                rest = &rest[1..];
            }
        }
        _ => return None,
    }
    at.extend(rest.iter().map(String::as_str));
    let module = (1..=at.len()).rev().map(|n| at[..n].join("::")).find(|name| all.contains_key(name))?;
    (module != from).then_some(module)
}

/// Which modules each module uses.
fn uses(all: &BTreeMap<String, PathBuf>) -> BTreeMap<String, BTreeSet<String>> {
    let used = |(name, path): (&String, &PathBuf)| {
        let text = fs::read_to_string(path).expect("a file");
        let file = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut paths = Paths(Vec::new());
        paths.visit_file(&file);
        (name.clone(), paths.0.iter().filter_map(|path| target(name, path, all)).collect())
    };
    all.iter().map(used).collect()
}

/// The table of a crate's floors, the highest first: the modules and folders on each.
fn floors(of: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(root().join("docs/architecture.md")).expect("docs/architecture.md");
    let table = text.split_once(&format!("### {of}\n")).expect("a chapter about the crate's floors").1;
    let rows = table.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let names = |row: &str| {
        row.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    rows.skip(2).map(names).collect()
}

/// The floor that a module is on: the longest name in the table that is the module's or that of a folder around it.
fn floor_of(module: &str, floors: &[Vec<String>]) -> Option<usize> {
    let is_in = |name: &&String| module == *name || module.starts_with(&format!("{name}::"));
    let named =
        floors.iter().enumerate().flat_map(|(n, floor)| floor.iter().filter(is_in).map(move |name| (name.len(), n)));
    named.max().map(|(_, floor)| floor)
}

/// A circle among modules, if there is one: modules that use none of the remaining ones are removed until there are
/// none.
fn circle(mut uses: BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    loop {
        let left: BTreeSet<String> = uses.keys().cloned().collect();
        uses.values_mut().for_each(|used| used.retain(|name| left.contains(name)));
        let done: Vec<String> = uses.iter().filter(|(_, used)| used.is_empty()).map(|(name, _)| name.clone()).collect();
        if done.is_empty() {
            return uses.into_keys().collect();
        }
        done.iter().for_each(|name| drop(uses.remove(name)));
    }
}

fn modules_of(of: &str) -> BTreeMap<String, PathBuf> {
    let mut all = BTreeMap::new();
    modules(&root().join(of).join("src"), "", &mut all);
    all
}

#[test]
fn no_module_uses_one_above_it() {
    for of in ["libipc", "ipcd"] {
        let (all, floors) = (modules_of(of), floors(of));
        assert!(all.len() > 20 && floors.len() > 5, "{of}: {} modules, {} floors", all.len(), floors.len());
        for name in floors.iter().flatten() {
            let is_there = all.keys().any(|module| module == name || module.starts_with(&format!("{name}::")));
            assert!(is_there, "docs/architecture.md names {name} in {of}, which is not there");
        }
        let floor = |name: &String| floor_of(name, &floors).unwrap_or_else(|| panic!("{of}: {name} is on no floor"));
        let mut upward = Vec::new();
        for (module, used) in &uses(&all) {
            let above = used.iter().filter(|other| floor(other) < floor(module));
            upward.extend(above.map(|other| format!("{module} → {other}")));
        }
        assert!(upward.is_empty(), "{of}: these use what is above them: {upward:#?}");
    }
}

#[test]
fn no_modules_use_each_other_in_a_circle() {
    for of in ["libipc", "ipcd", "matcher", "bench", "tests"] {
        let circle = circle(uses(&modules_of(of)));
        assert!(circle.is_empty(), "{of}: among these are circles: {circle:?}");
    }
}

/// The lengths of functions.
struct Lengths(Vec<(String, usize)>);

impl Lengths {
    fn note(&mut self, name: &syn::Ident, block: &syn::Block) {
        let span = block.brace_token.span;
        self.0.push((name.to_string(), span.close().end().line - span.open().start().line + 1));
    }
}

impl Visit<'_> for Lengths {
    fn visit_item_fn(&mut self, item: &syn::ItemFn) {
        self.note(&item.sig.ident, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &syn::ImplItemFn) {
        self.note(&item.sig.ident, &item.block);
        visit::visit_impl_item_fn(self, item);
    }
}

#[test]
fn no_file_and_no_function_is_too_long_to_read() {
    for of in ["libipc", "ipcd", "matcher", "bench", "tests"] {
        for (module, path) in modules_of(of) {
            let text = fs::read_to_string(&path).expect("a file");
            assert!(text.lines().count() <= 400, "{of}: {module} has {} lines", text.lines().count());
            let mut lengths = Lengths(Vec::new());
            lengths.visit_file(&syn::parse_file(&text).expect("code"));
            let long: Vec<_> = lengths.0.iter().filter(|(_, lines)| *lines > 60).collect();
            assert!(long.is_empty(), "{of}: {module}: {long:?}");
        }
    }
}

/// A walk through libipc in docs/architecture.md.
struct Walk {
    call: String,
    /// Each file, with the functions that are named.
    files: Vec<(String, Vec<String>)>,
}

fn walks() -> Vec<Walk> {
    let text = fs::read_to_string(root().join("docs/architecture.md")).expect("docs/architecture.md");
    let (_, chapter) = text.split_once("## The way of a call").expect("the chapter");
    let (chapter, _) = chapter.split_once("\n## ").expect("a chapter after it");
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let mut walks = Vec::new();
    for line in chapter.lines() {
        if let Some(call) = line.strip_prefix("**") {
            let call = call.split("()").next().unwrap_or_default().to_owned();
            walks.push(Walk { call, files: Vec::new() });
        } else if line.starts_with("| `") {
            let cells: Vec<&str> = line.split('|').collect();
            let walk = walks.last_mut().expect("a call before the table");
            walk.files.push((quoted(cells[1]).remove(0), quoted(cells[2])));
        }
    }
    walks
}

#[test]
fn a_call_is_followed_from_its_handler_to_the_kernel_in_five_files() {
    let walks = walks();
    let calls: Vec<&str> = walks.iter().map(|walk| walk.call.as_str()).collect();
    assert_eq!(calls, ["send", "recv", "epoll_wait", "connect", "fork"]);
    for Walk { call, files } in &walks {
        assert!((4..=5).contains(&files.len()), "{call}: {} files", files.len());
        let distinct: BTreeSet<&String> = files.iter().map(|(file, _)| file).collect();
        assert_eq!(distinct.len(), files.len(), "{call}: a file is entered twice");
        for (file, names) in files {
            let text =
                fs::read_to_string(root().join("libipc/src").join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
            assert!(!names.is_empty(), "{call}: {file} names nothing");
            for name in names.iter().map(|name| name.rsplit("::").next().unwrap_or(name)) {
                let is_there = [format!("fn {name}"), format!("short!({name},")].iter().any(|word| text.contains(word));
                assert!(is_there, "{call}: {file} has no {name}");
            }
        }
    }
}

#[test]
fn circles_and_paths_are_found() {
    let of = |pairs: &[(&str, &[&str])]| {
        pairs.iter().map(|(name, used)| (name.to_string(), used.iter().map(|u| u.to_string()).collect())).collect()
    };
    assert_eq!(circle(of(&[("a", &["b"]), ("b", &["c"]), ("c", &[])])), Vec::<String>::new());
    assert_eq!(circle(of(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"]), ("d", &[])])), ["a", "b", "c"]);
    let all = ["a", "b", "b::c"].map(|name| (name.to_owned(), PathBuf::new())).into();
    let to = |from, path: &[&str]| target(from, &path.iter().map(|s| s.to_string()).collect::<Vec<_>>(), &all);
    assert_eq!(to("a", &["crate", "b", "c", "X"]).as_deref(), Some("b::c"));
    assert_eq!(to("b::c", &["super", "Y"]).as_deref(), Some("b"));
    assert_eq!(to("b", &["self", "c", "X"]).as_deref(), Some("b::c"));
    assert_eq!(to("a", &["core", "b"]), None);
}
