//! What keeps a pipeline that leads from its work at the database: marks or reads that fail again and
//! again, on sessions that are well.

use tokio::sync::watch;

use crate::cause::Cause;
use crate::source::SourceStatus;

/// What the writer and the reader say of themselves.
pub(super) struct Trouble {
    marks: watch::Receiver<Option<Cause>>,
    source: watch::Receiver<SourceStatus>,
    /// What was last shown.
    shown: Option<Cause>,
}

impl Trouble {
    pub(super) fn new(
        marks: watch::Receiver<Option<Cause>>,
        source: watch::Receiver<SourceStatus>,
    ) -> Self {
        Self { marks, source, shown: None }
    }

    /// What it is now: the marks first, since what cannot be marked is sent again after a crash.
    pub(super) fn cause(&self) -> Option<Cause> {
        self.marks.borrow().clone().or_else(|| self.source.borrow().busy.clone())
    }

    /// Whether it is something else than what was shown; it counts as shown then.
    pub(super) fn has_changed(&mut self) -> bool {
        // Without a copy while all is well, which is nearly always.
        let (marks, source) = (self.marks.borrow(), self.source.borrow());
        let same = marks.as_ref().or(source.busy.as_ref()) == self.shown.as_ref();
        drop((marks, source));
        if !same {
            self.shown = self.cause();
        }
        !same
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once() {
        let (marks, marks_seen) = watch::channel(None);
        let (source, source_seen) = watch::channel(SourceStatus::default());
        let mut trouble = Trouble::new(marks_seen, source_seen);
        assert!(!trouble.has_changed());
        source.send_modify(|status| status.busy = Some("locked".into()));
        assert!(trouble.has_changed() && !trouble.has_changed());
        marks.send_replace(Some("disk full".into()));
        assert!(trouble.has_changed());
        assert_eq!(trouble.cause(), Some("disk full".into()));
        marks.send_replace(None);
        source.send_modify(|status| status.busy = None);
        assert!(trouble.has_changed() && trouble.cause().is_none());
    }
}
