//! Mistakes in routes.

use insta::assert_snapshot;

use super::{DATABASE, refused};

#[test]
fn no_route() {
    assert_snapshot!(refused(&format!("{DATABASE}[target.x]\nkind = \"amqp\"\nurl = \"amqp://mq\"\n")), @r#"
    relay.toml:3:9: target.x.route: a required key is missing
    hint: add route = [{ topic = "*", exchange = "events", routing_key = "{{ topic }}" }] to [target.x], or set OUTBOX_RELAY__TARGET__X__ROUTE
    "#);
}

#[test]
fn an_empty_list_of_routes() {
    assert_snapshot!(refused(&format!("{DATABASE}[target.x]\nkind = \"kafka\"\nbrokers = \"k:9092\"\nroute = []\n")), @r#"
    relay.toml:6:1: target.x.route: there is no route, so every row would be settled unsent
    hint: write route = [{ topic = "*", kafka_topic = "{{ topic }}" }]
    "#);
}

#[test]
fn a_route_that_is_no_list() {
    assert_snapshot!(refused(&format!("{DATABASE}[target.x]\nkind = \"kafka\"\nbrokers = \"k:9092\"\nroute = {{ topic = \"*\", kafka_topic = \"t\" }}\n")), @r#"
    relay.toml:6:9: target.x.route: expected an array of tables, found a table
    hint: write route = [{ topic = "…", … }]
    "#);
}

#[test]
fn a_route_that_is_text() {
    assert_snapshot!(refused(&format!("{DATABASE}[target.x]\nkind = \"kafka\"\nbrokers = \"k:9092\"\nroute = [\"orders\"]\n")), @r#"
    relay.toml:6:10: target.x.route[0]: expected a table, found text
    hint: write { KEY = "…", … }
    "#);
}

#[test]
fn a_route_without_a_topic() {
    assert_snapshot!(refused(&format!("{DATABASE}[target.x]\nkind = \"kafka\"\nbrokers = \"k:9092\"\nroute = [{{ kafka_topic = \"t\" }}]\n")), @r#"
    relay.toml:6:10: target.x.route[0].topic: a required key is missing
    hint: add topic = "*" to it
    "#);
}

#[test]
fn a_route_without_an_exchange() {
    assert_snapshot!(refused(&format!("{DATABASE}[target.x]\nkind = \"amqp\"\nurl = \"amqp://mq\"\nroute = [{{ topic = \"*\", routing_key = \"k\" }}]\n")), @r#"
    relay.toml:6:10: target.x.route[0].exchange: a required key is missing
    hint: add exchange = "events" to it
    "#);
}

#[test]
fn a_route_without_a_kafka_topic() {
    assert_snapshot!(refused(&format!("{DATABASE}[target.x]\nkind = \"kafka\"\nbrokers = \"k:9092\"\nroute = [{{ topic = \"*\" }}]\n")), @r#"
    relay.toml:6:10: target.x.route[0].kafka_topic: a required key is missing
    hint: add kafka_topic = "{{ topic }}" to it
    "#);
}

#[test]
fn a_route_with_keys_of_the_other_broker() {
    assert_snapshot!(refused(&format!("{DATABASE}[target.x]\nkind = \"kafka\"\nbrokers = \"k:9092\"\nroute = [{{ topic = \"*\", kafka_topic = \"t\", exchange = \"e\" }}]\n")), @r#"
    relay.toml:6:44: target.x.route[0].exchange: belongs to a target of kind = "amqp"
    hint: a route to Kafka has kafka_topic
    "#);
}

#[test]
fn a_route_of_kafka_in_an_amqp_target() {
    assert_snapshot!(refused(&format!("{DATABASE}[target.x]\nkind = \"amqp\"\nurl = \"amqp://mq\"\nroute = [{{ topic = \"*\", exchange = \"e\", kafka_topic = \"t\" }}]\n")), @r#"
    relay.toml:6:41: target.x.route[0].kafka_topic: belongs to a target of kind = "kafka"
    hint: a route to RabbitMQ has exchange and routing_key
    "#);
}

#[test]
fn an_unknown_key_in_the_second_route() {
    assert_snapshot!(refused(&format!("{DATABASE}[target.x]\nkind = \"amqp\"\nurl = \"amqp://mq\"\nroute = [\n  {{ topic = \"a\", exchange = \"e\" }},\n  {{ topic = \"*\", exchange = \"e\", routingkey = \"k\" }},\n]\n")), @"
    relay.toml:8:34: target.x.route[1].routingkey: unknown key
    hint: did you mean `routing_key`?
    ");
}

#[test]
fn a_key_of_a_route_with_another_name() {
    assert_snapshot!(refused(&format!("{DATABASE}[target.x]\nkind = \"amqp\"\nurl = \"amqp://mq\"\nroute = [{{ pattern = \"*\", exchange = \"e\" }}]\n")), @"
    relay.toml:6:12: target.x.route[0].pattern: this key has another name here
    hint: write `topic`
    ");
}

#[test]
fn a_pattern_that_is_empty() {
    assert_snapshot!(refused(&format!("{DATABASE}[target.x]\nkind = \"amqp\"\nurl = \"amqp://mq\"\nroute = [{{ topic = \"\", exchange = \"e\" }}]\n")), @r#"
    relay.toml:6:20: target.x.route[0].topic = "": an empty pattern matches nothing
    hint: `*` matches everything
    "#);
}

#[test]
fn a_pattern_of_another_language() {
    assert_snapshot!(refused(&format!("{DATABASE}[target.x]\nkind = \"amqp\"\nurl = \"amqp://mq\"\nroute = [{{ topic = \"order.#\", exchange = \"e\" }}]\n")), @r#"
    relay.toml:6:20: target.x.route[0].topic = "order.#": `#` has no meaning in a pattern
    hint: the only wildcard is `*`, which matches any characters, dots included
    "#);
}

#[test]
fn a_type_of_another_language() {
    assert_snapshot!(refused(&format!("{DATABASE}[target.x]\nkind = \"amqp\"\nurl = \"amqp://mq\"\nroute = [{{ topic = \"*\", type = \"created?\", exchange = \"e\" }}]\n")), @r#"
    relay.toml:6:32: target.x.route[0].type = "created?": `?` has no meaning in a pattern
    hint: the only wildcard is `*`, which matches any characters, dots included
    "#);
}

#[test]
fn a_template_with_an_unknown_variable() {
    assert_snapshot!(refused(&format!("{DATABASE}[target.x]\nkind = \"amqp\"\nurl = \"amqp://mq\"\nroute = [{{ topic = \"*\", exchange = \"{{{{ topik }}}}\" }}]\n")), @r#"
    relay.toml:6:36: target.x.route[0].exchange = "{{ topik }}": unknown variable `topik`
    hint: did you mean `topic`?
    "#);
}

#[test]
fn a_template_that_is_not_closed() {
    assert_snapshot!(refused(&format!("{DATABASE}[target.x]\nkind = \"kafka\"\nbrokers = \"k:9092\"\nroute = [{{ topic = \"*\", kafka_topic = \"{{{{ topic\" }}]\n")), @r#"
    relay.toml:6:39: target.x.route[0].kafka_topic = "{{ topic": `{{` has no counterpart
    hint: a variable is written `{{ topic }}`
    "#);
}

#[test]
fn a_routing_key_that_is_too_long() {
    assert_snapshot!(refused(&format!("{DATABASE}[target.x]\nkind = \"amqp\"\nurl = \"amqp://mq\"\n[[target.x.route]]\ntopic = \"*\"\nexchange = \"e\"\nrouting_key = \"{}\"\n", "k".repeat(256))), @r#"
    relay.toml:9:15: target.x.route[0].routing_key = "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk…: longer than 255 bytes
    hint: AMQP allows no longer name
    "#);
}

#[test]
fn a_kafka_topic_with_illegal_characters() {
    assert_snapshot!(refused(&format!("{DATABASE}[target.x]\nkind = \"kafka\"\nbrokers = \"k:9092\"\nroute = [{{ topic = \"*\", kafka_topic = \"orders/new\" }}]\n")), @r#"
    relay.toml:6:39: target.x.route[0].kafka_topic = "orders/new": not the name of a Kafka topic
    hint: a name is 1 to 249 of a-z, A-Z, 0-9, `.`, `_` and `-`, and neither `.` nor `..`
    "#);
}

#[test]
fn a_header_that_is_reserved() {
    assert_snapshot!(refused(&format!("{DATABASE}[target.x]\nkind = \"amqp\"\nurl = \"amqp://mq\"\nroute = [{{ topic = \"*\", exchange = \"e\", headers = {{ x-outbox-id = \"1\" }} }}]\n")), @"
    relay.toml:6:53: target.x.route[0].headers.x-outbox-id: `x-outbox-id` is reserved: `id`, `type` and `x-outbox-*` belong to the relay
    hint: give the header another name
    ");
}

#[test]
fn a_header_whose_value_is_no_text() {
    assert_snapshot!(refused(&format!("{DATABASE}[target.x]\nkind = \"kafka\"\nbrokers = \"k:9092\"\nroute = [{{ topic = \"*\", kafka_topic = \"t\", headers = {{ \"a.b\" = 5 }} }}]\n")), @r#"
    relay.toml:6:64: target.x.route[0].headers."a.b" = 5: expected text, found a whole number
    hint: write it in quotes
    "#);
}

#[test]
fn a_header_with_an_unknown_variable() {
    assert_snapshot!(refused(&format!("{DATABASE}[target.x]\nkind = \"kafka\"\nbrokers = \"k:9092\"\nroute = [{{ topic = \"*\", kafka_topic = \"t\", headers = {{ \"a.b\" = \"{{{{ header.x }}}}\" }} }}]\n")), @r#"
    relay.toml:6:64: target.x.route[0].headers."a.b" = "{{ header.x }}": unknown variable `header.x`
    hint: did you mean `headers.x`?
    "#);
}

#[test]
fn headers_that_are_a_list() {
    assert_snapshot!(refused(&format!("{DATABASE}[target.x]\nkind = \"kafka\"\nbrokers = \"k:9092\"\nroute = [{{ topic = \"*\", kafka_topic = \"t\", headers = [\"a\"] }}]\n")), @r#"
    relay.toml:6:54: target.x.route[0].headers: expected a table, found an array
    hint: write { KEY = "…", … }
    "#);
}
