//! A payment provider that behaves as real ones do: it charges once a key, fails sometimes, and is
//! sometimes cut off after it has charged. It remembers every call.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures_util::stream;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::request::CURSED;
use super::tally::Tally;
use crate::support::rng::Rng;

/// So often a key may be out of luck: less than the attempts that a message has.
const FAILURES_MAX: u64 = 2;
/// One of so many calls is cut off after the charge.
const CUT_EVERY: u64 = 50;

pub(crate) const FAILED: &str = "provider failed before it charged";
pub(crate) const CUT: &str = "provider cut off after it charged";

/// A running provider; it ends when dropped.
pub(crate) struct Provider {
    pub(crate) url: String,
    ledger: Arc<Ledger>,
    _server: JoinSet<()>,
}

/// What it was asked for.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Charge {
    /// The payment.
    pub(crate) reference: Uuid,
    account: String,
    pub(crate) amount: i64,
}

struct Ledger {
    seed: u64,
    failures_per_mille: u64,
    tally: Arc<Tally>,
    book: Mutex<Book>,
    /// How often the payment that is held was asked for.
    meeting: watch::Sender<usize>,
}

#[derive(Default)]
struct Book {
    /// By key.
    charges: HashMap<Uuid, Charge>,
    calls: HashMap<Uuid, u64>,
    calls_total: u64,
    /// Answers for this payment are held until it was asked for twice.
    held: Option<Uuid>,
}

impl Provider {
    pub(crate) async fn open(seed: u64, failures_per_mille: u64, tally: Arc<Tally>) -> Self {
        let (book, meeting) = (Mutex::default(), watch::Sender::default());
        let ledger = Arc::new(Ledger { seed, failures_per_mille, tally, book, meeting });
        let app = Router::new().route("/charges", post(charge)).with_state(ledger.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, app).await.expect("it is open") });
        Self { url, ledger, _server: server }
    }

    /// Nobody who asks for this payment gets an answer before two have asked.
    pub(crate) fn hold(&self, reference: Uuid) {
        self.ledger.book().held = Some(reference);
    }

    /// What was charged: the name of each charge, and what it was for.
    pub(crate) fn charges(&self) -> HashMap<String, Charge> {
        let book = self.ledger.book();
        book.charges.iter().map(|(key, charge)| (name(*key), charge.clone())).collect()
    }
}

/// What happens to a call.
enum Fate {
    Charged,
    Failed,
    Cut,
}

impl Ledger {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("nobody panics while holding the book")
    }

    /// Of the `call`th call with this key, the `total`th of all.
    fn fate(&self, key: Uuid, call: u64, total: u64, charge: &Charge) -> Fate {
        let (high, low) = key.as_u64_pair();
        let mut rng = Rng::new(self.seed ^ high ^ low ^ call);
        if charge.account == CURSED {
            return Fate::Failed;
        }
        if call > FAILURES_MAX || self.failures_per_mille == 0 {
            return Fate::Charged;
        }
        if total % CUT_EVERY == self.seed % CUT_EVERY {
            return Fate::Cut;
        }
        if rng.chance(self.failures_per_mille) { Fate::Failed } else { Fate::Charged }
    }
}

async fn charge(
    State(ledger): State<Arc<Ledger>>,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Response {
    let key = headers.get("idempotency-key").and_then(|value| value.to_str().ok());
    let key = key.and_then(|key| Uuid::parse_str(key.trim_matches('"')).ok());
    let asked = serde_json::from_slice::<Charge>(&body);
    let (Some(key), Ok(asked)) = (key, asked) else {
        ledger.tally.problem("a call without a key or a charge".into());
        return StatusCode::BAD_REQUEST.into_response();
    };
    meet(&ledger, asked.reference).await;
    let fate = {
        let mut book = ledger.book();
        book.calls_total += 1;
        let total = book.calls_total;
        let call = book.calls.entry(key).or_default();
        *call += 1;
        let fate = ledger.fate(key, *call, total, &asked);
        if !matches!(fate, Fate::Failed) {
            book.charges.entry(key).or_insert(asked);
        }
        fate
    };
    match fate {
        Fate::Charged => json!({ "id": name(key) }).to_string().into_response(),
        Fate::Failed => {
            ledger.tally.count(FAILED);
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
        Fate::Cut => {
            ledger.tally.count(CUT);
            Body::from_stream(stream::iter([Err::<&[u8], _>(io::Error::other("cut"))]))
                .into_response()
        }
    }
}

/// Waits for the other one, if it is the payment that is held.
async fn meet(ledger: &Ledger, reference: Uuid) {
    if ledger.book().held == Some(reference) {
        let mut asked = ledger.meeting.subscribe();
        ledger.meeting.send_modify(|asked| *asked += 1);
        // The ledger lives as long as its server.
        let _ = asked.wait_for(|&asked| asked >= 2).await;
    }
}

fn name(key: Uuid) -> String {
    format!("charge-{key}")
}
