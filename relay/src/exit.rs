//! How the process ends: exit codes as the service manager reads them.

use std::fmt;
use std::process::ExitCode;

/// Why a command did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// Exit 1: restart me.
    Failed(anyhow::Error),
    /// Exit 2: it was not asked for in full.
    Usage(anyhow::Error),
    /// Exit 78 (EX_CONFIG): do not restart me, a person must act first.
    Configuration(anyhow::Error),
}

impl Failure {
    /// A failure that no restart mends.
    pub fn configuration(error: impl Into<anyhow::Error>) -> Self {
        Self::Configuration(error.into())
    }

    /// 1, 2 or 78; clap itself ends with 2 as well.
    #[must_use]
    pub fn code(&self) -> ExitCode {
        match self {
            Self::Failed(_) => ExitCode::from(1),
            Self::Usage(_) => ExitCode::from(2),
            Self::Configuration(_) => ExitCode::from(78),
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// The cause chain on one line; hints, which stand behind a line break, last.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Failed(error) | Self::Usage(error) | Self::Configuration(error)) = self;
        let mut hints = Vec::new();
        for (n, cause) in error.chain().enumerate() {
            let text = cause.to_string();
            let (what, hint) = match text.split_once("\nhint: ") {
                // A list of problems carries its own hints.
                Some((_, rest)) if rest.contains('\n') => (text.as_str(), None),
                Some((what, hint)) => (what, Some(hint.to_owned())),
                None => (text.as_str(), None),
            };
            write!(f, "{}{what}", if n == 0 { "" } else { ": " })?;
            hints.extend(hint);
        }
        hints.iter().try_for_each(|hint| write!(f, "\nhint: {hint}"))
    }
}
