//! What the daemon answers over HTTP: probes and Prometheus. Nothing can be changed by it.
//!
//! `/live`: the process answers. A part of it that dies ends it, so there is no more to ask.
//! `/ready`: 503 while a pipeline is kept from its work, and by what. `/metrics`: everything that is counted.
//!
//! One task serves all connections, and each of them one request, so that a client that sends or reads
//! slowly costs a bounded piece of memory for a bounded time, and no time of the pipelines. A client
//! that says nothing makes room for the next: a liveness probe must not wait behind it.

mod answer;
mod ready;
mod scrape;
mod seat;

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::Abortable;
use futures_util::stream::FuturesUnordered;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::answer::{Answer, Place, place};
use self::ready::Readiness;
use self::scrape::Scrape;
use self::seat::{Seat, Seats};
use crate::board::Board;
use crate::config::HttpConfig;
use crate::exit::Failure;
use crate::source::BellHandle;

/// Two Prometheus servers, the probes of an orchestrator and a person need a handful; the others are for
/// clients that say nothing. Each may hold a request of 8 KiB or an answer: 3 MB for all of the silent.
const CONNECTIONS_MAX: usize = 256;

/// From the connection to the last byte of the answer, also for a client that reads slowly.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// Who asks, asks at once. From the first to the last byte of the request's head.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// What a request may say: the least that the library accepts.
const REQUEST_BYTES_MAX: usize = 8 * 1024;

/// After an error of the listener (too many open files, say) it would come again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The listener, which answers nobody yet.
#[derive(Debug)]
pub struct Http {
    listener: TcpListener,
}

impl Http {
    /// Takes the port.
    ///
    /// # Errors
    /// It cannot: something else has it, or the address is not there yet, which a restart may mend; or it may not, which
    /// none does.
    pub async fn bind(config: &HttpConfig) -> Result<Self, Failure> {
        let listener = TcpListener::bind(config.listen).await;
        let listener = listener.map_err(|error| {
            let refused = config.refused(&error);
            match error.kind() {
                io::ErrorKind::PermissionDenied => Failure::configuration(refused),
                _ => Failure::from(anyhow::Error::from(refused)),
            }
        })?;
        tracing::info!(address = %listener.local_addr()?, "http: /live, /ready and /metrics");
        Ok(Self { listener })
    }

    /// Answers until `stopped`. From `stop` on it is alive, and not ready any more.
    ///
    /// Cancel safety: dropping the future drops the connections.
    pub async fn serve(
        self,
        metrics: PrometheusHandle,
        board: Board,
        bell: BellHandle,
        stop: CancellationToken,
        stopped: CancellationToken,
    ) {
        let source =
            Source { board: board.clone(), scrape: Scrape::new(metrics, board, bell), stop };
        let (mut seats, mut connections) = (Seats::new(CONNECTIONS_MAX), FuturesUnordered::new());
        let work = async {
            loop {
                let room_at = seats.room_at();
                let has_room = room_at.is_none_or(|at| at <= Instant::now());
                tokio::select! {
                    // First: who has just come has probably asked already, and who was sent away goes.
                    biased;
                    Some(number) = connections.next() => seats.leave(number),
                    () = sleep_until(room_at.unwrap_or_else(Instant::now)), if !has_room => {}
                    stream = accept(&self.listener), if has_room => {
                        connections.push(source.connection(stream, seats.admit(Instant::now())));
                    }
                }
            }
        };
        // It has no end of its own.
        let _: Option<Infallible> = stopped.run_until_cancelled(work).await;
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::debug!(%error, "http: a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Where the answers come from.
struct Source {
    board: Board,
    scrape: Scrape,
    stop: CancellationToken,
}

impl Source {
    /// Returns the number of the seat.
    async fn connection(&self, stream: TcpStream, seat: Seat) -> u64 {
        let Seat { number, asked, end } = seat;
        let service = service_fn(async |request| {
            asked.set();
            Ok::<_, Infallible>(self.answer(&request))
        });
        let connection = http1::Builder::new()
            .keep_alive(false)
            .max_buf_size(REQUEST_BYTES_MAX)
            .timer(TokioTimer::new())
            .header_read_timeout(REQUEST_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        let connection = tokio::time::timeout(CONNECTION_TIMEOUT, connection);
        // A client that went away, was sent away or took too long has its own error.
        let _ = Abortable::new(connection, end).await;
        number
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let answer = match place(request.method(), request.uri().path()) {
            Ok(Place::Live) => Answer::text(200, "alive\n"),
            Ok(Place::Ready) => {
                let ready = Readiness::of(&self.board.watch().borrow(), self.stop.is_cancelled());
                Answer::text(if ready.is_ready { 200 } else { 503 }, ready.text)
            }
            Ok(Place::Metrics) => Answer::metrics(self.scrape.text()),
            Err(refused) => refused,
        };
        answer.into()
    }
}
