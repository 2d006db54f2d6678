//! I8: what a reader holds is bounded in bytes, whatever the rows.

use outbox_relay::config::SourceConfig;

use super::consumer::{Consumer, limits};
use crate::support::database::Database;

const MIB: usize = 1 << 20;

/// Row `n` has `n mod 4` = 3: 1 MB, 2: 5 kB, else 100 bytes, filled with its own number.
const MIXED: &str = "
INSERT INTO outbox.message (topic, payload)
SELECT 'x', convert_to(repeat(chr(65 + n % 26), CASE n % 4 WHEN 3 THEN 1048576 WHEN 2 THEN 5000 ELSE 100 END), 'UTF8')
FROM generate_series(1, 60) n";

#[tokio::test]
async fn i8_large_rows_stay_within_the_prefetch_and_one_row() {
    // GIVEN 15 MB of large rows among small ones, and 4 MB to hold them
    let database = Database::create().await;
    database.connect().await.run(MIXED).await;
    let limits = SourceConfig { prefetch_bytes_max: 4 * MIB, batch_rows_max: 200, ..limits() };
    let bound = limits.prefetch_bytes_max + MIB + 1024;
    // WHEN they are read by somebody who takes his time
    let mut consumer = Consumer::start(&database, limits).await;
    let mut next = 1;
    let mut peak = 0;
    while next <= 60 {
        let batch = consumer.batch_in_hand().await;
        peak = peak.max(consumer.budget.used().1);
        for row in &batch.rows {
            assert_eq!(row.message.id(), next);
            let payload = row.message.payload().expect("every row has a payload");
            let bytes = match next % 4 {
                3 => MIB,
                2 => 5000,
                _ => 100,
            };
            assert_eq!(payload.len(), bytes);
            let byte = 65 + u8::try_from(next % 26).expect("small");
            assert!(payload.iter().all(|&b| b == byte), "row {next}");
            next += 1;
        }
        consumer.release(&batch.rows);
    }
    // THEN all came in order, and memory stayed within the prefetch and one row
    assert!(peak <= bound, "{peak} > {bound}");
    assert!(peak > MIB);
    consumer.spent_all().await;
}

#[tokio::test]
async fn i8_a_full_budget_stops_the_reader_until_rows_leave() {
    // GIVEN room for 50 rows, and nobody who releases any
    let database = Database::create().await;
    let session = database.connect().await;
    session.run("INSERT INTO outbox.message (topic) SELECT 'x' FROM generate_series(1, 200)").await;
    let limits = SourceConfig { prefetch_rows_max: 50, batch_rows_max: 20, ..limits() };
    let mut consumer = Consumer::start(&database, limits).await;
    let first = consumer.batch_in_hand().await.rows;
    let second = consumer.batch_in_hand().await.rows;
    // THEN it waits before the third read of 20
    consumer.status(|status| status.full).await;
    assert_eq!(consumer.budget.used().0, 40);
    // WHEN rows leave
    consumer.release(&first);
    consumer.release(&second);
    // THEN it goes on
    assert_eq!(consumer.ids(160).await, (41..=200).collect::<Vec<i64>>());
}

#[tokio::test]
async fn i8_a_row_above_row_bytes_max_comes_without_its_payload() {
    // GIVEN a row at the limit and one above it
    let database = Database::create().await;
    let session = database.connect().await;
    session
        .run("INSERT INTO outbox.message (topic, payload) SELECT 'x', decode(repeat('00', n), 'hex') FROM (VALUES (100000), (100001)) v (n)")
        .await;
    let limits = SourceConfig { row_bytes_max: 100_000, ..limits() };
    // WHEN they are read
    let mut consumer = Consumer::start(&database, limits).await;
    let rows = consumer.read_until(|consumer| consumer.settled.ids_len() == 2).await;
    // THEN the longer one has a size and no payload
    assert_eq!(rows[0].message.payload().map(<[u8]>::len), Some(100_000));
    assert_eq!(rows[0].message.oversize_bytes(), None);
    assert_eq!(rows[1].message.payload(), None);
    assert_eq!(rows[1].message.oversize_bytes(), Some(100_001));
}
