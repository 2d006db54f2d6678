//! The relays of a cell: one leads, the other stands by. Each has a role of its own, by which the
//! database says who leads, and a network of its own.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::support::patience::until;
use crate::support::proxy::Proxy;
use crate::support::relay::{RelayConfig, RelayProcess, RelayStart};
use crate::support::session::Session;
use crate::support::stage::Stage;

/// What a relay logs when a target is connected: each such line may send again what was not settled.
const CONNECTED: &str = "connected to the broker";

/// Of one cell, one after the other.
const RELAYS_MAX: usize = 8;

/// The relays, and what is left of those that have gone.
#[derive(Default)]
pub(crate) struct Crew {
    members: Mutex<Vec<Member>>,
    /// Roles that nobody has yet: made before anything happens to the database.
    roles: Mutex<Vec<String>>,
    /// Logs of the departed.
    logs: Mutex<Vec<String>>,
    environment: Vec<(&'static str, String)>,
}

/// A relay.
pub(crate) struct Member {
    pub(crate) role: String,
    pub(crate) process: RelayProcess,
    pub(crate) links: Links,
}

/// The network between a relay and its services.
#[derive(Clone)]
pub(crate) struct Links {
    pub(crate) database: Arc<Proxy>,
    pub(crate) amqp: Arc<Proxy>,
}

impl Crew {
    /// Nobody yet; who comes will see these variables.
    pub(crate) async fn new(stage: &Stage, environment: Vec<(&'static str, String)>) -> Self {
        let mut roles = Vec::new();
        for number in 0..RELAYS_MAX {
            roles.push(stage.database.create_relay_named(&format!("relay_{number}")).await);
        }
        Self { roles: Mutex::new(roles), environment, ..Self::default() }
    }

    /// Starts another relay: it leads if nobody does.
    pub(crate) async fn hire(&self, stage: &Stage) {
        let role = self.roles.lock().await.pop().expect("a cell has no more relays than roles");
        let (database, url) = Proxy::in_front_of(&stage.database.url_as(&role)).await;
        let mut config = stage.config.clone().set("database", "url", format!("{url:?}"));
        let (amqp, url) = Proxy::in_front_of(&stage.amqp().url).await;
        config = config.set("target.amqp", "url", format!("{url:?}")).tagged(&role);
        let links = Links { database: Arc::new(database), amqp: Arc::new(amqp) };
        let process = self.spawn(&config);
        self.members.lock().await.push(Member { role, process, links });
    }

    fn spawn(&self, config: &RelayConfig) -> RelayProcess {
        let start = RelayStart::new(config);
        self.environment.iter().fold(start, |start, (name, value)| start.env(name, value)).spawn()
    }

    /// Waits until the newest says that it is ready.
    pub(crate) async fn wait_ready(&self) {
        if let Some(member) = self.members.lock().await.last_mut() {
            member.process.wait_ready().await;
        }
    }

    /// The links of whoever leads.
    pub(crate) async fn links(&self, role: &str) -> Option<Links> {
        let members = self.members.lock().await;
        members.iter().find(|member| member.role == role).map(|member| member.links.clone())
    }

    /// Sends a signal to the relay of this role, unless it has gone meanwhile.
    pub(crate) async fn signal(&self, role: &str, name: &str) {
        for member in self.members.lock().await.iter().filter(|member| member.role == role) {
            member.process.signal(name).await;
        }
    }

    /// Ends the relay of this role by a signal and waits until it is gone.
    pub(crate) async fn end(&self, role: &str, signal: &str) {
        let mut members = self.members.lock().await;
        let Some(at) = members.iter().position(|member| member.role == role) else { return };
        let mut member = members.remove(at);
        drop(members);
        member.process.signal(signal).await;
        member.process.wait_exit().await;
        self.logs.lock().await.push(member.process.log());
    }

    /// Ends all of them gracefully; those that did not go as they should.
    pub(crate) async fn dismiss(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let members = std::mem::take(&mut *self.members.lock().await);
        for Member { mut process, role, .. } in members {
            process.signal("CONT").await;
            process.signal("TERM").await;
            let status = process.wait_exit().await;
            if !status.success() {
                problems.push(format!("{role} ended with {status} when it was asked to"));
            }
            self.logs.lock().await.push(process.log());
        }
        problems
    }

    /// The roles, in the order of their start.
    pub(crate) async fn roles(&self) -> Vec<String> {
        self.members.lock().await.iter().map(|member| member.role.clone()).collect()
    }

    /// Everything that was logged so far.
    pub(crate) async fn log(&self) -> String {
        let mut text = self.logs.lock().await.join("\n");
        for member in self.members.lock().await.iter() {
            text.push('\n');
            text.push_str(&member.process.log());
        }
        text
    }

    /// How often each target was connected.
    pub(crate) async fn connections(&self) -> HashMap<&'static str, usize> {
        let log = self.log().await;
        let of = |target: &str| {
            let name = format!("target_name=\"{target}\"");
            log.lines().filter(|line| line.contains(CONNECTED) && line.contains(&name)).count()
        };
        ["amqp", "kafka"].map(|target| (target, of(target))).into()
    }
}

/// Waits until somebody leads a target, and says the role; `but` does not count.
pub(crate) async fn leader(url: &str, target: &str, but: &str) -> String {
    until("somebody to lead", async || {
        // The database may be away for a while.
        let session = Session::try_connect(url).await.ok()?;
        let rows = session.query(LEADER, &[&target]).await.ok()?;
        rows.iter().map(|row| row.get::<_, String>(0)).find(|role| role != but)
    })
    .await
}

const LEADER: &str = "\
SELECT activity.usename::text
FROM outbox.lock_key($1) AS key
JOIN pg_locks AS lock ON lock.locktype = 'advisory' AND lock.granted AND lock.objsubid = 2
    AND lock.classid::bigint = key.k1::bigint & 4294967295
    AND lock.objid::bigint = key.k2::bigint & 4294967295
JOIN pg_stat_activity AS activity USING (pid)
WHERE lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())";
