//! What Prometheus reads: what was counted, and what is looked up only when it asks.

use metrics::gauge;
use metrics_exporter_prometheus::PrometheusHandle;

use crate::board::{Board, State};
use crate::source::BellHandle;
use crate::telemetry::metric::{BELL, STATE};

/// Everything that an answer is made of.
pub(super) struct Scrape {
    metrics: PrometheusHandle,
    board: Board,
    bell: BellHandle,
}

impl Scrape {
    pub(super) fn new(metrics: PrometheusHandle, board: Board, bell: BellHandle) -> Self {
        Self { metrics, board, bell }
    }

    pub(super) fn text(&self) -> String {
        for (target, state) in self.board.watch().borrow().iter() {
            for word in State::WORDS {
                let is_it = f64::from(u8::from(state.word() == word));
                gauge!(STATE.name, "target" => target.clone(), "state" => word).set(is_it);
            }
        }
        gauge!(BELL.name).set(f64::from(u8::from(self.bell.is_armed())));
        self.metrics.run_upkeep();
        self.metrics.render()
    }
}
