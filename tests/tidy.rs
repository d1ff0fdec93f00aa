//! Rules of the house that no lint keeps: the layers, the sizes, the citations of proto.md, the
//! banned words, the licences and the number of dependencies.
//!
//! Every check reads the tree and lists all it finds, as `file:line: what is wrong`. Comments and
//! strings are not parsed, only stripped roughly: a rule that needs more belongs into clippy.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A layer and the layers it may name. The program and `lib.rs` may name all of them.
const LAYERS: [(&str, &[&str]); 6] = [
    ("wire", &[]),
    ("proto", &["wire"]),
    ("sim", &["proto", "wire"]),
    ("io", &["proto", "wire"]),
    ("compare", &["io", "sim", "proto", "wire"]),
    ("cli", &["compare", "io", "sim", "proto", "wire"]),
];

/// What a layer must not name outside its tests, beside what clippy.toml forbids `proto`.
const FOREIGN: [(&str, &[&str]); 4] = [
    ("wire", &["std::net", "std::fs", "std::io", "std::thread", "std::sync", "std::env"]),
    ("proto", &["std::net", "std::fs", "std::io", "std::thread", "std::sync", "std::env", "print"]),
    ("sim", &["std::net", "std::fs", "std::io", "Instant", "SystemTime"]),
    ("io", &["println!", "print!", "process::exit", "clap", "indicatif"]),
];

/// Longest line of Rust and Python, in characters.
const LINE_CHARS_MAX: usize = 100;

/// Most lines of a file before its tests.
const LINES_MAX: usize = 500;

/// Most crates that the program itself is built from, `ufx` aside.
const DEPENDENCIES_MAX: usize = 75;

/// Licences that allow all that MIT OR Apache-2.0 promises.
const LICENCES: [&str; 8] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "Unicode-3.0",
];

/// One source file: its path from the top of the project, and its lines.
struct Source {
    path: String,
    lines: Vec<String>,
}

impl Source {
    /// Lines with their numbers, comments cut off.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines.iter().enumerate().map(|(index, line)| (index + 1, without_comment(line)))
    }

    /// The lines before the tests, without comments.
    fn code_before_tests(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code().take(self.lines_before_tests())
    }

    fn lines_before_tests(&self) -> usize {
        let tests = self.lines.windows(2).position(|pair| {
            pair[0].trim() == "#[cfg(test)]" && pair[1].trim_start().starts_with("mod tests")
        });
        tests.unwrap_or(self.lines.len())
    }

    /// `wire` for `src/wire/codec.rs`; none for the program and `lib.rs`.
    fn layer(&self) -> Option<&str> {
        let below = self.path.strip_prefix("src/")?;
        below.split_once('/').map(|(layer, _)| layer)
    }

    /// How many modules deep the file's items are: 0 for `lib.rs`, 1 for `src/wire/mod.rs`.
    fn depth(&self) -> usize {
        let below = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        let names = below.split('/').filter(|name| !["lib", "main", "mod"].contains(name));
        names.count()
    }

    /// Whether the file is compiled for tests only, as the module line above it says.
    fn is_test_support(&self) -> bool {
        ["arbitrary", "properties", "testing"]
            .iter()
            .any(|name| self.path.ends_with(&format!("/{name}.rs")))
            || !self.path.starts_with("src/")
    }
}

