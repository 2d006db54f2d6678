//! Whole commands: what a person sees of each, and its exit code.

use std::fmt::Write as _;

use serde_json::Value;

use crate::keeper::outbox::Outbox;
use crate::support::database::Database;
use crate::support::relay::{RelayConfig, command, raw_command};
use crate::support::services::Services;

/// Targets `lake` and `new`.
fn config(database: &Database) -> RelayConfig {
    let config = RelayConfig::new(&database.url);
    ["target.lake", "target.new"].into_iter().fold(config, |config, target| {
        config.set(target, "kind", "\"kafka\"").set(target, "brokers", "\"127.0.0.1:1\"").set(
            target,
            "route",
            "[{ topic = \"*\", kafka_topic = \"t\" }]",
        )
    })
}

/// Ledgers of `lake` and `old`; three pending rows, one in retry, two dead; the same every time.
async fn outbox() -> Outbox {
    let outbox = Outbox::create().await;
    outbox
        .run(
            "INSERT INTO outbox.message (message_id, topic, type, key, headers, payload)
             SELECT ('01900000-0000-7000-8000-00000000000' || n)::uuid, 'order.placed', 'Order',
                    'key-' || n, '{\"tenant\": \"a\"}', 'secret'
             FROM generate_series(1, 6) AS n;
             ALTER TABLE outbox.message DISABLE TRIGGER refuse_update;
             UPDATE outbox.message SET created_at = now() - interval '1 h 30 s'",
        )
        .await;
    outbox.settle("lake", "{[1,4)}").await;
    outbox.settle("old", "{[1,7)}").await;
    outbox.retry("lake", 1).await;
    outbox.bury("lake", 2, "message of 9,000 bytes > 8,000").await;
    outbox.bury("lake", 3, "no\u{1b}[2J queue").await;
    outbox
        .run(
            "UPDATE outbox.ledger SET marked_at = '2026-01-02 03:04:05Z';
             UPDATE outbox.dead SET created_at = '2026-01-02 03:04:05Z',
                 died_at = '2026-01-02 03:04:05Z'::timestamptz + id * interval '1 s'",
        )
        .await;
    outbox
}

