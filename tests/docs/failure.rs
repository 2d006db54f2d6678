//! `docs/failure.md` names tests and cells: each of them is there.

use std::fs;

use super::named::{is_test, quoted};
use super::repository;
use crate::support::chaos::Fault;

#[test]
fn what_the_failures_are_shown_by_is_there() {
    let text = fs::read_to_string(repository().join("docs/failure.md")).unwrap();
    let mut named = 0;
    for name in quoted(&text) {
        if let Some(cell) = name.strip_prefix("chaos ") {
            assert!(Fault::named(cell).is_some(), "there is no cell {cell}");
        } else if let Some(is_there) = is_test(name) {
            assert!(is_there, "there is no test {name}");
        } else {
            continue;
        }
        named += 1;
    }
    assert!(named > 50, "only {named} names were found");
}

#[test]
fn every_cell_of_a_fault_is_explained() {
    let text = fs::read_to_string(repository().join("docs/failure.md")).unwrap();
    for fault in Fault::all() {
        let words = [format!("`chaos {}`", fault.name), format!("--fault {}", fault.name)];
        assert!(words.iter().any(|word| text.contains(word)), "{} is not in it", fault.name);
    }
}
