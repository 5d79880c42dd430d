//! What a source file may look like.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{assert_none, root};

/// Longer files hold more than one idea.
const MAX_LINES: usize = 500;

/// Marks of unfinished work, put together here so that this file does not contain them.
fn unfinished() -> Vec<String> {
    [
        ("TO", "DO"),
        ("FIX", "ME"),
        ("XX", "X:"),
        ("todo", "!("),
        ("unimplemented", "!("),
        ("dbg", "!("),
    ]
    .map(|(head, tail)| format!("{head}{tail}"))
    .to_vec()
}

fn rust_files() -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a source folder can be read") {
            let entry = entry.expect("a folder entry can be read");
            let path = entry.path();
            let name = entry.file_name();
            let kind = entry.file_type().expect("a folder entry has a type");
            if kind.is_dir() {
                if !name.to_string_lossy().starts_with('.') && name != "target" && name != "node_modules" {
                    walk(&path, files);
                }
            } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let root = root();
    let mut files = Vec::new();
    for folder in ["crates", "migrations", "tests"] {
        walk(&root.join(folder), &mut files);
    }
    assert!(files.len() > 10, "the sources were not found");
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a source file is text");
            (
                path.strip_prefix(&root)
                    .expect("a source lies below the root")
                    .to_owned(),
                text,
            )
        })
        .collect()
}

#[test]
fn files_are_short() {
    let findings: Vec<String> = rust_files()
        .iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(path, lines)| format!("{}: {lines} lines, at most {MAX_LINES} are allowed", path.display()))
        .collect();
    assert_none(&findings);
}

#[test]
fn nothing_is_marked_as_unfinished() {
    let marks = unfinished();
    let mut findings = Vec::new();
    for (path, text) in rust_files() {
        for (number, line) in text.lines().enumerate() {
            if let Some(mark) = marks.iter().find(|mark| line.contains(mark.as_str())) {
                findings.push(format!("{}:{}: {mark}", path.display(), number + 1));
            }
        }
    }
    assert_none(&findings);
}

#[test]
fn every_file_says_what_it_is() {
    let findings: Vec<String> = rust_files()
        .iter()
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(path, _)| format!("{}: begins without a module description (//!)", path.display()))
        .collect();
    assert_none(&findings);
}

#[test]
fn no_module_has_a_name_that_says_nothing() {
    let empty_names = ["utils", "util", "helpers", "helper", "common", "manager", "misc"];
    let findings: Vec<String> = rust_files()
        .iter()
        .filter(|(path, _)| {
            path.iter().any(|part| {
                let part = part.to_string_lossy();
                empty_names.contains(&part.strip_suffix(".rs").unwrap_or(&part))
            })
        })
        .map(|(path, _)| format!("{}: name it after what it holds", path.display()))
        .collect();
    assert_none(&findings);
}
