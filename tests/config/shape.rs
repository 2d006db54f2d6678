//! Mistakes of shape: what is not TOML, unknown keys, tables in the wrong place.

use insta::assert_snapshot;

use super::{AMQP, DATABASE, Folder, accepted, refused};

#[test]
fn a_file_that_is_not_there() {
    let folder = Folder::new("");
    std::fs::remove_file(folder.path()).unwrap();
    assert_snapshot!(folder.refused(&[]), @"
    relay.toml: cannot read the configuration: No such file or directory (os error 2)
    hint: name a regular file that is there and that the relay's user can read
    ");
}

#[test]
fn a_file_that_is_not_utf8() {
    let folder = Folder::new("").file("relay.toml", b"[database]\nurl = \"\xff\"\n");
    assert_snapshot!(folder.refused(&[]), @"
    relay.toml: cannot read the configuration: it is not UTF-8
    hint: name a regular file that is there and that the relay's user can read
    ");
}

#[test]
fn a_file_that_is_too_large() {
    assert_snapshot!(refused(&"# much\n".repeat(200_000)), @"
    relay.toml: cannot read the configuration: it is larger than 1048576 bytes
    hint: name a regular file that is there and that the relay's user can read
    ");
}

#[test]
fn text_without_quotes() {
    assert_snapshot!(refused("[database]\nurl = postgres://relay@db/app\n"), @"
    relay.toml:2:7: string values must be quoted, expected literal string
    hint: the file is TOML: text stands in quotes, see https://toml.io
    ");
}

#[test]
fn two_syntax_errors() {
    assert_snapshot!(refused("[database\nurl = \"x\"\n[source]\nmode = poll\n"), @"
    relay.toml:1:10: unclosed table, expected `]`
    hint: the file is TOML: text stands in quotes, see https://toml.io
    relay.toml:4:8: string values must be quoted, expected literal string
    hint: the file is TOML: text stands in quotes, see https://toml.io
    ");
}

#[test]
fn a_target_that_stands_twice() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}{AMQP}")), @"
    relay.toml:7:9: duplicate key `orders`
    hint: a key or a [table] stands once in a file; each target needs a name of its own
    ");
}

#[test]
fn an_empty_file() {
    assert_snapshot!(refused(""), @r#"
    relay.toml: database.url: a required key is missing
    hint: add url = "postgres://relay@db/app" to [database], or set OUTBOX_RELAY__DATABASE__URL
    relay.toml: target: there is no target
    hint: add a table [target.NAME] with kind = "amqp" or "kafka" and its routes
    "#);
}

#[test]
fn no_target() {
    assert_snapshot!(refused(DATABASE), @r#"
    relay.toml: target: there is no target
    hint: add a table [target.NAME] with kind = "amqp" or "kafka" and its routes
    "#);
}

#[test]
fn an_unknown_key_with_a_near_spelling() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}[source]\nbatch_row_max = 5\n")), @"
    relay.toml:8:1: source.batch_row_max: unknown key
    hint: did you mean `batch_rows_max`?
    ");
}

#[test]
fn an_unknown_key_like_no_other() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}[log]\ncolour = true\n")), @"
    relay.toml:8:1: log.colour: unknown key
    hint: known keys here: format, level
    ");
}

#[test]
fn an_unknown_table() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}[retentions]\nkeep = \"1d\"\n")), @"
    relay.toml:7:2: retentions: unknown key
    hint: did you mean `retention`?
    ");
}

