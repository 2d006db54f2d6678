//! The limits of topics (`max.message.bytes`). One is asked for when its topic has refused a message as
//! too large; by the time that message is known to be the one, its reason can name the limit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::ClientConfig;
use tokio::task::JoinSet;

use super::setting::settings;

const LIMIT: &str = "max.message.bytes";

/// What is known of one topic's limit.
#[derive(Debug, Clone)]
enum Limit {
    Wanted,
    Asked,
    Known(String),
}

/// The limits that are known so far, shared with the thread that hears of refusals.
#[derive(Debug, Clone, Default)]
pub(super) struct Limits(Arc<Mutex<HashMap<String, Limit>>>);

impl Limits {
    /// The limit in words; asked for if it is not known.
    pub(super) fn describe(&self, topic: &str) -> String {
        let mut limits = self.lock();
        match limits.get(topic) {
            Some(Limit::Known(bytes)) => return format!("{LIMIT} = {bytes}"),
            Some(_) => {}
            None => {
                limits.insert(topic.to_owned(), Limit::Wanted);
            }
        }
        LIMIT.to_owned()
    }

    /// Asks for what is wanted, in the background.
    pub(super) fn ask(&self, asking: &mut JoinSet<()>, properties: impl Fn() -> ClientConfig) {
        for (topic, limit) in self.lock().iter_mut() {
            if matches!(limit, Limit::Wanted) {
                *limit = Limit::Asked;
                asking.spawn(self.clone().look(topic.clone(), properties()));
            }
        }
    }

    async fn look(self, topic: String, properties: ClientConfig) {
        // Without an answer, or without the right to ask, the reason names the setting alone.
        let settings = settings(&properties, &topic).await.ok();
        let limit = settings.and_then(|settings| settings.get(LIMIT)?.value.clone());
        if let Some(bytes) = limit {
            self.lock().insert(topic, Limit::Known(bytes));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Limit>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
