//! The documentation, typed: every block that a reader would type is executed as it stands, in order.
//! Only addresses are put in the place of `localhost`.

mod block;
mod coverage;
mod failure;
mod link;
mod method;
mod named;
mod scene;

use std::fs;
use std::path::{Path, PathBuf};

use block::{Block, blocks};
use scene::Scene;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a package in a workspace").into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_readme_works_as_it_is_typed() {
    // GIVEN what it takes for granted, and nothing else
    let mut scene = Scene::set().await;

    // WHEN each block is typed
    let text = fs::read_to_string(repository().join("README.md")).unwrap();
    let mut typed = Vec::new();
    for Block { language, text } in blocks(&text) {
        match language {
            "sh" => scene.shell(text).await,
            "sql" => scene.sql_as_app(text).await,
            "toml" => scene.write_config(text),
            "" => continue,
            other => panic!("nobody executes blocks in {other}:\n{text}"),
        }
        typed.push(language);
    }

    // THEN none was missed, and the message of the example has arrived at both brokers
    assert_eq!(typed, ["sh", "sh", "sql", "toml", "sh", "sh"]);
    scene.assert_arrived().await;
}

/// The pages of the repository.
fn pages() -> Vec<PathBuf> {
    let folders =
        ["", "docs", "docs/inbox", "docs/reactions"].map(|folder| repository().join(folder));
    let entries = folders.into_iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|end| end == "md")).collect()
}

#[test]
fn no_other_page_has_anything_to_type() {
    // The tests of outbox-inbox execute theirs.
    let elsewhere = ["README.md", "idempotency-http.md", "inbox/languages.md", "inbox/contract.md"];
    for path in pages() {
        if !elsewhere.iter().any(|page| path.ends_with(page)) {
            let text = fs::read_to_string(&path).unwrap();
            let found: Vec<_> = blocks(&text).filter(|block| !block.language.is_empty()).collect();
            assert!(found.is_empty(), "nobody executes {}: {found:?}", path.display());
        }
    }
}
