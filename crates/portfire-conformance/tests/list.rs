//! The list of names is whole: every case of every file stands in it, in its group, with its sentence.

use std::collections::BTreeSet;
use std::path::Path;

use portfire_conformance::list;

/// Group, name and the line above each case that is written in the files.
fn written() -> Vec<(String, String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cases");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the cases are there") {
        let path = entry.expect("a file").path();
        let group = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("a text");
        let mut above = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("pub async fn ") {
                let name = rest.split('(').next().unwrap_or_default();
                found.push((group.clone(), name.to_owned(), above.clone()));
            }
            above = line.to_owned();
        }
    }
    found
}

#[test]
fn every_case_that_is_written_is_listed() {
    let written: BTreeSet<_> =
        written().into_iter().map(|(group, name, _)| (group, name)).collect();
    let listed: BTreeSet<_> =
        list::all().map(|case| (case.group.to_owned(), case.name.to_owned())).collect();
    assert_eq!(listed, written);
}

#[test]
fn every_case_says_which_sentence_it_holds() {
    for (group, name, above) in written() {
        assert!(above.starts_with("/// "), "{group}::{name} has no sentence");
    }
}

#[test]
fn every_group_has_its_cases_under_one_capability() {
    let groups: BTreeSet<_> = list::all().map(|case| (case.group, case.needs)).collect();
    let names: BTreeSet<_> = groups.iter().map(|(group, _)| group).collect();
    assert_eq!(groups.len(), names.len(), "{groups:?}");
}
