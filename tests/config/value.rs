//! Mistakes in single values: type, unit, range, and what must fit together.

use std::time::Duration;

use insta::assert_snapshot;

use super::{AMQP, DATABASE, KAFKA, accepted, refused};

#[test]
fn text_for_a_number() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}[source]\nbatch_rows_max = \"many\"\n")), @r#"
    relay.toml:8:18: source.batch_rows_max = "many": expected a whole number, found text
    hint: write a number without quotes, such as 2000
    "#);
}

#[test]
fn a_number_in_quotes() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}[source]\nbatch_rows_max = \"2000\"\n")), @r#"
    relay.toml:8:18: source.batch_rows_max = "2000": expected a whole number, found text
    hint: write a number without quotes, such as 2000
    "#);
}

#[test]
fn a_decimal_number_for_a_whole_one() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}[source]\nbatch_rows_max = 1.5\n")), @"
    relay.toml:8:18: source.batch_rows_max = 1.5: expected a whole number, found a decimal number
    hint: write a number without quotes, such as 2000
    ");
}

#[test]
fn a_negative_number() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}[retention]\nkeep_rows_max = -1\n")), @"
    relay.toml:8:17: retention.keep_rows_max = -1: must be between 0 and 1000000000000
    hint: write a number without quotes, such as 10000000
    ");
}

#[test]
fn a_number_beyond_all_ranges() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}[source]\nholes_max = 9999999999999999999999999999999999999999999\n")), @"
    relay.toml:8:13: source.holes_max = 9999999999999999999999999999999999999999999: must be between 100 and 10000000
    hint: write a number without quotes, such as 100000
    ");
}

#[test]
fn an_address_to_listen_at() {
    let listen = |value: &str| format!("{DATABASE}{AMQP}[http]\nlisten = {value}\n");
    assert_snapshot!(refused(&listen("\"localhost:9464\"")), @r#"
    relay.toml:8:10: http.listen = "localhost:9464": not an address with a port
    hint: write an address and a port, such as "127.0.0.1:9464" or "[::]:9464"
    "#);
    assert_snapshot!(refused(&listen("9464")), @"
    relay.toml:8:10: http.listen = 9464: expected text, found a whole number
    hint: write it in quotes
    ");
    let http = accepted(&listen("\"[::]:9464\"")).http.expect("it listens");
    assert_eq!(http.listen.to_string(), "[::]:9464");
    assert!(accepted(&format!("{DATABASE}{AMQP}[http]\n")).http.is_none());
}

#[test]
fn dead_messages_that_are_removed_at_some_odd_time() {
    let dead = |value: &str| format!("{DATABASE}{AMQP}[retention]\ndead = \"{value}\"\n");
    assert_snapshot!(refused(&dead("soon")), @r#"
    relay.toml:8:8: retention.dead = "soon": neither "never" nor a duration
    hint: write "never", or an age such as "90d"
    "#);
    assert_snapshot!(refused(&dead("1m")), @r#"
    relay.toml:8:8: retention.dead = "1m": must be at least 1h
    hint: write "never", or an age such as "90d"
    "#);
    assert_eq!(accepted(&dead("never")).retention.dead, None);
    assert_eq!(accepted(&dead("2h")).retention.dead, Some(Duration::from_secs(7_200)));
}

#[test]
fn a_number_for_text() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}[log]\nlevel = 5\n")), @"
    relay.toml:8:9: log.level = 5: expected text, found a whole number
    hint: write it in quotes
    ");
}

#[test]
fn a_number_for_a_duration() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}[retention]\nkeep = 7\n")), @r#"
    relay.toml:8:8: retention.keep = 7: expected a duration, found a whole number
    hint: write a number with a unit: "500ms", "10s", "5m", "12h" or "7d"
    "#);
}

#[test]
fn a_duration_without_a_unit() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}[retention]\nkeep = \"7\"\n")), @r#"
    relay.toml:8:8: retention.keep = "7": not a duration: time unit needed, for example 7sec or 7ms
    hint: write a number with a unit: "500ms", "10s", "5m", "12h" or "7d"
    "#);
}

#[test]
fn a_duration_that_is_none() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}[retention]\nkeep = \"a week\"\n")), @r#"
    relay.toml:8:8: retention.keep = "a week": not a duration: expected number at 0
    hint: write a number with a unit: "500ms", "10s", "5m", "12h" or "7d"
    "#);
}

