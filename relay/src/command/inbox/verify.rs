//! `outbox-relay inbox verify`: the duplicate side-effect rate, from the effects themselves.

use anyhow::anyhow;

use super::place::PlaceArgs;
use crate::admin::inbox::verify::{self, Verified};
use crate::command::{link, output};
use crate::config::Config;
use crate::exit::Failure;

/// Arguments of `inbox verify`.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// The consumer whose effects they are.
    #[arg(long)]
    consumer: String,
    /// A query with two columns, message id and number of effects, such as `SELECT message_id, count(*)
    /// FROM payment GROUP BY message_id`. It can write nothing.
    #[arg(long, value_name = "QUERY")]
    sql: String,
    #[command(flatten)]
    place: PlaceArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(
    args: VerifyArgs,
    load: impl FnOnce() -> Result<Config, Failure>,
) -> Result<(), Failure> {
    let (mut session, schema) = args.place.connect(load).await?;
    let verified = verify::verify(&mut session, &schema, &args.consumer, &args.sql).await;
    let verified = verified.map_err(link::in_database)?;
    output::answer(args.json, &verified, || render(&verified))?;
    match verified.duplicate_effects {
        0 => Ok(()),
        n => {
            Err(anyhow!("{n} effects happened more than once\nhint: outbox-relay inbox lookup ID")
                .into())
        }
    }
}

fn render(verified: &Verified) -> String {
    let Verified { messages, duplicate_effects, duplicate_rate, unclaimed, named } = verified;
    let mut text = format!(
        "messages with an effect   {messages}\nduplicate effects         {duplicate_effects} ({:.4} %)\nnot claimed in the inbox  {unclaimed}\n",
        duplicate_rate * 100.0
    );
    for id in named {
        text.push_str(&format!("more than once: {}\n", crate::command::table::printable(id, 200)));
    }
    text
}