fn without_comment(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

fn top() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folders` with one of the endings, in order. Build output is left out.
fn files(folders: &[&str], endings: &[&str]) -> Vec<Source> {
    let mut paths = Vec::new();
    for folder in folders {
        walk(&top().join(folder), &mut paths);
    }
    paths.sort();
    let wanted = paths.into_iter().filter(|path| {
        endings.iter().any(|ending| path.extension().is_some_and(|found| found == *ending))
    });
    wanted.map(|path| read(&path)).collect()
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = folder.read_dir() else { return };
    for entry in entries {
        let path = entry.expect("a folder of the project can be read").path();
        let is_build_output = path.ends_with("target") || path.ends_with("__pycache__");
        if path.is_dir() && !is_build_output {
            walk(&path, paths);
        } else if path.is_file() {
            paths.push(path);
        }
    }
}

fn read(path: &Path) -> Source {
    let text = std::fs::read_to_string(path).expect("sources are UTF-8");
    let name = path.strip_prefix(top()).expect("below the project").to_string_lossy().into_owned();
    Source { path: name, lines: text.lines().map(str::to_owned).collect() }
}

fn rust() -> Vec<Source> {
    files(&["src", "tests", "benches", "fuzz"], &["rs"])
}

/// What a check found; an empty one is content.
#[derive(Default)]
struct Findings(String);

impl Findings {
    fn add(&mut self, source: &Source, line: usize, what: &str) {
        writeln!(self.0, "{}:{line}: {what}", source.path).expect("strings take everything");
    }

    fn assert_none(self) {
        assert!(self.0.is_empty(), "\n{}", self.0);
    }
}

#[test]
fn layers_name_only_the_layers_below_them() {
    let mut findings = Findings::default();
    for source in files(&["src"], &["rs"]) {
        let Some(layer) = source.layer() else { continue };
        let allowed = LAYERS.iter().find(|(name, _)| *name == layer);
        let Some((_, below)) = allowed else {
            findings.add(&source, 1, "a layer that no rule knows");
            continue;
        };
        for (number, line) in source.code() {
            for named in line.split("crate::").skip(1) {
                let word = named.split(|letter: char| !letter.is_alphanumeric()).next();
                let word = word.unwrap_or_default();
                if word.is_empty() {
                    findings.add(&source, number, "one layer a line: no group behind crate::");
                } else if word != layer && !below.contains(&word) {
                    findings.add(&source, number, &format!("{layer} must not know {word}"));
                }
            }
            // Tests stand one module deeper.
            let in_tests = usize::from(number > source.lines_before_tests());
            if line.matches("super::").count() >= source.depth() + in_tests
                && line.trim_start().trim_start_matches("pub ").starts_with("use super::")
            {
                findings.add(&source, number, "super:: leaves the layer: say crate::");
            }
        }
    }
    findings.assert_none();
}

#[test]
fn layers_keep_away_from_what_is_not_theirs() {
    let mut findings = Findings::default();
    for source in files(&["src"], &["rs"]) {
        let foreign = FOREIGN.iter().find(|(name, _)| Some(*name) == source.layer());
        let Some((layer, words)) = foreign else { continue };
        if source.is_test_support() {
            continue;
        }
        for (number, line) in source.code_before_tests() {
            for word in words.iter().filter(|word| line.contains(*word)) {
                findings.add(&source, number, &format!("{word} is not for {layer}"));
            }
        }
    }
    findings.assert_none();
}

#[test]
fn unsafe_code_stands_in_one_place() {
    let mut findings = Findings::default();
    for source in rust() {
        let is_there = source.path.starts_with("src/io/sys")
            || ["tests/tidy.rs", "tests/memory/counting.rs"].contains(&source.path.as_str());
        if is_there {
            continue;
        }
        for (number, line) in source.code() {
            if line.split(|letter: char| !letter.is_alphanumeric()).any(|word| word == "unsafe") {
                findings.add(&source, number, "unsafe belongs into src/io/sys.rs");
            }
        }
    }
    findings.assert_none();
}

#[test]
fn files_and_lines_are_short() {
    let mut findings = Findings::default();
    for source in rust() {
        let lines = source.lines_before_tests();
        if lines > LINES_MAX {
            let what = format!("{lines} lines before the tests, {LINES_MAX} at most");
            findings.add(&source, lines, &what);
        }
    }
    for source in files(&["src", "tests", "benches", "fuzz"], &["rs", "py"]) {
        for (index, line) in source.lines.iter().enumerate() {
            if line.chars().count() > LINE_CHARS_MAX {
                findings.add(&source, index + 1, "more than 100 columns");
            }
        }
    }
    findings.assert_none();
}

#[test]
fn files_say_first_what_they_are_for() {
    let mut findings = Findings::default();
    for source in rust() {
        if !source.lines.first().is_some_and(|line| line.starts_with("//! ")) {
            findings.add(&source, 1, "does not open with //! and what it is responsible for");
        }
    }
    findings.assert_none();
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not hold them.
    let banned = [
        concat!("to", "do!"),
        concat!("unimpl", "emented!"),
        concat!("db", "g!("),
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
        concat!("#[al", "low"),
        concat!("#![al", "low"),
        concat!("#[ig", "nore"),
    ];
    let mut findings = Findings::default();
    for source in files(&["src", "tests", "benches", "fuzz"], &["rs", "py", "toml"]) {
        for (index, line) in source.lines.iter().enumerate() {
            for word in banned.iter().filter(|word| line.contains(*word)) {
                findings.add(&source, index + 1, &format!("{word} is banned"));
            }
        }
    }
    findings.assert_none();
}

/// The sections of proto.md by their anchor: text with white space and emphasis folded.
fn specification() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(top().join("proto.md")).expect("proto.md is there");
    let mut sections = BTreeMap::new();
    let mut anchor = String::new();
    let mut in_code = false;
    for line in text.lines() {
        in_code ^= line.starts_with("```");
        if let (false, Some((_, title))) = (in_code, line.split_once("# ")) {
            anchor = title.to_lowercase();
            anchor.retain(|letter| letter.is_alphanumeric() || letter == ' ' || letter == '-');
            anchor = anchor.replace(' ', "-");
        }
        let section: &mut String = sections.entry(anchor.clone()).or_default();
        section.push_str(line);
        section.push('\n');
    }
    sections.into_iter().map(|(anchor, text)| (anchor, folded(&text))).collect()
}

