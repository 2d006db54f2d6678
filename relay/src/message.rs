//! One outbox row as a value: its bytes exactly as they were read, in one allocation.

use std::num::NonZeroU64;
use std::sync::Arc;

use uuid::Uuid;

/// The fields of a row, borrowed from wherever it was read.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// `message.id`, which orders the outbox.
    pub id: i64,
    /// `message.message_id`, what receivers deduplicate by.
    pub message_id: Uuid,
    /// `message.created_at`, microseconds since the Unix epoch.
    pub created_at_us: i64,
    /// `message.topic`.
    pub topic: &'a str,
    /// `message.key`; `None` = no order.
    pub key: Option<&'a str>,
    /// `message.type`.
    pub kind: Option<&'a str>,
    /// `message.headers`, the JSON text of an object as PostgreSQL prints it.
    pub headers: Option<&'a str>,
    /// `message.payload`.
    pub payload: Option<&'a [u8]>,
    /// The size of the payload in bytes when it was too large to be read (`payload` is then `None`).
    pub oversize_bytes: Option<u64>,
}

/// One outbox row. Cheap to clone (the bytes are shared), never changed: a message sent again is the
/// same message.
#[derive(Clone)]
pub struct Message {
    id: i64,
    message_id: Uuid,
    created_at_us: i64,
    /// topic, key, type, headers and payload, one after the other.
    bytes: Arc<[u8]>,
    topic_end: u32,
    key_end: u32,
    kind_end: u32,
    headers_end: u32,
    has: Has,
    oversize_bytes: Option<NonZeroU64>,
}

/// Which of the nullable fields are not NULL: an empty key is a key like any other.
#[derive(Clone, Copy)]
struct Has {
    key: bool,
    kind: bool,
    headers: bool,
    payload: bool,
    /// The row could not be read, and `headers` is the reason.
    reason: bool,
}

impl Message {
    /// Copies the fields into one buffer, the only allocation of a row.
    ///
    /// # Panics
    /// If topic, key, type and headers together exceed 4 GiB, which the table's CHECKs exclude.
    #[must_use]
    pub fn new(parts: Parts<'_>) -> Self {
        let key = parts.key.unwrap_or_default();
        let kind = parts.kind.unwrap_or_default();
        let headers = parts.headers.unwrap_or_default();
        let payload = parts.payload.unwrap_or_default();
        let head = parts.topic.len() + key.len() + kind.len() + headers.len();
        let mut bytes: Arc<[u8]> = std::iter::repeat_n(0, head + payload.len()).collect();
        let buffer = Arc::get_mut(&mut bytes).expect("nobody else has it yet");
        let mut end = 0;
        let mut push = |field: &[u8]| {
            let start = end;
            end += field.len();
            buffer[start..end].copy_from_slice(field);
            u32::try_from(end).expect("the table's CHECKs bound topic, key, type and headers")
        };
        let topic_end = push(parts.topic.as_bytes());
        let key_end = push(key.as_bytes());
        let kind_end = push(kind.as_bytes());
        let headers_end = push(headers.as_bytes());
        buffer[head..].copy_from_slice(payload);
        Self {
            id: parts.id,
            message_id: parts.message_id,
            created_at_us: parts.created_at_us,
            bytes,
            topic_end,
            key_end,
            kind_end,
            headers_end,
            has: Has {
                key: parts.key.is_some(),
                kind: parts.kind.is_some(),
                headers: parts.headers.is_some(),
                payload: parts.payload.is_some(),
                reason: false,
            },
            oversize_bytes: parts.oversize_bytes.and_then(NonZeroU64::new),
        }
    }

    /// A row that cannot be read, with what can be read of it: it is buried with the reason.
    #[must_use]
    pub fn unreadable(parts: Parts<'_>, reason: &str) -> Self {
        let mut message = Self::new(Parts { headers: Some(reason), payload: None, ..parts });
        message.has = Has { headers: false, reason: true, ..message.has };
        message
    }

    /// Why the row could not be read.
    #[must_use]
    pub fn unreadable_reason(&self) -> Option<&str> {
        self.has.reason.then(|| self.text(self.kind_end, self.headers_end))
    }

    /// The row's id: its place in the outbox. Never a message identity (a restored database reuses it).
    #[must_use]
    pub fn id(&self) -> i64 {
        self.id
    }

    /// The stable id that receivers deduplicate by.
    #[must_use]
    pub fn message_id(&self) -> Uuid {
        self.message_id
    }

    /// When the row was written, microseconds since the Unix epoch. Informs people, decides nothing.
    #[must_use]
    pub fn created_at_us(&self) -> i64 {
        self.created_at_us
    }

    /// The topic, which routes match.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.text(0, self.topic_end)
    }

    /// The ordering key; `None` = no order, `""` is a key like any other.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.has.key.then(|| self.text(self.topic_end, self.key_end))
    }

    /// [`topic`](Self::topic), for whoever needs no text: a field is checked each time it is read as one.
    #[must_use]
    pub fn topic_bytes(&self) -> &[u8] {
        self.part(0, self.topic_end)
    }

    /// [`key`](Self::key) as bytes.
    #[must_use]
    pub fn key_bytes(&self) -> Option<&[u8]> {
        self.has.key.then(|| self.part(self.topic_end, self.key_end))
    }

    /// [`kind`](Self::kind) as bytes.
    #[must_use]
    pub fn kind_bytes(&self) -> Option<&[u8]> {
        self.has.kind.then(|| self.part(self.key_end, self.kind_end))
    }

    /// The event type.
    #[must_use]
    pub fn kind(&self) -> Option<&str> {
        self.has.kind.then(|| self.text(self.key_end, self.kind_end))
    }

    /// The application headers: the JSON text of an object.
    #[must_use]
    pub fn headers(&self) -> Option<&str> {
        self.has.headers.then(|| self.text(self.kind_end, self.headers_end))
    }

    /// The payload; `None` = NULL (a tombstone in Kafka).
    #[must_use]
    pub fn payload(&self) -> Option<&[u8]> {
        self.has.payload.then(|| &self.bytes[self.headers_end as usize..])
    }

    /// The payload's size in bytes when it exceeded `row_bytes_max` and was therefore not read.
    #[must_use]
    pub fn oversize_bytes(&self) -> Option<u64> {
        self.oversize_bytes.map(NonZeroU64::get)
    }

    /// What this message costs in memory, in bytes: what the prefetch and the window are bounded by.
    #[must_use]
    pub fn cost_bytes(&self) -> usize {
        self.bytes.len() + size_of::<Self>()
    }

    fn text(&self, start: u32, end: u32) -> &str {
        std::str::from_utf8(self.part(start, end)).expect("the ends were taken where a str ended")
    }

    fn part(&self, start: u32, end: u32) -> &[u8] {
        &self.bytes[start as usize..end as usize]
    }
}

/// The payload is left out: nothing of it may reach a log.
impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id)
            .field("message_id", &self.message_id)
            .field("topic", &self.topic())
            .finish_non_exhaustive()
    }
}

/// Why a message is sent again, as far as the relay knows: the header `x-outbox-resent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resent {
    /// Among the first after this relay took the target over (a predecessor may have sent it).
    Takeover,
    /// It was unconfirmed when the connection to the broker was lost.
    Reconnect,
    /// It was refused before.
    Retry,
}

impl Resent {
    /// The header's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Takeover => "takeover",
            Self::Reconnect => "reconnect",
            Self::Retry => "retry",
        }
    }
}
