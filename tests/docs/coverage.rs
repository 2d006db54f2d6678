//! `docs/inbox/coverage.md` answers every requirement with tests and pages: each of them is there.

use std::fs;

use super::named::{is_test, quoted};
use super::repository;

#[test]
fn what_answers_a_requirement_is_there() {
    let page = fs::read_to_string(repository().join("docs/inbox/coverage.md")).unwrap();
    let mut named = 0;
    for name in quoted(&page) {
        if let Some(is_there) = is_test(name) {
            assert!(is_there, "there is no test {name}");
            named += 1;
        }
    }
    assert!(named > 70, "only {named} tests were found");
    // A requirement that nothing answers is said to be one, in the last table.
    let is_row = |line: &&str| line.starts_with("| ") && !line.starts_with("| ---");
    for row in page.lines().filter(is_row) {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").collect();
        assert!(cells.len() == 2 && cells.iter().all(|cell| !cell.trim().is_empty()), "{row}");
    }
}
