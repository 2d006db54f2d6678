//! Who decides, and why: what is recorded of every command that changes what becomes of messages.

use clap::builder::NonEmptyStringValueParser;

use crate::decision::Decision;

/// Who.
#[derive(Debug, clap::Args)]
pub(super) struct ByArg {
    /// Who decided it; recorded; the database role without it.
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    by: Option<String>,
}

/// Who, and why.
#[derive(Debug, clap::Args)]
pub(super) struct DecisionArgs {
    /// Why; recorded.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    by: ByArg,
}

impl ByArg {
    pub(super) fn name(&self) -> Option<&str> {
        self.by.as_deref()
    }
}

impl DecisionArgs {
    pub(super) fn decision(&self) -> Decision<'_> {
        Decision { by: self.by.name(), reason: self.reason.as_deref() }
    }
}
