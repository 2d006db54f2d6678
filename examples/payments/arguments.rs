//! What it is told. Urls hold passwords: give them in the environment, where `ps` does not show them.

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(subcommand)]
    pub(crate) broker: Broker,
}

/// The same for either broker.
#[derive(clap::Args)]
pub(crate) struct Settings {
    /// The name of the logical consumer: all its instances have it, at every broker.
    #[arg(long, default_value = "payments")]
    pub(crate) consumer: String,
    /// Where inbox, outbox and payments are.
    #[arg(long, env = "PAYMENTS_DATABASE_URL", hide_env_values = true)]
    pub(crate) database_url: String,
    /// The payment provider: `http://host:port`.
    #[arg(long, env = "PAYMENTS_PROVIDER")]
    pub(crate) provider: String,
    /// Messages in hand at once, where the broker allows it.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) concurrency: u16,
    /// Failed attempts before a message is parked.
    #[arg(long, default_value_t = outbox_inbox::DEFAULT_ATTEMPTS_MAX)]
    pub(crate) attempts_max: u32,
    /// The first pause before another attempt.
    #[arg(long, default_value_t = 1000)]
    pub(crate) backoff_min_ms: u64,
    /// The longest one. Kafka takes a consumer for dead that does not poll for five minutes.
    #[arg(long, default_value_t = 60_000)]
    pub(crate) backoff_max_ms: u64,
    /// How long an attempt that was lost keeps the next one from calling the provider.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) step_lease_ms: u64,
}

#[derive(clap::Subcommand)]
pub(crate) enum Broker {
    /// From a queue of RabbitMQ.
    Rabbitmq(Queue),
    /// From a topic of Kafka.
    Kafka(Topic),
}

#[derive(clap::Args)]
pub(crate) struct Queue {
    #[arg(long, env = "PAYMENTS_AMQP_URL", hide_env_values = true)]
    pub(crate) url: String,
    /// A quorum queue with a dead letter exchange: what is parked goes there.
    #[arg(long)]
    pub(crate) queue: String,
}

#[derive(clap::Args)]
pub(crate) struct Topic {
    /// `host:port,…`
    #[arg(long, env = "PAYMENTS_KAFKA")]
    pub(crate) brokers: String,
    #[arg(long)]
    pub(crate) topic: String,
    #[arg(long, default_value = "payments")]
    pub(crate) group: String,
    /// The name of this process within the group, which it has again when it is started again.
    #[arg(long)]
    pub(crate) instance: Option<String>,
}