fn folded(text: &str) -> String {
    let plain: String = text.chars().filter(|letter| !matches!(letter, '*' | '`')).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A citation in the code: where it starts, what it cites, and the sentence it quotes.
struct Citation {
    line: usize,
    anchor: String,
    quote: String,
}

fn citations(source: &Source) -> Vec<Citation> {
    let mut found: Vec<Citation> = Vec::new();
    for (index, line) in source.lines.iter().enumerate() {
        let line = line.trim_start();
        if let Some(anchor) = line.strip_prefix("//= proto.md#") {
            found.push(Citation {
                line: index + 1,
                anchor: anchor.trim().to_owned(),
                quote: String::new(),
            });
        } else if let (Some(quote), Some(citation)) = (line.strip_prefix("//# "), found.last_mut())
        {
            citation.quote.push_str(quote);
            citation.quote.push(' ');
        }
    }
    found
}

#[test]
fn citations_quote_what_the_specification_says() {
    let sections = specification();
    let mut findings = Findings::default();
    let mut count = 0;
    for source in rust() {
        for citation in citations(&source) {
            count += 1;
            match sections.get(&citation.anchor) {
                None => {
                    let what = format!("proto.md has no section #{}", citation.anchor);
                    findings.add(&source, citation.line, &what);
                }
                Some(text) if !text.contains(&folded(&citation.quote)) => {
                    let what = format!("#{} does not say: {}", citation.anchor, citation.quote);
                    findings.add(&source, citation.line, &what);
                }
                Some(_) => {}
            }
        }
    }
    findings.assert_none();
    assert!(count > 0, "no citation was found at all: is the form of them still //= proto.md#?");
}

#[test]
fn each_frame_has_one_section_and_one_file() {
    let text = std::fs::read_to_string(top().join("proto.md")).expect("proto.md is there");
    let frames = text.split("\n## ").find(|section| section.starts_with("Frames\n"));
    let frames = frames.expect("proto.md has the section Frames");
    let sections: BTreeSet<String> = frames
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(str::to_lowercase)
        .collect();

    let mut findings = Findings::default();
    let mut names = BTreeSet::new();
    for source in files(&["src/wire/frame"], &["rs"]) {
        let name = source.path.trim_start_matches("src/wire/frame/").trim_end_matches(".rs");
        if name == "mod" {
            continue;
        }
        names.insert(name.to_owned());
        let pointer = format!("See proto.md, \"{}\"", name.to_uppercase());
        if !source.lines.first().is_some_and(|line| line.contains(&pointer)) {
            findings.add(&source, 1, &format!("the first line does not say: {pointer}"));
        }
        for citation in citations(&source) {
            if citation.anchor != name {
                findings.add(&source, citation.line, "cites another section than its own");
            }
        }
    }
    findings.assert_none();
    assert_eq!(names, sections, "files of src/wire/frame, and sections of proto.md");
}

/// What cargo knows of the dependencies.
fn metadata() -> serde_json::Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--filter-platform"])
        .arg(format!("{}-unknown-linux-gnu", std::env::consts::ARCH))
        .current_dir(top())
        .output()
        .expect("cargo runs this test, so it can be run");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata failed: {errors}");
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

fn list<'a>(value: &'a serde_json::Value, key: &str) -> &'a [serde_json::Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