#[test]
fn a_duration_out_of_range() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}[lease]\nttl = \"0s\"\n")), @r#"
    relay.toml:8:7: lease.ttl = "0s": must be between 1s and 1h
    hint: the default is "5s"
    "#);
}

#[test]
fn a_number_for_a_size() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}[source]\nrow_bytes_max = 1048576\n")), @r#"
    relay.toml:8:17: source.row_bytes_max = 1048576: expected a size, found a whole number
    hint: write a number with a unit: "512KiB", "32MiB", "1GiB" (or "32MB" for 32,000,000 bytes)
    "#);
}

#[test]
fn a_size_without_a_unit() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}[source]\nrow_bytes_max = \"8\"\n")), @r#"
    relay.toml:8:17: source.row_bytes_max = "8": not a size: the unit is missing
    hint: write a number with a unit: "512KiB", "32MiB", "1GiB" (or "32MB" for 32,000,000 bytes)
    "#);
}

#[test]
fn a_size_with_an_unknown_unit() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}[source]\nrow_bytes_max = \"8 MIB/s\"\n")), @r#"
    relay.toml:8:17: source.row_bytes_max = "8 MIB/s": not a size: unknown unit
    hint: write a number with a unit: "512KiB", "32MiB", "1GiB" (or "32MB" for 32,000,000 bytes)
    "#);
}

#[test]
fn a_size_out_of_range() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}[source]\nrow_bytes_max = \"2GiB\"\n")), @r#"
    relay.toml:8:17: source.row_bytes_max = "2GiB": must be between 1B and 512MiB
    hint: the default is "8MiB"
    "#);
}

#[test]
fn a_very_long_value_is_cut() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}[lease]\nttl = \"{}\"\n", "long ".repeat(100))), @r#"
    relay.toml:8:7: lease.ttl = "long long long long long long long long long long long long long long long long…: not a duration: expected number at 0
    hint: write a number with a unit: "500ms", "10s", "5m", "12h" or "7d"
    "#);
}

#[test]
fn a_mode_that_is_not_there_yet() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}[source]\nmode = \"tail\"\n")), @r#"
    relay.toml:8:8: source.mode = "tail": not available yet
    hint: write mode = "poll", or leave it out
    "#);
}

#[test]
fn a_mode_that_is_none() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}[source]\nmode = \"pol\"\n")), @r#"
    relay.toml:8:8: source.mode = "pol": not "poll"
    hint: did you mean "poll"?
    "#);
}

#[test]
fn a_log_format_that_is_none() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}[log]\nformat = \"yaml\"\n")), @r#"
    relay.toml:8:10: log.format = "yaml": not one of "text", "json"
    hint: write "text" or "json"
    "#);
}

#[test]
fn a_log_level_that_is_none() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}[log]\nlevel = \"verbose\"\n")), @r#"
    relay.toml:8:9: log.level = "verbose": not a level
    hint: write a level (error, warn, info, debug, trace) or a filter such as "info,outbox_relay=debug"
    "#);
}

#[test]
fn a_log_filter_that_is_none() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}[log]\nlevel = \"outbox_relay=loud\"\n")), @r#"
    relay.toml:8:9: log.level = "outbox_relay=loud": not a filter: error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5
    hint: write a level (error, warn, info, debug, trace) or a filter such as "info,outbox_relay=debug"
    "#);
}

#[test]
fn a_schema_that_needs_quotes() {
    assert_snapshot!(refused(&format!("{DATABASE}schema = \"My Outbox\"\n{AMQP}")), @r#"
    relay.toml:3:10: database.schema = "My Outbox": schema name "My Outbox" is not made of a-z, 0-9 and _, beginning with a letter or _
    hint: name the one that `outbox-relay migrate` created
    "#);
}

#[test]
fn a_shortest_pause_above_the_longest() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}[source]\npoll_interval_min = \"1s\"\npoll_interval_max = \"5ms\"\n")), @r#"
    relay.toml:8:21: source.poll_interval_min = "1s": must not be above poll_interval_max, which is 5ms
    hint: lower poll_interval_min or raise poll_interval_max
    "#);
}

