//! What is asked for: the business's own table and the outbox, in one transaction.

use super::plan::Plan;
use crate::support::rng::Rng;
use crate::support::session::Session;

pub(crate) const TABLE: &str = "\
CREATE TABLE request (
    payment_id uuid PRIMARY KEY, topic text NOT NULL, account text NOT NULL, amount bigint NOT NULL, good boolean NOT NULL
)";

/// Comes by both brokers, and is published twice while everything ends.
pub(crate) const BY_BOTH: &str = "payment.requested";
/// These come by one broker, and once until the last replay: a consumer that loses what it has acknowledged
/// would be healed by any other copy.
pub(crate) const BY_RABBITMQ: &str = "payment.requested.rabbitmq";
pub(crate) const BY_KAFKA: &str = "payment.requested.kafka";

/// An account whose charges the provider never manages.
pub(crate) const CURSED: &str = "cursed";

/// Requests of one transaction.
const BATCH_ROWS: usize = 25;

const WRITE: &str = "\
INSERT INTO request (payment_id, topic, account, amount, good)
SELECT outbox.publish(
        r.topic, r.account, jsonb_build_object('account', r.account, 'amount', r.amount), NULL,
        'PaymentRequested'),
    r.topic, r.account, r.amount, r.good
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::boolean[]) AS r (topic, account, amount, good)";

#[derive(Debug, Clone)]
struct Request {
    topic: &'static str,
    account: String,
    /// In cents.
    amount: i64,
    good: bool,
}

/// Commits all requests of the plan.
pub(crate) async fn write(session: &Session, plan: &Plan) {
    for batch in requests(plan).chunks(BATCH_ROWS) {
        let topics: Vec<&str> = batch.iter().map(|r| r.topic).collect();
        let accounts: Vec<&str> = batch.iter().map(|r| r.account.as_str()).collect();
        let amounts: Vec<i64> = batch.iter().map(|r| r.amount).collect();
        let good: Vec<bool> = batch.iter().map(|r| r.good).collect();
        let written = session.execute(WRITE, &[&topics, &accounts, &amounts, &good]).await;
        written.unwrap_or_else(|error| panic!("the requests cannot be written: {error:?}"));
    }
}

/// Every other one asks for the same as the one before it: two payments, and the same bytes.
fn requests(plan: &Plan) -> Vec<Request> {
    let mut rng = Rng::new(plan.seed);
    let mut requests: Vec<Request> = Vec::with_capacity(plan.messages);
    while requests.len() < plan.messages {
        let account = format!("account-{}", rng.below(50));
        // Half of them by both, a quarter by each.
        let topic = [BY_BOTH, BY_RABBITMQ, BY_BOTH, BY_KAFKA][requests.len() / 2 % 4];
        let one = Request { topic, account, amount: 100 + rng.below(20_000) as i64, good: true };
        requests.extend([one.clone(), one]);
    }
    requests.truncate(plan.messages);
    let mut poisoned = 0;
    while poisoned < plan.poison {
        let at = rng.below(plan.messages as u64) as usize;
        let request = &mut requests[at];
        if request.good {
            request.good = false;
            // One that is wrong, which a look shows, and one that fails whenever it is tried.
            match poisoned % 2 {
                0 => request.amount = 0,
                _ => CURSED.clone_into(&mut request.account),
            }
            poisoned += 1;
        }
    }
    requests
}
