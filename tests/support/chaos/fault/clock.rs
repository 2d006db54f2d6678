//! Clocks that step: PostgreSQL's and the relays', under libfaketime; never the machine's.

use super::super::cell::Cell;
use super::{Fault, Scene};

/// Seconds beside the true time, one after the other.
const STEPS: [i64; 3] = [3600, -3600, 0];
/// Messages between two of them.
const BETWEEN: usize = 200;

pub(super) const FAULTS: &[Fault] = &[Fault::new(
    "clock-steps",
    "the clock of PostgreSQL and relays steps an hour ahead, back, and two hours",
    &[],
    |cell| Box::pin(steps(cell)),
)
.in_scene(Scene::FalseClock)];

async fn steps(cell: &Cell<'_>) {
    for seconds in STEPS {
        cell.struck();
        cell.arena.step_clock(seconds);
        cell.go_on(BETWEEN).await;
        cell.wait_delivered(BETWEEN / 2).await;
    }
}
