//! `outbox-relay identity renew | keep`: for an outbox that was copied or moved.

use super::decision::DecisionArgs;
use super::owner::OwnerArgs;
use super::{link, output, unless_confirmed};
use crate::admin::identity::{self, Identity};
use crate::config::Config;
use crate::database::Session;
use crate::exit::Failure;

/// `identity …`
#[derive(Debug, clap::Subcommand)]
pub enum IdentityCommand {
    /// This database is a copy: give its outbox an id of its own, with locks and fences of its own.
    Renew(IdentityArgs),
    /// This database is the original, which was moved (dump and restore, pg_upgrade): keep its id.
    Keep(IdentityArgs),
}

/// Arguments of both.
#[derive(Debug, clap::Args)]
pub struct IdentityArgs {
    #[command(flatten)]
    owner: OwnerArgs,
    /// Do it; without this, only say what would be done.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    decision: DecisionArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Renews or keeps the identity.
///
/// # Errors
/// A relay works on the database (`renew`); the role is not the owner; `--yes` is missing (nothing
/// was changed); the database cannot be reached or refuses.
pub async fn run(
    command: IdentityCommand,
    load: impl FnOnce() -> Result<Config, Failure>,
) -> Result<(), Failure> {
    let (renews, args) = match command {
        IdentityCommand::Renew(args) => (true, args),
        IdentityCommand::Keep(args) => (false, args),
    };
    let IdentityArgs { owner, yes, decision, json } = args;
    let (database, schema) = owner.resolve(load)?;
    let session = Session::connect(&database, "outbox-relay identity").await;
    let mut session = session.map_err(link::in_database)?;
    let decision = decision.decision();
    let identity = if renews {
        identity::renew(&mut session, &schema, &decision, !yes).await
    } else {
        identity::keep(&mut session, &schema, &decision, !yes).await
    };
    let identity = identity.map_err(link::in_admin)?;
    output::answer(json, &identity, || render(&identity, renews, yes))?;
    unless_confirmed(yes)
}

fn render(identity: &Identity, renews: bool, yes: bool) -> String {
    let Identity { former_id, outbox_id, former_place, place, doorbell, .. } = identity;
    let would = if yes { "" } else { "would be " };
    let former_place = former_place.as_deref().unwrap_or("not noted");
    let place = format!("place: {former_place} before, {place} now\n{}", overlap(identity, yes));
    if !renews {
        return format!("outbox {outbox_id} {would}kept where it is\n{place}");
    }
    let doorbell = if *doorbell { "installed anew" } else { "left out, as before" };
    format!(
        "outbox {former_id} {would}renewed{now}\n\
         {place}\
         doorbell {would}{doorbell}\n\
         each target {would}told where it points at its next run\n",
        now = if yes { format!(": it is {outbox_id}") } else { String::new() },
    )
}

/// What was found of ids that were drawn, or would be drawn, a second time.
fn overlap(identity: &Identity, yes: bool) -> String {
    let (are, is) = if yes { ("are", "is") } else { ("would be", "would be") };
    let mut text = String::new();
    if identity.released_rows > 0 {
        let rows = identity.released_rows;
        text += &format!(
            "{rows} rows were written after the last mark, under ids that count as sent: they \
             {are} pending again\n"
        );
    }
    if let Some(id) = identity.advanced_to {
        text += &format!(
            "the sequence of message.id is behind the ledgers: it {is} advanced to {id}\n"
        );
    }
    text
}
