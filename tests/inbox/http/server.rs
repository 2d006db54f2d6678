//! A shop on a loopback port, with the layer in front of its payments, and clients of it.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use bytes::Bytes;
use deadpool_postgres::{Manager, Pool};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use outbox_inbox::connection::Connections;
use outbox_inbox::http::{Builder, IdempotencyLayer, Mode, REQUESTS};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_postgres::NoTls;

use super::handler::{self, Stage};
use crate::support::database::Database;
use crate::support::meter;
use crate::support::patience::wait_for;
use crate::support::session::Session;

/// More than any test has requests at once.
const CONNECTIONS_MAX: usize = 24;

/// Whose requests they are, unless a test says otherwise.
pub(super) const ACCOUNT: &str = "ada@example.com";

pub(super) struct Shop {
    pub(super) database: Database,
    /// As the superuser.
    pub(super) session: Session,
    pub(super) layer: IdempotencyLayer,
    pub(super) stage: Arc<Stage>,
    /// The layer's label in the metrics, which no other test has.
    pub(super) route: String,
    address: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
    server: JoinSet<()>,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: axum::http::HeaderMap,
    pub(super) body: Bytes,
}

impl Shop {
    /// As most APIs would have it.
    pub(super) async fn open(mode: Mode) -> Self {
        Self::open_with(mode, |builder| builder).await
    }

    pub(super) async fn open_with(mode: Mode, change: impl FnOnce(Builder) -> Builder) -> Self {
        Self::open_on(Database::create().await, mode, change).await
    }

    /// On a database that has payments already, as another process of the same shop.
    pub(super) async fn open_on(
        database: Database,
        mode: Mode,
        change: impl FnOnce(Builder) -> Builder,
    ) -> Self {
        Self::open_pooled(database, CONNECTIONS_MAX, mode, change).await
    }

    /// With so many connections.
    pub(super) async fn open_pooled(
        database: Database,
        connections_max: usize,
        mode: Mode,
        change: impl FnOnce(Builder) -> Builder,
    ) -> Self {
        meter::install();
        let session = database.connect().await;
        session
            .run("CREATE TABLE IF NOT EXISTS payments (amount int NOT NULL, request text)")
            .await;
        let pool = pool(&database.url, connections_max);
        let stage = Stage::new(pool.clone());
        let (_, name) = database.url.rsplit_once('/').expect("a url names a database");
        let route = format!("/payments of {name}");
        let builder = IdempotencyLayer::builder(Connections::from(pool), mode)
            .route(route.clone())
            .principal(|parts| Some(parts.headers.get("x-account")?.to_str().ok()?.to_owned()));
        let layer = change(builder).build().expect("the layer protects somebody");
        let app = Router::new()
            .route("/payments", post(handler::pay).put(handler::pay))
            .route("/payments", get(|| async { "payments" }))
            .layer(layer.clone())
            .layer(axum::middleware::from_fn_with_state(Arc::clone(&stage), handler::watch))
            .with_state(Arc::clone(&stage));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, app).await.expect("the shop is open") });
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { database, session, layer, stage, route, address, client, server }
    }

    /// A payment of somebody's, under a key.
    pub(super) async fn pay(&self, key: &str, body: &Value) -> Reply {
        self.send(
            "POST",
            &[("idempotency-key", &format!("\"{key}\"")), ("x-account", ACCOUNT)],
            body,
        )
        .await
    }

    pub(super) async fn send(&self, method: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
        self.send_to("/payments", method, headers, body.to_string()).await
    }

    pub(super) async fn send_to(
        &self,
        target: &str,
        method: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Reply {
        let mut request = axum::http::Request::builder()
            .method(method)
            .uri(format!("http://{}{target}", self.address))
            .header("content-type", "application/json");
        for (name, value) in headers {
            if *name == "content-type" {
                request.headers_mut().expect("it is well so far").remove(*name);
            }
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body))).expect("the request is one");
        let asking = wait_for("an answer of the shop", self.client.request(request));
        let response = asking.await.expect("the shop answers");
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("the answer is whole").to_bytes();
        Reply { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// The head of an answer, and the first piece of its body.
    pub(super) async fn pay_and_read_first(&self, key: &str, body: &Value) -> (u16, Bytes) {
        let request = axum::http::Request::post(format!("http://{}/payments", self.address))
            .header("content-type", "application/json")
            .header("idempotency-key", format!("\"{key}\""))
            .header("x-account", ACCOUNT)
            .body(Full::new(Bytes::from(body.to_string())))
            .expect("the request is one");
        let asking = wait_for("an answer of the shop", self.client.request(request));
        let mut response = asking.await.expect("the shop answers");
        let frame = wait_for("the first piece", response.body_mut().frame()).await;
        let data = frame.expect("there is one").expect("it is whole").into_data();
        (response.status().as_u16(), data.expect("it is data"))
    }

    /// A request whose client goes away when this is dropped.
    pub(super) async fn send_and_keep(&self, key: &str, body: &Value) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.expect("the shop is open");
        let body = body.to_string();
        let text = format!(
            "POST /payments HTTP/1.1\r\nhost: shop\r\nx-account: {ACCOUNT}\r\nidempotency-key: \"{key}\"\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(text.as_bytes()).await.expect("the shop reads");
        stream
    }

    /// How many payments there are.
    pub(super) async fn payments(&self) -> i64 {
        self.session.count("SELECT count(*) FROM payments").await
    }

    /// How many keys there are.
    pub(super) async fn keys(&self) -> i64 {
        self.session.count("SELECT count(*) FROM outbox.idempotency_key").await
    }

    /// Whether somebody holds the lock of a claim.
    pub(super) async fn claims(&self) -> i64 {
        let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
                     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        self.session.count(locks).await
    }

    /// What the layer counted.
    pub(super) fn counted(&self, verdict: &str) -> u64 {
        meter::counted(REQUESTS, &[("route", &self.route), ("verdict", verdict)])
    }

    /// The server goes, as its process would; requests that run are the layer's.
    pub(super) async fn close(mut self) -> (Database, IdempotencyLayer) {
        self.server.shutdown().await;
        (self.database, self.layer)
    }
}

impl Reply {
    pub(super) fn json(&self) -> Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("{error}: {self:?}"),
        }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(super) fn is_replayed(&self) -> bool {
        self.header("idempotent-replayed") == Some("true")
    }

    /// It is this problem, whole.
    pub(super) fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.json()["code"].as_str()), (status, Some(code)), "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        assert_eq!(self.header("cache-control"), Some("no-store"));
        let kind = self.json()["type"].as_str().expect("a problem has a type").to_owned();
        assert!(kind.ends_with(&format!("#{code}")), "{kind}");
        assert_eq!(self.header("link"), Some(format!("<{kind}>; rel=\"describedby\"").as_str()));
        assert_eq!(self.json()["status"], json!(status));
    }
}

fn pool(url: &str, connections_max: usize) -> Pool {
    let config = url.parse().expect("a test server's url");
    let manager = Manager::new(config, NoTls);
    Pool::builder(manager).max_size(connections_max).build().expect("a pool can be built")
}