#[test]
fn an_unknown_key_that_needs_quotes() {
    assert_snapshot!(refused(&format!("\"a.b\" = 1\n{DATABASE}{AMQP}")), @r#"
    relay.toml:1:1: "a.b": unknown key
    hint: no key of the configuration needs quotes
    "#);
}

#[test]
fn a_misspelt_required_key_is_one_mistake() {
    let toml = format!("[database]\nulr = \"postgres://relay:secret@db/app\"\n{AMQP}");
    assert_snapshot!(refused(&toml), @"
    relay.toml:2:1: database.ulr: unknown key
    hint: did you mean `url`?
    ");
}

#[test]
fn a_key_with_another_name() {
    let toml = format!(
        "{DATABASE}[target.lake]\nkind = \"kafka\"\nbootstrap_servers = \"k:9092\"\n\
                        routes = []\n[logging]\nlevel = \"info\"\n"
    );
    assert_snapshot!(refused(&toml), @"
    relay.toml:5:1: target.lake.bootstrap_servers: this key has another name here
    hint: write `brokers`
    relay.toml:6:1: target.lake.routes: this key has another name here
    hint: write `route`
    relay.toml:7:2: logging: this key has another name here
    hint: write `log`
    ");
}

#[test]
fn a_value_where_a_table_belongs() {
    assert_snapshot!(refused(&format!("source = \"poll\"\n{DATABASE}{AMQP}")), @"
    relay.toml:1:10: source: expected a table, found text
    hint: write [source] on a line of its own and its keys below
    ");
}

#[test]
fn a_list_where_a_table_belongs() {
    assert_snapshot!(refused(&format!("source = [\"poll\", 5]\n{DATABASE}{AMQP}")), @"
    relay.toml:1:10: source: expected a table, found an array
    hint: write [source] on a line of its own and its keys below
    ");
}

#[test]
fn a_table_where_a_value_belongs() {
    assert_snapshot!(refused(&format!("{DATABASE}schema.name = \"x\"\n{AMQP}")), @"
    relay.toml:3:1: database.schema: expected text, found a table
    hint: write it in quotes
    ");
}

#[test]
fn a_list_where_a_value_belongs() {
    assert_snapshot!(refused(&format!("{DATABASE}schema = [\"a\", \"b\"]\n{AMQP}")), @"
    relay.toml:3:10: database.schema: expected text, found an array
    hint: write it in quotes
    ");
}

#[test]
fn the_name_of_a_target() {
    let toml = format!(
        "{DATABASE}{AMQP}[target.Orders]\nkind = \"amqp\"\n[target.\"a.b\"]\n[target.1st]\n\
                        [target.{}]\n",
        "x".repeat(64)
    );
    assert_snapshot!(refused(&toml), @r#"
    relay.toml:7:9: target.Orders: not the name of a target
    hint: a name is 1 to 63 of a-z, 0-9 and _, and begins with a letter
    relay.toml:9:9: target."a.b": not the name of a target
    hint: a name is 1 to 63 of a-z, 0-9 and _, and begins with a letter
    relay.toml:10:9: target.1st: not the name of a target
    hint: a name is 1 to 63 of a-z, 0-9 and _, and begins with a letter
    relay.toml:11:9: target.xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx: not the name of a target
    hint: a name is 1 to 63 of a-z, 0-9 and _, and begins with a letter
    "#);
}

#[test]
fn a_target_that_is_no_table() {
    assert_snapshot!(refused(&format!("target.orders = \"amqp://mq\"\n{DATABASE}")), @"
    relay.toml:1:17: target.orders: expected a table, found text
    hint: write [target.orders] on a line of its own and its keys below
    ");
}

#[test]
fn several_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let toml = format!(
        "[source]\nmodus = 1\nbatch_rows_max = \"many\"\n{DATABASE}schema = 5\n\
         [lease]\nttl = \"soon\"\n{AMQP}starts = 1\n"
    );
    let message = Folder::new(&toml).refused(&[("OUTBOX_RELAY__RETENTION__KEEP", "for ever")]);
    assert_snapshot!(message, @r#"
    relay.toml:2:1: source.modus: unknown key
    hint: known keys here: mode, batch_rows_max, prefetch_rows_max, prefetch_bytes_max, row_bytes_max, holes_max, dead_ranges_max, poll_interval_min, poll_interval_max, idle_read_interval
    relay.toml:3:18: source.batch_rows_max = "many": expected a whole number, found text
    hint: write a number without quotes, such as 2000
    relay.toml:6:10: database.schema = 5: expected text, found a whole number
    hint: write it in quotes
    relay.toml:8:7: lease.ttl = "soon": not a duration: expected number at 0
    hint: write a number with a unit: "500ms", "10s", "5m", "12h" or "7d"
    relay.toml:13:1: target.orders.starts: unknown key
    hint: did you mean `start`?
    environment variable OUTBOX_RELAY__RETENTION__KEEP: retention.keep = "for ever": not a duration: expected number at 0
    hint: write a number with a unit: "500ms", "10s", "5m", "12h" or "7d"
    "#);
}

/// TOML has other forms for numbers and tables; all of them are accepted.
#[test]
fn other_forms_of_the_same() {
    let config = accepted(&format!(
        "source = {{ batch_rows_max = 1_000, holes_max = 0x1000 }}\n{DATABASE}{AMQP}\
         [[target.lake.route]]\ntopic = '*'\nkafka_topic = \"\"\"{{{{ topic }}}}\"\"\"\n\
         [target.lake]\nkind = 'kafka'\nbrokers = 'k'\nproperties.'client.id' = 'x'\n"
    ));
    assert_eq!((config.source.batch_rows_max, config.source.holes_max), (1_000, 4_096));
}
