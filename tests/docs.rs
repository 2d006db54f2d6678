//! The documentation, typed: every block that a reader would type is executed as it stands, in order.
//! Only addresses are put in the place of `localhost`.

mod block;
mod failure;
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

#[test]
fn no_other_page_has_anything_to_type() {
    let pages = |folder: PathBuf| {
        let entries = fs::read_dir(folder).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path())
    };
    for path in pages(repository()).chain(pages(repository().join("docs"))) {
        // The tests of outbox-inbox execute theirs.
        let elsewhere = path.ends_with("README.md") || path.ends_with("idempotency-http.md");
        if path.extension().is_some_and(|end| end == "md") && !elsewhere {
            let text = fs::read_to_string(&path).unwrap();
            let found: Vec<_> = blocks(&text).filter(|block| !block.language.is_empty()).collect();
            assert!(found.is_empty(), "nobody executes {}: {found:?}", path.display());
        }
    }
}
