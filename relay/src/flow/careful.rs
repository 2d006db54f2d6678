//! A message that ends the process (a bug of a client library, memory that does not suffice) would end
//! it again and again. After several lives in a row that ended early, messages are sent one at a time,
//! and each is recorded before it is sent: the one that was started and never finished is found.

use super::Flow;
use super::item::Item;
use crate::ledger::Mark;

/// Lives that ended early, in a row, from which on a life is careful.
pub const CRASHES_MAX: u32 = 5;

/// Times that a message was started by a process that ended, from which on it is given up.
const STARTS_MAX: u32 = 2;

/// Messages that are sent carefully; what ended the process was among the first.
const CAREFUL_MESSAGES: u32 = 1_000;

/// How the lives before this one ended, as the ledger has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Past {
    /// Lives that ended early, in a row.
    pub crashes: u32,
    /// The message that careful lives had started when they ended, and how many of them in a row.
    pub suspect: Option<(i64, u32)>,
}

/// The care of one life.
#[derive(Debug, Default)]
pub(super) struct Careful {
    /// Messages that are still to be sent with care.
    left: u32,
    culprit: Option<(i64, u32)>,
    /// The next to be sent, once its start is recorded.
    next: Option<Item>,
    /// Its start is recorded.
    recorded: bool,
    wanted: bool,
    /// The search is over.
    found: bool,
}

impl Careful {
    pub(super) fn new(past: Past) -> Self {
        let careful = past.crashes >= CRASHES_MAX;
        if careful {
            tracing::error!(
                lives = past.crashes,
                "several lives ended early: messages are sent one at a time until one is found to blame"
            );
        }
        Self {
            left: if careful { CAREFUL_MESSAGES } else { 0 },
            culprit: past.suspect.filter(|_| careful),
            ..Self::default()
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.left == 0 && self.next.is_none()
    }

    /// Whether no message waits for its start to be recorded.
    pub(super) fn is_idle(&self) -> bool {
        self.next.is_none()
    }

    /// Whether a mark must record a start.
    pub(super) fn has_work(&self) -> bool {
        self.wanted || self.found
    }

    pub(super) fn complete(&mut self, mark: &mut Mark) {
        mark.ended |= std::mem::take(&mut self.found);
        if std::mem::take(&mut self.wanted) {
            mark.started = self.next.as_ref().map(Item::id);
        }
    }

    pub(super) fn marked(&mut self, mark: &Mark) {
        let next = self.next.as_ref().map(Item::id);
        self.recorded |= mark.started.is_some() && mark.started == next;
    }
}

impl Flow {
    /// The next message of a careful life: at most one is in flight, and its start is recorded.
    pub(super) fn next_careful(&mut self) -> Option<Item> {
        if self.window.messages() > 0 {
            return None;
        }
        if self.careful.next.is_none() {
            let item = self.next_item()?;
            match self.careful.culprit {
                Some((id, starts)) if id == item.id() && starts >= STARTS_MAX => {
                    self.careful.culprit = None;
                    let reason =
                        format!("the process ended {starts} times while sending this message");
                    tracing::error!(
                        id,
                        starts,
                        "found the message that ends the process: it is dead"
                    );
                    self.bury(&item, starts, reason);
                    self.leave_lane(&item);
                    return None;
                }
                _ => {
                    self.careful.wanted = true;
                    self.careful.recorded = false;
                    self.careful.next = Some(item);
                }
            }
        }
        if !std::mem::take(&mut self.careful.recorded) {
            return None;
        }
        self.careful.left = self.careful.left.saturating_sub(1);
        self.careful.found = self.careful.left == 0;
        self.careful.next.take()
    }
}
