//! Everything of a run but the processes: two databases, a queue, a topic, the provider, and networks
//! that can be cut.

use std::sync::Arc;

use outbox_inbox::schema::{self, DEFAULT_LOCK_TIMEOUT, Schema};

use super::control::Mistake;
use super::plan::Plan;
use super::provider::Provider;
use super::request;
use super::tally::Tally;
use crate::support::consumer::{AmqpDestination, Destination, KafkaDestination};
use crate::support::database::Database;
use crate::support::proxy::Proxy;
use crate::support::relay::{RelayConfig, quoted};
use crate::support::services::Services;
use crate::support::stage::unique;

const PAYMENTS: &str = include_str!("../../../examples/payments/payments.sql");
/// Of the controls: what they have in the place of an inbox.
const MISTAKES: &str =
    "CREATE TABLE seen (message_id text); CREATE TABLE claimed (message_id text PRIMARY KEY)";

/// Two consumers have two each.
const PARTITIONS: i32 = 4;

pub(crate) const TARGETS: [&str; 2] = ["amqp", "kafka"];

pub(crate) struct Rig {
    /// The producer's: requests and their outbox.
    pub(crate) requests: Database,
    /// The consumers': inbox, payments, and an outbox for the follow-ups.
    pub(crate) payments: Database,
    pub(crate) payments_role: String,
    /// As that role, through [`database_link`](Self::database_link).
    pub(crate) payments_url: String,
    pub(crate) database_link: Proxy,
    pub(crate) relay_role: String,
    pub(crate) relay: RelayConfig,
    /// As the servers know it: no network is in between.
    pub(crate) amqp: AmqpDestination,
    pub(crate) dead_letters: AmqpDestination,
    /// Through [`amqp_link`](Self::amqp_link).
    pub(crate) amqp_url: String,
    pub(crate) amqp_link: Proxy,
    pub(crate) kafka: KafkaDestination,
    pub(crate) provider: Provider,
    pub(crate) tally: Arc<Tally>,
    /// What the consumers do wrong, if this is a control.
    pub(crate) mistake: Option<Mistake>,
}

impl Rig {
    pub(crate) async fn set(plan: &Plan, mistake: Option<Mistake>) -> Self {
        let (requests, payments) = tokio::join!(Database::create(), Database::create());
        requests.connect().await.run(request::TABLE).await;
        let payments_role = prepare(&payments).await;
        let (database_link, payments_url) =
            Proxy::in_front_of(&payments.url_as(&payments_role)).await;

        let (amqp_link, amqp_url) = Proxy::in_front_of(&Services::amqp()).await;
        let name = unique();
        let amqp =
            AmqpDestination { url: Services::amqp(), exchange: name.clone(), queue: name.clone() };
        let declared = async {
            amqp.declare_exchange().await?;
            amqp.declare_queue_with_dead_letters().await
        };
        let dead_letters =
            declared.await.unwrap_or_else(|error| panic!("cannot declare {name}: {error}"));
        let kafka = KafkaDestination::create(&Services::kafka(), &name, PARTITIONS).await;

        let relay_role = requests.create_relay().await;
        let through = AmqpDestination { url: amqp_url.clone(), ..amqp.clone() };
        let relay = RelayConfig::new(&requests.url_as(&relay_role))
            .target(TARGETS[0], &Destination::Amqp(through))
            .target(TARGETS[1], &Destination::Kafka(kafka.clone()))
            .set(
                "target.amqp",
                "route",
                routes(
                    request::BY_RABBITMQ,
                    &format!("exchange = {name:?}, routing_key = \"all\""),
                ),
            )
            .set(
                "target.kafka",
                "route",
                routes(request::BY_KAFKA, &format!("kafka_topic = {name:?}")),
            )
            .set("log", "level", quoted("outbox_relay=info,warn"));

        let tally = Arc::new(Tally::default());
        let provider = Provider::open(plan.seed, plan.failures_per_mille, tally.clone()).await;
        Self {
            requests,
            payments,
            payments_role,
            payments_url,
            database_link,
            relay_role,
            relay,
            amqp,
            dead_letters,
            amqp_url,
            amqp_link,
            kafka,
            provider,
            tally,
            mistake,
        }
    }
}

/// What goes to a target: what goes to both, and what goes to this one.
fn routes(by_it: &str, destination: &str) -> String {
    let topics = [request::BY_BOTH, by_it];
    let route = |topic| format!("{{ topic = {topic:?}, {destination} }}");
    format!("[{}]", topics.map(route).join(", "))
}

/// Inbox, payments, and a role that may do what a consumer does, and no more.
async fn prepare(payments: &Database) -> String {
    let mut session = payments.connect().await;
    let migrated = schema::migrate(&mut session, &Schema::default(), DEFAULT_LOCK_TIMEOUT).await;
    if let Err(error) = migrated {
        panic!("cannot install the inbox: {error:?}");
    }
    session.run(PAYMENTS).await;
    session.run(MISTAKES).await;
    let role = payments.create_role("consumer").await;
    let grant = format!(
        "SELECT outbox.grant_inbox('{role}'::regrole), outbox.grant_writer('{role}'::regrole);
         GRANT INSERT ON payments TO {role};
         GRANT USAGE ON SEQUENCE payments_id_seq TO {role};
         GRANT SELECT, INSERT ON seen, claimed TO {role}"
    );
    session.run(&grant).await;
    role
}
