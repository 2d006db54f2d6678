//! What the keeper knows of topics that no target takes.

use outbox_relay::keeper::unrouted::Unrouted;

use crate::keeper::outbox::Outbox;

const TAKES_ORDERS: &str = r#"[{"topic": "order.*", "type": null}]"#;

/// An outbox whose one target takes orders, and has recorded one topic by name and the rest together.
async fn outbox() -> Outbox {
    let outbox = Outbox::create().await;
    outbox.settle("lake", "{[1,100)}").await;
    outbox
        .run(&format!(
            "INSERT INTO outbox.route (target, hash, routes, taken)
             VALUES ('lake', 'a', '{TAKES_ORDERS}', '[{{\"topic\": \"order.%\", \"type\": null}}]')"
        ))
        .await;
    outbox
}

async fn write(outbox: &Outbox, topics: &[&str]) {
    for topic in topics {
        outbox.run(&format!("INSERT INTO outbox.message (topic) VALUES ('{topic}')")).await;
    }
}

async fn floor(outbox: &Outbox, floor: i64) {
    outbox
        .run(&format!(
            "BEGIN; SET LOCAL outbox_relay.keeper = 'on';
             DELETE FROM outbox.message WHERE id < {floor};
             UPDATE outbox.meta SET floor = {floor}; COMMIT"
        ))
        .await;
}

#[tokio::test]
async fn a_topic_counts_as_long_as_a_message_of_it_is_left() {
    // GIVEN three messages of a topic that nobody takes, and its record with the first
    let mut outbox = outbox().await;
    write(&outbox, &["oder", "order.1", "oder", "order.2", "oder", "order.3"]).await;
    outbox
        .run(
            "INSERT INTO outbox.unrouted (target, hash, topic, first_id, ids)
             VALUES ('lake', 'a', 'oder', 1, '{[1,4611686018427387905)}')",
        )
        .await;
    let schema = outbox.schema.clone();
    let mut unrouted = Unrouted::default();
    assert_eq!(unrouted.look(&mut outbox.session, &schema).await.unwrap(), Some(1));
    // WHEN retention passes the first, THEN the last one is found
    floor(&outbox, 3).await;
    assert_eq!(unrouted.look(&mut outbox.session, &schema).await.unwrap(), Some(1));
    assert_eq!(outbox.count("SELECT seen_id FROM outbox.unrouted").await, 5);
    // WHEN it passes that one as well, THEN the topic troubles nobody
    floor(&outbox, 6).await;
    assert_eq!(unrouted.look(&mut outbox.session, &schema).await.unwrap(), Some(0));
    // AND WHEN another is written, it does again
    write(&outbox, &["order.4", "oder"]).await;
    assert_eq!(unrouted.look(&mut outbox.session, &schema).await.unwrap(), Some(1));
    // AND WHEN a target takes everything, or the routes of one are unknown, there is none
    outbox.run("UPDATE outbox.route SET routes = '[{\"topic\": \"*\", \"type\": \"*\"}]'").await;
    assert_eq!(unrouted.look(&mut outbox.session, &schema).await.unwrap(), Some(0));
    outbox.run("DELETE FROM outbox.route").await;
    assert_eq!(unrouted.look(&mut outbox.session, &schema).await.unwrap(), None);
}

#[tokio::test]
async fn a_topic_without_a_row_of_its_own_is_found_among_all_others() {
    // GIVEN more topics than are recorded by name, which another target takes
    let mut outbox = outbox().await;
    outbox.settle("mill", "{[1,100)}").await;
    outbox
        .run(
            "INSERT INTO outbox.route (target, hash, routes, taken)
             VALUES ('mill', 'b', '[{\"topic\": \"tenant.*\"}]', '[]');
             INSERT INTO outbox.unrouted (target, hash, topic, first_id, ids, taken)
             SELECT 'lake', 'a', NULL, 1, '{[1,4611686018427387905)}', taken
             FROM outbox.route WHERE target = 'lake'",
        )
        .await;
    write(&outbox, &["order.1", "tenant.1", "tenant.2"]).await;
    let schema = outbox.schema.clone();
    let mut unrouted = Unrouted::default();
    assert_eq!(unrouted.look(&mut outbox.session, &schema).await.unwrap(), Some(0));
    // WHEN one comes that nobody takes, THEN it is found
    write(&outbox, &["tenant.3", "tenat.4"]).await;
    assert_eq!(unrouted.look(&mut outbox.session, &schema).await.unwrap(), Some(1));
    // AND a message of it is unrouted where nobody takes it, as is one of a tenant for the lake
    let unrouted = "outbox.message_state WHERE state = 'unrouted' AND target = 'lake'";
    assert_eq!(outbox.ids(unrouted).await, [2, 3, 4, 5]);
}

#[tokio::test]
async fn retention_trims_what_is_recorded() {
    // GIVEN a record that is closed, an empty one, one that stands open, and one of a kept message
    let mut outbox = Outbox::create().await;
    outbox.insert(9).await;
    outbox.settle("lake", "{[1,10)}").await;
    outbox
        .run(
            "INSERT INTO outbox.unrouted (target, hash, topic, first_id, ids) VALUES
             ('lake', 'a', 'closed', 1, '{[1,5)}'), ('lake', 'a', 'empty', 1, '{}'),
             ('lake', 'a', 'open', 1, '{[1,4611686018427387905)}'), ('lake', 'a', 'kept', 7, '{[7,9)}')",
        )
        .await;
    outbox.retry("lake", 8).await;
    // WHEN retention deletes everything that is not needed
    outbox.retain().await;
    // THEN those are left of which a message can be asked about
    let left: String = outbox
        .session
        .query_one("SELECT string_agg(topic, ' ' ORDER BY topic) FROM outbox.unrouted", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(left, "kept open");
}
