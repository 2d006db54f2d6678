//! `outbox.uuidv7()`: PostgreSQL's own from 18 on, ours before.

use std::collections::HashSet;

use uuid::{Uuid, Variant};

use crate::support::database::Database;
use crate::support::services::Services;

#[tokio::test]
async fn ids_are_version_7_distinct_and_carry_the_time_they_were_made() {
    for server in [Services::postgres(), Services::postgres_18()] {
        // GIVEN
        let session = Database::create_on(&server).await.connect().await;

        // WHEN ids are made between two readings of the same clock
        let row = session
            .query_one(
                "WITH before AS MATERIALIZED (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS ms),
                 made AS MATERIALIZED (
                     SELECT array_agg(outbox.uuidv7()) AS ids FROM before, generate_series(1, 10000) WHERE ms > 0
                 )
                 SELECT ms, ids, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint FROM before, made",
                &[],
            )
            .await
            .unwrap();
        let (before, ids, after): (i64, Vec<Uuid>, i64) = (row.get(0), row.get(1), row.get(2));

        // THEN
        let times: Vec<i64> = ids.iter().map(|id| (id.as_u128() >> 80) as i64).collect();
        assert!(ids.iter().all(|id| id.get_version_num() == 7));
        assert!(ids.iter().all(|id| id.get_variant() == Variant::RFC4122));
        assert!(times.is_sorted(), "ids follow the clock, to the millisecond");
        assert!(before <= times[0] && times[times.len() - 1] <= after);
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());

        // AND every bit that is not time, version or variant varies
        let varying = ids.iter().fold(0, |bits, id| bits | (id.as_u128() ^ ids[0].as_u128()));
        let random = (((1_u128 << 12) - 1) << 64) | ((1_u128 << 62) - 1);
        assert_eq!(varying & random, random);
    }
}

#[tokio::test]
async fn every_row_of_one_statement_has_an_id_of_its_own() {
    let session = Database::create().await.connect().await;
    session
        .run("INSERT INTO outbox.message (topic) SELECT 't' FROM generate_series(1, 1000)")
        .await;
    let distinct = "SELECT count(DISTINCT message_id) FROM outbox.message";
    assert_eq!(session.count(distinct).await, 1000);
}
