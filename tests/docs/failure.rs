//! `docs/failure.md` names tests and cells: each of them is there.

use std::fs;

use super::repository;
use crate::support::chaos::Fault;

#[test]
fn what_the_failures_are_shown_by_is_there() {
    let text = fs::read_to_string(repository().join("docs/failure.md")).unwrap();
    let mut named = 0;
    for name in text.split('`').skip(1).step_by(2) {
        if let Some(cell) = name.strip_prefix("chaos ") {
            assert!(Fault::named(cell).is_some(), "there is no cell {cell}");
        } else if let Some((module, test)) = name.rsplit_once("::")
            // A command is no name.
            && !name.contains(' ')
        {
            let file = repository().join("tests").join(module.replace("::", "/"));
            let is_module = file.join(test).with_extension("rs").exists();
            let source = fs::read_to_string(file.with_extension("rs")).unwrap_or_default();
            assert!(
                is_module || source.contains(&format!("fn {test}(")),
                "there is no test {name}"
            );
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
