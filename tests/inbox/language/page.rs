//! What the pages about other languages and about the contract show.

use std::fs;
use std::path::Path;

use crate::support::database::Database;
use crate::support::session::Session;

#[tokio::test]
async fn what_the_pages_show_works_as_it_stands() {
    // GIVEN what the pages take for granted
    let session = Database::create().await.connect().await;
    session.run("CREATE TABLE payment (id text NOT NULL, amount int NOT NULL)").await;
    // WHEN each block is executed, as far as that goes without its language
    let mut executed = Vec::new();
    for page in ["languages.md", "contract.md"] {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/inbox").join(page);
        let page = fs::read_to_string(page).unwrap();
        for block in page.split("```").skip(1).step_by(2) {
            let (language, text) = block.split_once('\n').unwrap();
            match language {
                "sql" => session.run(text).await,
                "go" => prepare(&session, text, '`').await,
                "java" => prepare(&session, text, '"').await,
                "json" => drop(serde_json::from_str::<serde_json::Value>(text).unwrap()),
                other => panic!("nobody executes blocks in {other}"),
            }
            executed.push(language.to_owned());
        }
    }
    // THEN none was missed, and what they say has happened
    assert_eq!(executed, ["sql", "sql", "sql", "sql", "go", "java", "json"]);
    let counts = ["payment", "outbox.inbox", "outbox.inbox_failure"];
    let mut counted = Vec::new();
    for table in counts {
        counted.push(session.count(&format!("SELECT count(*) FROM {table}")).await);
    }
    assert_eq!(counted, [1, 3, 1]);
}

/// Prepares each statement among the literals of a program: the database checks names and types.
async fn prepare(session: &Session, program: &str, quote: char) {
    let mut prepared = 0;
    for literal in program.split(quote).skip(1).step_by(2) {
        if !["SELECT ", "SET "].iter().any(|verb| literal.starts_with(verb)) {
            continue;
        }
        let mut text = literal.to_owned();
        // JDBC numbers its parameters by their order.
        for number in 1..=text.matches('?').count() {
            text = text.replacen('?', &format!("${number}"), 1);
        }
        session.prepare(&text).await.unwrap_or_else(|error| panic!("{text}: {error:?}"));
        prepared += 1;
    }
    assert_eq!(prepared, 3, "{program}");
}
