//! What a reader shows of itself, for `status` and the metrics.

use super::holder::HolderName;
use crate::cause::Cause;

/// The state of a reader, updated with every read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SourceStatus {
    /// The highest id ever read.
    pub hi: i64,
    /// The last id that was drawn, as of the last lock read.
    pub last_value: i64,
    /// Nothing visible was left at the last read.
    pub caught_up: bool,
    /// The budget is full: nothing is read until messages leave.
    pub full: bool,
    /// Open holes, in ranges: what `holes_max` limits.
    pub hole_ranges: usize,
    /// Open holes, in ids.
    pub hole_ids: u64,
    /// The lowest open hole.
    pub oldest_hole: Option<i64>,
    /// `holes_max` is reached: the reader serves the holes and does not advance.
    pub stalled: bool,
    /// Who has kept holes open for the longest time, once it is worth naming.
    pub holder: Option<HolderName>,
    /// A message of the last statement that found the table locked or timed out, until one succeeds.
    pub busy: Option<Cause>,
}
