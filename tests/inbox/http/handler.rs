//! The handler of payments: it does what the request tells it to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use deadpool_postgres::Pool;
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use outbox_inbox::http::{Keep, Tx, Unretained};
use outbox_inbox::idempotency::Steps;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};
use uuid::Uuid;

use super::super::support::patience::wait_for;

/// What a test and the handler tell each other.
pub(super) struct Stage {
    pub(super) pool: Pool,
    entered: mpsc::UnboundedSender<()>,
    entries: tokio::sync::Mutex<mpsc::UnboundedReceiver<()>>,
    abandon: mpsc::UnboundedSender<()>,
    abandoned: tokio::sync::Mutex<mpsc::UnboundedReceiver<()>>,
    /// Who waits in the handler is let on by a permit.
    pub(super) gate: Semaphore,
    /// What the payment provider was asked, by key.
    pub(super) charges: Mutex<Vec<Uuid>>,
    /// A transaction that somebody kept.
    pub(super) kept: Mutex<Option<Tx>>,
    /// Whether a handler has failed that fails once.
    failed: AtomicBool,
}

impl Stage {
    pub(super) fn new(pool: Pool) -> Arc<Self> {
        let (entered, entries) = mpsc::unbounded_channel();
        let (abandon, abandoned) = mpsc::unbounded_channel();
        Arc::new(Self {
            pool,
            entered,
            entries: entries.into(),
            abandon,
            abandoned: abandoned.into(),
            gate: Semaphore::new(0),
            charges: Mutex::default(),
            kept: Mutex::default(),
            failed: AtomicBool::new(false),
        })
    }

    /// Until a handler waits at the gate.
    pub(super) async fn wait_entered(&self) {
        let mut entries = self.entries.lock().await;
        wait_for("a handler at the gate", entries.recv()).await.expect("the stage is there");
    }

    /// Until the server has dropped a call whose client has gone.
    pub(super) async fn wait_abandoned(&self) {
        let mut abandoned = self.abandoned.lock().await;
        wait_for("a call to be dropped", abandoned.recv()).await.expect("the stage is there");
    }

    async fn wait_at_gate(&self) {
        self.entered.send(()).expect("the stage is there");
        self.gate.acquire().await.expect("the gate is there").forget();
    }

    fn is_first(&self) -> bool {
        !self.failed.swap(true, Ordering::Relaxed)
    }

    /// The provider honours its key, and remembers every call.
    fn charge(&self, key: Uuid) {
        self.charges.lock().unwrap().push(key);
    }
}

/// `{"amount": 7, "do": "…"}`
pub(super) async fn pay(State(stage): State<Arc<Stage>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.expect("the layer has read it").to_bytes();
    let request: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let act = request["do"].as_str().unwrap_or("pay");
    if let Some(tx) = parts.extensions.get::<Tx>() {
        return in_transaction(&stage, tx.clone(), &request, act).await;
    }
    let steps = parts.extensions.get::<Steps>().cloned();
    under_lease(&stage, steps, act).await
}

/// Outside of the layer: sees a call that is dropped before it is answered.
pub(super) async fn watch(
    State(stage): State<Arc<Stage>>,
    request: Request,
    next: axum::middleware::Next,
) -> Response {
    struct Call(Option<Arc<Stage>>);
    impl Drop for Call {
        fn drop(&mut self) {
            if let Some(stage) = self.0.take() {
                let _ = stage.abandon.send(());
            }
        }
    }
    let mut call = Call(Some(stage));
    let response = next.run(request).await;
    call.0 = None;
    response
}

const FOUND: [(&str, &str); 3] =
    [("location", "/payments/7"), ("etag", "\"1\""), ("set-cookie", "session=1")];

const INSERT: &str = "INSERT INTO payments (amount, request) VALUES ($1, $2)";

