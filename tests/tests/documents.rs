//! The documentation: every page is linked from its table of contents, and every link leads somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the project")
}

fn pages(dir: &Path, into: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            pages(&path, into);
        } else if path.extension().is_some_and(|ext| ext == "md") {
            into.insert(path);
        }
    }
}

/// The targets of a page's links, without web pages and places within a page. Links in code are ignored.
fn links(page: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(page).expect("a page");
    let prose: String = text.split("```").step_by(2).collect();
    let prose: String = prose.split('`').step_by(2).collect();
    let targets = prose.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned()));
    let here = page.parent().expect("a folder");
    let file = |target: String| Some(target.split('#').next()?.to_owned()).filter(|t| !t.is_empty());
    targets.filter(|t| !t.contains("://")).filter_map(file).map(|target| here.join(target)).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut all = BTreeSet::new();
    ["docs", "docker"].iter().for_each(|dir| pages(&root().join(dir), &mut all));
    all.extend(["README.md", "CHANGELOG.md"].map(|page| root().join(page)));
    assert!(all.len() > 30, "{} pages", all.len());
    for page in &all {
        for target in links(page) {
            assert!(target.exists(), "{} links {}, which is not there", page.display(), target.display());
        }
    }
}

#[test]
fn every_page_is_in_the_table_of_contents() {
    let docs = root().join("docs");
    let contents = [docs.join("README.md"), docs.join("results/README.md")];
    let linked: BTreeSet<PathBuf> =
        contents.iter().flat_map(|page| links(page)).filter_map(|path| path.canonicalize().ok()).collect();
    let mut all = BTreeSet::new();
    pages(&docs, &mut all);
    let missing: Vec<_> = all.iter().filter(|page| !contents.contains(*page) && !linked.contains(*page)).collect();
    assert!(missing.is_empty(), "docs/README.md does not link {missing:?}");
}
