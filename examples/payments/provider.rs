//! The payment provider: somebody else, over HTTP, who knows an `Idempotency-Key`.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::payment::Payment;

/// The handler's transaction is open meanwhile.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) struct Provider {
    client: Client<HttpConnector, Full<Bytes>>,
    charges: Uri,
}

/// What the provider answers, and what is recorded of the step.
#[derive(Serialize, Deserialize)]
pub(crate) struct Charge {
    pub(crate) id: String,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ChargeError {
    /// The provider's last word.
    #[error("the provider declined: {0}")]
    Declined(StatusCode),
    #[error("the provider answered {0}")]
    Failed(StatusCode),
    /// Nobody knows whether it charged: the next call has the same key.
    #[error("no answer from the provider")]
    Lost(#[source] Box<dyn Error + Send + Sync>),
}

impl Provider {
    /// At `http://host:port`.
    pub(crate) fn new(url: &str) -> Result<Self, http::uri::InvalidUri> {
        let charges = format!("{}/charges", url.trim_end_matches('/')).parse()?;
        Ok(Self { client: Client::builder(TokioExecutor::new()).build_http(), charges })
    }

    /// Charges, once a key.
    pub(crate) async fn charge(&self, key: Uuid, payment: &Payment) -> Result<Charge, ChargeError> {
        let answer = tokio::time::timeout(TIMEOUT, self.post(key, payment)).await;
        let (status, body) = answer.map_err(lost)?.map_err(ChargeError::Lost)?;
        if status == StatusCode::PAYMENT_REQUIRED {
            return Err(ChargeError::Declined(status));
        }
        if !status.is_success() {
            return Err(ChargeError::Failed(status));
        }
        serde_json::from_slice(&body).map_err(lost)
    }

    async fn post(
        &self,
        key: Uuid,
        payment: &Payment,
    ) -> Result<(StatusCode, Bytes), Box<dyn Error + Send + Sync>> {
        let Payment { id, account, amount } = payment;
        let body = json!({ "reference": id, "account": account, "amount": amount }).to_string();
        let request = Request::post(self.charges.clone())
            .header("content-type", "application/json")
            .header("idempotency-key", format!("\"{key}\""))
            .body(Full::from(body))?;
        let (head, body) = self.client.request(request).await?.into_parts();
        Ok((head.status, body.collect().await?.to_bytes()))
    }
}

fn lost(error: impl Error + Send + Sync + 'static) -> ChargeError {
    ChargeError::Lost(error.into())
}
