//! The lease of a target and its marks, without a pipeline around them.

use std::time::Duration;

use outbox_relay::admin::target;
use outbox_relay::config::{LeaseConfig, Start};
use outbox_relay::database;
use outbox_relay::lease::Lease;
use outbox_relay::ledger::mark::{Marker, Statements};
use outbox_relay::ledger::{Buried, Mark};

use crate::keeper::outbox::Outbox;
use crate::source::consumer::config;

/// The lease of a target, and what writes its marks.
pub(crate) struct Pen {
    pub(crate) lease: Lease,
    marker: Marker,
}

impl Pen {
    pub(crate) async fn take(outbox: &Outbox, name: &str) -> Self {
        let url = outbox.database.url_as(&outbox.database.create_relay().await);
        let session = database::Session::connect(&config(url), "test lease").await.unwrap();
        let limits = LeaseConfig {
            ttl: Duration::from_secs(60),
            ping_interval: Duration::from_secs(1),
            standby_interval: Duration::from_secs(1),
            rebalance_interval: Duration::from_secs(1),
        };
        let taken = Lease::try_take(&session, &outbox.schema, name, &limits).await.unwrap();
        let mut lease = Lease::new(session, taken.expect("nobody else holds the lease"));
        let row = target::ensure(lease.session_mut(), &outbox.schema, name, Start::Earliest).await;
        let row = row.unwrap();
        let statements = Statements::prepare(lease.session(), &outbox.schema).await.unwrap();
        Self { marker: Marker::new(statements, name, row.epoch, row.ctid), lease }
    }

    pub(crate) async fn write(&mut self, mut mark: Mark) {
        self.marker.write(&self.lease, &mut mark).await.unwrap();
    }

    pub(crate) async fn bury(&mut self, id: i64, reason: &str) {
        let buried = Buried { id, key: None, holds: false, attempts: 3, reason: reason.to_owned() };
        let settled = std::iter::once(id..id + 1).collect();
        self.write(Mark { settled, buried: vec![buried], ..Mark::default() }).await;
    }
}