/// Runs it and says what a person would see.
async fn say(config: &RelayConfig, arguments: &[&str]) -> String {
    let output = command(config, arguments).await;
    let mut text = format!("$ outbox-relay {}\n", arguments.join(" "));
    text.push_str(&String::from_utf8_lossy(&output.stdout));
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    let code = output.status.code().expect("it ended by itself");
    writeln!(text, "exit {code}").expect("a String takes any text");
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn help() {
    let mut text = String::new();
    for path in [
        "",
        "run",
        "migrate",
        "check",
        "status",
        "dead",
        "dead list",
        "dead show",
        "dead requeue",
        "dead discard",
        "hold",
        "hold list",
        "hold release",
        "hold give-up",
        "replay",
        "prune",
        "target",
        "target list",
        "target remove",
        "target move",
        "target rename",
        "identity",
        "identity renew",
        "identity keep",
        "ledger",
        "ledger rebuild",
        "inbox",
        "inbox init",
        "inbox ddl",
        "inbox maintain",
        "inbox stats",
        "inbox lookup",
        "inbox check",
        "inbox forget",
        "inbox failures",
        "inbox failures list",
        "inbox failures show",
        "inbox failures replay",
        "inbox failures discard",
        "inbox keys",
        "inbox keys list",
        "inbox keys forget",
        "inbox doctor",
        "inbox verify",
        "inbox contract",
    ] {
        let arguments: Vec<&str> = path.split_whitespace().chain(["--help"]).collect();
        let output = raw_command(&arguments).await;
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        writeln!(text, "$ outbox-relay {}\n{help}", arguments.join(" ")).unwrap();
    }
    insta::assert_snapshot!(text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status() {
    let outbox = outbox().await;
    let text = say(&config(&outbox.database), &["status", "--sample", "0s"]).await;
    insta::assert_snapshot!(text, @r#"
    $ outbox-relay status --sample 0s
    TARGET  PENDING  OLDEST  RETRY  DEAD  HOLES  SETTLED/S  MARKED                LEADER
    lake    3        1h 0m   1      2     0      -          2026-01-02T03:04:05Z  none
    new     -        -       0      0     0      -          -                     none
    old     0        -       0      0     0      -          2026-01-02T03:04:05Z  none

    keeper   none
    last id  6
    floor    1; the rest is younger than keep, by target lake
    retry    lake: 1 refused and tried again
    warning  no relay works on target lake
    warning  target new has no ledger yet; its first run makes it
    warning  target old is not configured and holds retention back; hint: outbox-relay target remove old
    warning  there is no keeper, nothing is deleted
    exit 0
    "#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_as_json() {
    let outbox = outbox().await;
    let output = command(&config(&outbox.database), &["status", "--json", "--sample", "0s"]).await;
    let mut status: Value = serde_json::from_slice(&output.stdout).unwrap();
    // What differs each time.
    assert!(status["at"].take().is_string());
    let oldest = status["targets"][0]["oldest_pending_s"].take().as_f64().unwrap();
    assert!((3_630.0..7_200.0).contains(&oldest), "{oldest}");
    insta::assert_snapshot!(serde_json::to_string_pretty(&status).unwrap(), @r#"
    {
      "at": null,
      "floor": 1,
      "held": {
        "by": "keep",
        "target": "lake"
      },
      "intruders": [],
      "keeper": null,
      "last_id": 6,
      "late_rows": 0,
      "targets": [
        {
          "configured": true,
          "dead": 2,
          "dead_ranges": 0,
          "leader": null,
          "marked_at": "2026-01-02T03:04:05Z",
          "name": "lake",
          "oldest_pending_s": null,
          "open_holes": {
            "ids": 0,
            "lowest": null,
            "ranges": 0
          },
          "parked": [],
          "pending": {
            "at_least": false,
            "rows": 3
          },
          "retry": {
            "refused": 1
          },
          "settled_per_s": null,
          "started": true,
          "unsent": []
        },
        {
          "configured": true,
          "dead": 0,
          "dead_ranges": 0,
          "leader": null,
          "marked_at": null,
          "name": "new",
          "oldest_pending_s": null,
          "open_holes": {
            "ids": 0,
            "lowest": null,
            "ranges": 0
          },
          "parked": [],
          "pending": {
            "at_least": false,
            "rows": 0
          },
          "retry": {},
          "settled_per_s": null,
          "started": false,
          "unsent": []
        },
        {
          "configured": false,
          "dead": 0,
          "dead_ranges": 0,
          "leader": null,
          "marked_at": "2026-01-02T03:04:05Z",
          "name": "old",
          "oldest_pending_s": null,
          "open_holes": {
            "ids": 0,
            "lowest": null,
            "ranges": 0
          },
          "parked": [],
          "pending": {
            "at_least": false,
            "rows": 0
          },
          "retry": {},
          "settled_per_s": null,
          "started": true,
          "unsent": []
        }
      ],
      "troubles": [],
      "untaken": null,
      "writers": []
    }
    "#);
}

/// Issue 17: `dead list --target nope` said "no dead messages".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_does_not_exist_is_refused_with_those_that_do() {
    let outbox = outbox().await;
    let config = config(&outbox.database);
    for arguments in [
        &["dead", "list"][..],
        &["dead", "show", "--id", "1"],
        &["dead", "requeue", "--all"],
        &["dead", "discard", "--all", "--reason", "why"],
        &["hold", "list"],
        &["hold", "release", "--key", "k"],
        &["hold", "release", "--destination", "d"],
        &["replay", "--all"],
        &["ledger", "rebuild", "--yes"],
    ] {
        let text = say(&config, &[arguments, &["--target", "nope"]].concat()).await;
        assert!(text.contains("error: there is no target \"nope\" in the "), "{text}");
        assert!(text.contains("\nhint: there are: lake, ") && text.ends_with("exit 1\n"), "{text}");
    }
    let text = say(&config, &["target", "remove", "nope", "--yes"]).await;
    assert!(text.contains("hint: there are: lake, old\nexit 1"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn target_list() {
    let outbox = outbox().await;
    let config = config(&outbox.database);
    let mut text = say(&config, &["target", "list"]).await;
    text += &say(&config, &["target", "list", "--json"]).await;
    insta::assert_snapshot!(text, @r#"
    $ outbox-relay target list
    TARGET  CONFIGURED  LEDGER    MARKED                LEADER
    lake    yes         yes       2026-01-02T03:04:05Z  none
    new     yes         none yet  -                     none
    old     no          yes       2026-01-02T03:04:05Z  none
    exit 0
    $ outbox-relay target list --json
    [
      {
        "name": "lake",
        "configured": true,
        "started": true,
        "marked_at": "2026-01-02T03:04:05Z",
        "leader": null
      },
      {
        "name": "new",
        "configured": true,
        "started": false,
        "marked_at": null,
        "leader": null
      },
      {
        "name": "old",
        "configured": false,
        "started": true,
        "marked_at": "2026-01-02T03:04:05Z",
        "leader": null
      }
    ]
    exit 0
    "#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn target_remove() {
    let outbox = outbox().await;
    let config = config(&outbox.database);
    let mut text = String::new();
    for arguments in [
        &["target", "remove", "lake"][..],
        &["target", "remove", "lake", "--purge-dead", "--yes"],
        &["target", "remove", "old", "--yes", "--json"],
        &["target", "remove", "old", "--yes"],
    ] {
        text += &say(&config, arguments).await;
    }
    insta::assert_snapshot!(text, @r#"
    $ outbox-relay target remove lake
    target lake would be removed
    1 messages set aside for it would never be sent to it
    0 rows of holes would be deleted
    2 dead messages would be kept
    it is configured: the next run makes it again, as a new target
    error: nothing was changed
    hint: --yes, if that is what you want
    exit 2
    $ outbox-relay target remove lake --purge-dead --yes
    target lake removed
    1 messages set aside for it are never sent to it
    0 rows of holes deleted
    2 dead messages deleted
    it is configured: the next run makes it again, as a new target
    exit 0
    $ outbox-relay target remove old --yes --json
    {
      "retry_rows": 0,
      "hole_rows": 0,
      "dead_rows": 0
    }
    exit 0
    $ outbox-relay target remove old --yes
    error: there is no target "old" in the outbox
    hint: no target has a ledger yet; `outbox-relay run` makes it
    exit 1
    "#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ledger_rebuild() {
    let outbox = outbox().await;
    let config = config(&outbox.database);
    let mut text = String::new();
    for arguments in [
        &["ledger", "rebuild", "--target", "lake"][..],
        &["ledger", "rebuild", "--target", "lake", "--yes"],
        &["ledger", "rebuild", "--target", "nobody", "--yes"],
    ] {
        text += &say(&config, arguments).await;
    }
    insta::assert_snapshot!(text, @r#"
    $ outbox-relay ledger rebuild --target lake
    target lake: 6 messages would be pending, what lies below 1 is settled
    0 rows of holes, 1 retry rows and 2 dead messages would be replaced by that
    error: nothing was changed
    hint: --yes, if that is what you want
    exit 2
    $ outbox-relay ledger rebuild --target lake --yes
    target lake: 6 messages are pending, what lies below 1 is settled
    0 rows of holes, 1 retry rows and 2 dead messages are replaced by that
    exit 0
    $ outbox-relay ledger rebuild --target nobody --yes
    error: there is no target "nobody" in the outbox
    hint: there are: lake, old
    exit 1
    "#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_list_and_show() {
    let outbox = outbox().await;
    let config = config(&outbox.database);
    let mut text = String::new();
    for arguments in [
        &["dead", "list"][..],
        &["dead", "list", "--target", "lake", "--reason-contains", "9,000", "--json"],
        &["dead", "list", "--target", "nobody"],
        &["dead", "list", "--target", "new"],
        &["dead", "show", "--target", "lake", "--id", "3"],
        &["dead", "show", "--target", "lake", "--id", "3", "--json"],
        &["dead", "show", "--target", "lake", "--id", "4"],
    ] {
        text += &say(&config, arguments).await;
    }
    insta::assert_snapshot!(text, @r#"
    $ outbox-relay dead list
    TARGET  ID  DIED                  ATTEMPTS  BYTES  TOPIC         KEY    REASON
    lake    3   2026-01-02T03:04:08Z  3         6      order.placed  key-3  no\u{1b}[2J queue
    lake    2   2026-01-02T03:04:07Z  3         6      order.placed  key-2  message of 9,000 bytes > 8,000
    exit 0
    $ outbox-relay dead list --target lake --reason-contains 9,000 --json
    [
      {
        "target": "lake",
        "id": 2,
        "message_id": "01900000-0000-7000-8000-000000000002",
        "topic": "order.placed",
        "type": "Order",
        "key": "key-2",
        "attempts": 3,
        "class": "refused",
        "reason": "message of 9,000 bytes > 8,000",
        "created_at": "2026-01-02T03:04:05Z",
        "died_at": "2026-01-02T03:04:07Z",
        "payload_bytes": 6,
        "requeued": false
      }
    ]
    exit 0
    $ outbox-relay dead list --target nobody
    error: there is no target "nobody" in the outbox
    hint: there are: lake, new, old
    exit 1
    $ outbox-relay dead list --target new
    no dead messages
    exit 0
    $ outbox-relay dead show --target lake --id 3
    target      lake
    id          3
    message id  01900000-0000-7000-8000-000000000003
    topic       order.placed
    type        Order
    key         key-3
    headers     {"tenant": "a"}
    payload     6 bytes
    written     2026-01-02T03:04:05Z
    died        2026-01-02T03:04:08Z
    attempts    3
    class       refused
    reason      no\u{1b}[2J queue
    requeued    no
    exit 0
    $ outbox-relay dead show --target lake --id 3 --json
    {
      "target": "lake",
      "id": 3,
      "message_id": "01900000-0000-7000-8000-000000000003",
      "topic": "order.placed",
      "type": "Order",
      "key": "key-3",
      "attempts": 3,
      "class": "refused",
      "reason": "no\u001b[2J queue",
      "created_at": "2026-01-02T03:04:05Z",
      "died_at": "2026-01-02T03:04:08Z",
      "payload_bytes": 6,
      "requeued": false,
      "headers": {"tenant": "a"}
    }
    exit 0
    $ outbox-relay dead show --target lake --id 4
    error: message 4 is not dead for target "lake"
    hint: outbox-relay dead list --target lake
    exit 1
    "#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrate() {
    let database = Database::create_empty_on(&Services::postgres()).await;
    let config = config(&database);
    let mut text = String::new();
    for arguments in [
        &["migrate"][..],
        &["migrate"],
        &["migrate", "--doorbell", "off"],
        &["migrate", "--json"],
        &["migrate", "--grant-writer", "nobody_of_that_name"],
        &["migrate", "--after", "3"],
    ] {
        text += &say(&config, arguments).await;
    }
    insta::assert_snapshot!(text, @r#"
    $ outbox-relay migrate
    applied 0001 meta
    applied 0002 message
    applied 0003 guard
    applied 0004 ledger
    applied 0005 publish
    applied 0006 doorbell
    applied 0007 message_state
    applied 0008 grant
    schema outbox is at version 8
    doorbell: installed
    exit 0
    $ outbox-relay migrate
    schema outbox is at version 8
    doorbell: installed
    exit 0
    $ outbox-relay migrate --doorbell off
    schema outbox is at version 8
    doorbell: not installed
    exit 0
    $ outbox-relay migrate --json
    {
      "schema": "outbox",
      "version": 8,
      "applied": [],
      "doorbell": {
        "installed": false,
        "changed": false
      },
      "writers": [],
      "relays": []
    }
    exit 0
    $ outbox-relay migrate --grant-writer nobody_of_that_name
    error: failed while granting rights to "nobody_of_that_name": role "nobody_of_that_name" does not exist (SQLSTATE 42704)
    hint: what was applied before stays; run it again once this is solved
    exit 1
    $ outbox-relay migrate --after 3
    error: the following required arguments were not provided:
      --print

    Usage: outbox-relay migrate --print --after <VERSION> --config <FILE>

    For more information, try '--help'.
    exit 2
    "#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrate_by_url_encrypts_if_it_is_told_to() {
    // GIVEN a server without TLS
    let database = Database::create_empty_on(&Services::postgres()).await;
    let url = ["migrate", "--url", &database.url];
    // WHEN TLS is asked for THEN nothing is sent in plain text
    let output = raw_command(&[&url[..], &["--tls"]].concat()).await;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("TLS"), "{text}");
    let output = raw_command(&[&url[..], &["--ca-file", "/nowhere/ca.crt"]].concat()).await;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("/nowhere/ca.crt"), "{text}");
    // AND else it is migrated
    assert!(raw_command(&url).await.status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrate_prints_what_follows_a_version() {
    let print = async |after: &str| {
        let output = raw_command(&["migrate", "--print", "--after", after]).await;
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let seven = print("7").await;
    let files: Vec<_> = seven.lines().filter(|line| line.starts_with("-- schema/")).collect();
    assert_eq!(files, ["-- schema/0008_grant.sql"]);
    insta::assert_snapshot!(print("8").await, @r#"
    -- The outbox in schema outbox, nothing after version 8, as one transaction.
    --   psql -v ON_ERROR_STOP=1 -f this-file
    -- A tool that opens a transaction itself does not want the first and the last statement.
    -- PostgreSQL 14.1 or newer; psql 14 or newer.

    BEGIN;
    SET LOCAL lock_timeout = 5000;
    SET LOCAL search_path = pg_catalog, pg_temp;
    SET LOCAL client_min_messages = warning;
    SELECT pg_advisory_xact_lock(hashtextextended('outbox-relay migrate outbox', 0));
    DO $prologue$
    BEGIN
        IF to_regnamespace('"outbox"') IS NULL THEN
            CREATE SCHEMA "outbox";
        END IF;
    END
    $prologue$;

    UPDATE outbox.meta SET place = outbox.place() WHERE place IS NULL;
    SELECT outbox.install_doorbell();
    COMMIT;
    "#);
}
