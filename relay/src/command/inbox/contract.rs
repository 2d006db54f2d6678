//! `outbox-relay inbox contract`: what a consumer promises, for its AsyncAPI document or its README.

use std::time::Duration;

use crate::command::{age, output};
use crate::exit::Failure;

/// Arguments of `inbox contract`.
#[derive(Debug, clap::Args)]
pub struct ContractArgs {
    /// The consumer's name.
    #[arg(long)]
    consumer: String,
    /// So long a processed message is remembered.
    #[arg(long, value_name = "AGE", default_value = "14d", value_parser = age::parse)]
    retention: Duration,
    /// So many attempts a message has.
    #[arg(long, default_value_t = outbox_inbox::DEFAULT_ATTEMPTS_MAX)]
    attempts_max: u32,
    /// Where messages go that were given up: a queue, a topic, or `inbox_failure`.
    #[arg(long, value_name = "NAME", default_value = "inbox_failure")]
    dead_letters: String,
}

pub(super) fn run(args: &ContractArgs) -> Result<(), Failure> {
    Ok(output::print(render(args).as_bytes())?)
}

fn render(args: &ContractArgs) -> String {
    let ContractArgs { consumer, retention, attempts_max, dead_letters } = args;
    let retention = humantime::format_duration(*retention);
    format!(
        "\
## Delivery and duplicates: `{consumer}`

`{consumer}` takes messages that are delivered at least once. A message that comes again, for whatever
reason, has no further effect in its database.

| | |
| --- | --- |
| Identity | the first of: AMQP property `message_id`; CloudEvents `id` within `source` (`ce_id`, `ce_source`; `cloudEvents:id`); header `id`. A UUID in any case; version 7 is recommended. Without one a message is not processed. |
| Same message | same id, and the same payload, key, type and `x-outbox-topic`. Another message under a known id is refused (`mismatch`). |
| Remembered for | {retention}, counted from the day in the id (version 7) or from processing (any other id). An older version 7 id is refused (`stale`), never processed again. |
| Attempts | {attempts_max}, with exponential back-off and full jitter; then the message is given up. |
| Given up | `{dead_letters}`; a person replays or discards it. |
| Sending again | always with the same id. A replay of everything is harmless. |
| Personal data | never in an id: ids are stored and logged. |

Not covered: effects outside the consumer's database without an idempotency key of the third party, and
transactions that were committed asynchronously and lost in a crash of the server.
"
    )
}