#[test]
fn dependencies_are_few() {
    let metadata = metadata();
    let nodes = list(&metadata["resolve"], "nodes");
    let root = metadata["resolve"]["root"].as_str().expect("the project is a package");
    let mut found = BTreeSet::from([root]);
    let mut waiting = vec![root];
    while let Some(id) = waiting.pop() {
        let node = nodes.iter().find(|node| node["id"] == id).expect("every id has a node");
        for dependency in list(node, "deps") {
            // Kind null is what is linked; "dev" and "build" are not.
            let normal = list(dependency, "dep_kinds").iter().any(|kind| kind["kind"].is_null());
            let name = dependency["pkg"].as_str().expect("a dependency has an id");
            if normal && found.insert(name) {
                waiting.push(name);
            }
        }
    }
    let count = found.len() - 1;
    println!("{count} crates");
    assert!(count <= DEPENDENCIES_MAX, "{count} crates, {DEPENDENCIES_MAX} at most: {found:#?}");
}

#[test]
fn licences_of_all_dependencies_allow_ours() {
    for package in list(&metadata(), "packages") {
        let name = package["name"].as_str().unwrap_or_default();
        let licence = package["license"].as_str().unwrap_or_default().replace('/', " OR ");
        assert!(is_allowed(&licence), "{name} has the licence \"{licence}\"");
    }
}

/// Whether one may be chosen of which each part is allowed: `A OR (B AND C)`.
fn is_allowed(licence: &str) -> bool {
    let licence = licence.trim();
    if let Some(inner) = licence.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'))
        && !inner.contains(['(', ')'])
    {
        return is_allowed(inner);
    }
    // AND binds tighter than OR; a group that holds OR counts as one part.
    let parts = |operator: &str| split_outside_groups(licence, operator);
    match (parts(" OR "), parts(" AND ")) {
        (any, _) if any.len() > 1 => any.iter().any(|part| is_allowed(part)),
        (_, all) if all.len() > 1 => all.iter().all(|part| is_allowed(part)),
        _ => LICENCES.contains(&licence),
    }
}

fn split_outside_groups(text: &str, operator: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for piece in text.split(operator) {
        let last = parts.last_mut().expect("never empty");
        if last.matches('(').count() > last.matches(')').count() {
            last.push_str(operator);
            last.push_str(piece);
        } else if last.is_empty() {
            last.push_str(piece);
        } else {
            parts.push(piece.to_owned());
        }
    }
    parts
}

#[test]
fn licence_expressions_are_understood() {
    let table = [
        ("MIT", true),
        ("GPL-3.0", false),
        ("", false),
        ("GPL-3.0 OR MIT", true),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("(MIT OR Apache-2.0) AND GPL-3.0", false),
        ("Apache-2.0 WITH LLVM-exception OR GPL-3.0", true),
    ];
    for (licence, allowed) in table {
        assert_eq!(is_allowed(licence), allowed, "{licence}");
    }
}
