//! Tests and examples read rows of their own making by `Row::get`, so clippy looks for no disallowed
//! method there. The others are looked for here, by their names.

use std::fs;
use std::path::Path;

use super::repository;

#[test]
fn tests_and_examples_neither_detach_tasks_nor_block_a_thread_nor_end_the_process() {
    let mut found = Vec::new();
    for folder in ["tests", "examples", "relay/benches"] {
        look(&repository().join(folder), &mut found);
    }
    assert!(found.is_empty(), "{found:#?}");
}

fn look(folder: &Path, found: &mut Vec<String>) {
    // In two parts, so that this file does not name them.
    let methods = [["tokio::", "spawn("], ["thread::", "sleep("], ["process::", "exit("]];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            look(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let lines: Vec<&str> = text.lines().collect();
            for (n, line) in lines.iter().enumerate() {
                let named = methods.iter().any(|method| line.contains(&method.concat()));
                let reasoned = lines[n.saturating_sub(2)..n]
                    .iter()
                    .any(|before| before.contains("clippy::disallowed_methods"));
                if named && !reasoned {
                    found.push(format!("{}:{}: {line}", path.display(), n + 1));
                }
            }
        }
    }
}
