//! Where a replay stands: piece after piece, in the order of the ids.

use super::Choice;

/// Messages that one transaction looks at. `@floor` is held meanwhile: half a second where the ledger has
/// 100,000 ranges and 10,000 open holes, a fraction of that where it is whole. `lock_timeout` is 5 s.
pub(super) const PIECE_ROWS: usize = 10_000;

/// Where the next piece lies.
pub(super) struct Pieces {
    /// What was asked for by id and is not looked at yet, ascending.
    ids: Option<Vec<i64>>,
    pub(super) after: i64,
    /// What is written after the first piece is none of this replay's.
    end: Option<i64>,
}

/// One piece.
pub(super) enum Part {
    /// These ids.
    Ids(Vec<i64>),
    /// So many messages after this id, up to that one.
    Range { after: i64, end: Option<i64> },
}

impl Part {
    /// Nothing up to this id belongs to it.
    pub(super) fn after(&self) -> i64 {
        match self {
            Self::Ids(ids) => ids.first().map_or(0, |id| id - 1),
            Self::Range { after, .. } => *after,
        }
    }
}

/// How far a piece has come.
pub(super) struct At {
    pub(super) id: i64,
    pub(super) end: i64,
}

impl Pieces {
    pub(super) fn new(choice: &Choice) -> Self {
        let after = choice.after_id.unwrap_or(0);
        let mut ids: Vec<i64> = choice.ids.iter().copied().filter(|&id| id > after).collect();
        ids.sort_unstable();
        ids.dedup();
        Self { ids: (!choice.ids.is_empty()).then_some(ids), after, end: None }
    }

    pub(super) fn next(&mut self) -> Option<Part> {
        let Some(ids) = &self.ids else {
            let done = self.end.is_some_and(|end| self.after >= end);
            return (!done).then_some(Part::Range { after: self.after, end: self.end });
        };
        let rest: Vec<i64> = ids.iter().copied().filter(|&id| id > self.after).collect();
        let part: Vec<i64> = rest.iter().copied().take(PIECE_ROWS).collect();
        self.ids = Some(rest);
        (!part.is_empty()).then_some(Part::Ids(part))
    }

    pub(super) fn passed(&mut self, at: At) {
        self.after = at.id;
        self.end = Some(at.end);
    }
}