#[test]
fn a_longest_pause_below_the_shortest_of_the_defaults() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}outage_backoff_max = \"10ms\"\n")), @r#"
    relay.toml:7:22: target.orders.outage_backoff_max = "10ms": must not be below outage_backoff_min, which is 50ms
    hint: raise outage_backoff_max or lower outage_backoff_min
    "#);
}

#[test]
fn a_prefetch_smaller_than_a_batch() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}[source]\nprefetch_rows_max = 1000\n")), @"
    relay.toml:8:21: source.prefetch_rows_max = 1000: must not be below batch_rows_max, which is 2000
    hint: raise prefetch_rows_max or lower batch_rows_max
    ");
}

#[test]
fn a_prefetch_smaller_than_a_row() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}[source]\nrow_bytes_max = \"64MiB\"\n")), @r#"
    relay.toml:8:17: source.row_bytes_max = "64MiB": must not be above prefetch_bytes_max, which is 32MiB
    hint: lower row_bytes_max or raise prefetch_bytes_max
    "#);
}

#[test]
fn a_window_smaller_than_a_row() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}window_bytes_max = \"1MiB\"\n")), @r#"
    relay.toml:7:20: target.orders.window_bytes_max = "1MiB": must hold the largest row, source.row_bytes_max = 8MiB
    hint: raise window_bytes_max or lower source.row_bytes_max
    "#);
}

#[test]
fn a_ping_that_is_too_slow_for_the_lease() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}[lease]\nping_interval = \"3s\"\n")), @r#"
    relay.toml:8:17: lease.ping_interval = "3s": a ping every 3s cannot keep a lease of 5s, of which half is used
    hint: ping_interval must be below half of ttl; a fifth leaves room for a lost ping
    "#);
}

#[test]
fn a_lease_that_is_too_short_for_the_ping() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}[lease]\nttl = \"2s\"\n")), @r#"
    relay.toml:8:7: lease.ttl = "2s": a ping every 1s cannot keep a lease of 2s, of which half is used
    hint: ping_interval must be below half of ttl; a fifth leaves room for a lost ping
    "#);
}

#[test]
fn a_straggler_that_outlives_the_confirm_timeout() {
    assert_snapshot!(refused(&format!("{DATABASE}{KAFKA}straggler_after = \"1m\"\n")), @r#"
    relay.toml:7:19: target.lake.straggler_after = "1m": must not be above confirm_timeout, which is 30s
    hint: lower straggler_after or raise confirm_timeout
    "#);
}

#[test]
fn retry_pauses_in_the_wrong_order() {
    assert_snapshot!(refused(&format!("{DATABASE}{KAFKA}retry_backoff_min = \"10m\"\n")), @r#"
    relay.toml:7:21: target.lake.retry_backoff_min = "10m": must not be above retry_backoff_max, which is 5m
    hint: lower retry_backoff_min or raise retry_backoff_max
    "#);
}

#[test]
fn no_attempt_at_all() {
    assert_snapshot!(refused(&format!("{DATABASE}{KAFKA}attempts_max = 0\n")), @"
    relay.toml:7:16: target.lake.attempts_max = 0: must be between 1 and 1000000
    hint: write a number without quotes, such as 10
    ");
}

#[test]
fn a_variable_that_is_not_set() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}[log]\nlevel = \"${{LEVEL}}\"\n")), @r#"
    relay.toml:8:9: log.level = "${LEVEL}": the environment variable LEVEL is not set
    hint: set LEVEL to UTF-8 text in the environment of the relay, or write the value
    "#);
}

#[test]
fn a_variable_with_a_default() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}[log]\nlevel = \"${{LEVEL:-info}}\"\n")), @r#"
    relay.toml:8:9: log.level = "${LEVEL:-info}": `${LEVEL:-info}` is not the name of a variable
    hint: write `${NAME}`, or `$${` for a literal `${`; there are no defaults in here
    "#);
}

#[test]
fn a_variable_that_is_not_closed() {
    assert_snapshot!(refused(&format!("{DATABASE}{AMQP}[log]\nlevel = \"${{LEVEL\"\n")), @r#"
    relay.toml:8:9: log.level = "${LEVEL": `${` is not closed by `}`
    hint: write `${NAME}`, or `$${` for a literal `${`; there are no defaults in here
    "#);
}