async fn in_transaction(stage: &Stage, tx: Tx, request: &Value, act: &str) -> Response {
    let amount = i32::try_from(request["amount"].as_i64().unwrap_or(1)).unwrap();
    if act == "nothing" {
        return (axum::Extension(Keep::Nothing), paid(amount)).into_response();
    }
    if let Err(error) = tx.execute(INSERT, &[&amount, &act]).await {
        return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response();
    }
    match act {
        "wait" => stage.wait_at_gate().await,
        "fail" => return (StatusCode::BAD_GATEWAY, "no").into_response(),
        "decline" => return (StatusCode::PAYMENT_REQUIRED, "declined").into_response(),
        "keep declined" => {
            let keep = axum::Extension(Keep::Everything);
            return (StatusCode::PAYMENT_REQUIRED, keep, "declined").into_response();
        }
        "busy" => return StatusCode::TOO_MANY_REQUESTS.into_response(),
        "panic" => panic!("as the test wants it"),
        // An error that the handler does not care about has ended its transaction.
        "swallow" => drop(tx.execute("SELECT 1/0", &[]).await),
        // … and one that it answers has not, thanks to the savepoint.
        "conflict" => {
            let error = tx.execute("SELECT 1/0", &[]).await.unwrap_err();
            return (StatusCode::CONFLICT, error.to_string()).into_response();
        }
        "commit" => tx.batch_execute("COMMIT").await.unwrap(),
        "commit and begin" => tx.batch_execute("COMMIT; BEGIN").await.unwrap(),
        "commit and fail" => {
            tx.batch_execute("COMMIT").await.unwrap();
            return (StatusCode::BAD_GATEWAY, "no").into_response();
        }
        "commit and decline" => {
            tx.batch_execute("COMMIT").await.unwrap();
            return (StatusCode::PAYMENT_REQUIRED, "declined").into_response();
        }
        "commit and panic" => {
            tx.batch_execute("COMMIT").await.unwrap();
            panic!("as the test wants it");
        }
        "hang" => std::future::pending().await,
        "hang in a statement" => drop(tx.execute("SELECT pg_sleep(3600)", &[]).await),
        "stream" => {
            drop(tx);
            return endless("text/event-stream; charset=utf-8");
        }
        "trickle" => {
            drop(tx);
            return endless("text/plain");
        }
        "keep" => *stage.kept.lock().unwrap() = Some(tx),
        "keep and fail" => {
            *stage.kept.lock().unwrap() = Some(tx);
            return (StatusCode::BAD_GATEWAY, "no").into_response();
        }
        "keep and panic" => {
            *stage.kept.lock().unwrap() = Some(tx);
            panic!("as the test wants it");
        }
        "keep and hang" => {
            *stage.kept.lock().unwrap() = Some(tx);
            std::future::pending().await
        }
        "kill" => {
            let kill = "SELECT pg_terminate_backend(pg_backend_pid())";
            let error = tx.execute(kill, &[]).await.unwrap_err();
            return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response();
        }
        // Fails at the commit, when the answer is there already.
        "defer" => tx
            .batch_execute("CREATE TABLE late (n int UNIQUE DEFERRABLE INITIALLY DEFERRED); INSERT INTO late VALUES (1), (1)")
            .await
            .unwrap(),
        "large" => return (StatusCode::CREATED, FOUND, "x".repeat(300 * 1024)).into_response(),
        "secret" => return (StatusCode::CREATED, FOUND, axum::Extension(Unretained), "a secret").into_response(),
        _ => {}
    }
    paid(amount)
}

async fn under_lease(stage: &Stage, steps: Option<Steps>, act: &str) -> Response {
    let Some(steps) = steps else {
        return (StatusCode::OK, "unprotected").into_response();
    };
    match act {
        "nothing" => return (axum::Extension(Keep::Nothing), "nothing").into_response(),
        "fail" => return (StatusCode::INTERNAL_SERVER_ERROR, "no").into_response(),
        "panic" => panic!("as the test wants it"),
        "keep failed" => {
            let keep = axum::Extension(Keep::Everything);
            return (StatusCode::INTERNAL_SERVER_ERROR, keep, "no").into_response();
        }
        // Before anything is recorded.
        "wait" => stage.wait_at_gate().await,
        _ => {}
    }
    let charge = |key| async move {
        stage.charge(key);
        Ok::<_, std::convert::Infallible>("charged".to_owned())
    };
    let charged: Result<String, _> = steps.once("charge", charge).await;
    let Ok(charged) = charged else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    match act {
        "wait after charge" => stage.wait_at_gate().await,
        "nothing after charge" => {
            return (axum::Extension(Keep::Nothing), "nothing").into_response();
        }
        // Only the first time.
        "fail after charge" | "panic after charge" | "hang after charge" if stage.is_first() => {
            match act {
                "fail after charge" => return (StatusCode::BAD_GATEWAY, "no").into_response(),
                "panic after charge" => panic!("as the test wants it"),
                _ => std::future::pending().await,
            }
        }
        _ => {}
    }
    let client = stage.pool.get().await.unwrap();
    client.execute(INSERT, &[&1, &charged]).await.unwrap();
    paid(1)
}

/// One event, and never another one.
fn endless(kind: &'static str) -> Response {
    let first = Ok::<_, std::io::Error>(bytes::Bytes::from_static(b"data: 1\n\n"));
    let events = stream::iter([first]).chain(stream::pending());
    ([("content-type", kind)], Body::from_stream(events)).into_response()
}

fn paid(amount: i32) -> Response {
    let mut response =
        axum::Json(json!({ "id": Uuid::now_v7(), "amount": amount })).into_response();
    *response.status_mut() = StatusCode::CREATED;
    for (name, value) in [
        ("location", "/payments/7"),
        ("set-cookie", "session=1"),
        ("x-internal", "1"),
        ("etag", "\"1\""),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
