//! The tests that `docs/reference/complaints.md` names exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// The names of all functions under a directory.
fn functions(directory: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let after_fn = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
            names.extend(after_fn.map(str::to_owned));
        }
    }
}

#[test]
fn each_complaint_has_tests_that_exist() {
    let page = fs::read_to_string(format!("{ROOT}/docs/reference/complaints.md")).unwrap();
    let mut known = BTreeSet::new();
    for directory in ["shared/core", "workers/worker"] {
        functions(&Path::new(ROOT).join(directory), &mut known);
    }
    let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| ") && line.contains('`')).collect();
    assert_eq!(rows.len(), 12, "the complaints with tests");
    for row in rows {
        for test in row.split('`').skip(1).step_by(2) {
            assert!(known.contains(test), "{test}, of: {row}");
        }
    }
}
