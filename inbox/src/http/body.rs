//! Bodies: a request's is read whole, since the fingerprint needs it; a response's up to what is kept.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::problem::Problem;

/// What a client gets: bytes that are there, and what is still to come of the handler's body.
#[derive(Debug)]
pub struct ReplyBody<B> {
    ready: VecDeque<Frame<Bytes>>,
    /// Boxed, so that it can be read before it is given away, whatever it is.
    rest: Option<Pin<Box<B>>>,
}

/// A response's body, as far as it was read.
pub(super) enum Capture<B> {
    /// To its end.
    Whole(Bytes),
    /// It is longer than what is kept, or has trailers.
    Beyond(ReplyBody<B>),
    /// It broke off.
    Broken,
}

/// Reads a request's body to its end.
pub(super) async fn read<B>(body: B, bytes_max: usize) -> Result<Bytes, Problem>
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match Limited::new(body, bytes_max).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Problem::BodyTooLarge),
        Err(_) => Err(Problem::BodyIncomplete),
    }
}

/// Reads a response's body, to its end or until it is longer than what is kept.
pub(super) async fn capture<B: Body>(body: B, bytes_max: usize) -> Capture<B> {
    let mut rest = Box::pin(body);
    if rest.size_hint().lower() > bytes_max as u64 {
        return Capture::Beyond(ReplyBody { ready: VecDeque::new(), rest: Some(rest) });
    }
    let mut read = BytesMut::new();
    loop {
        let frame = match rest.frame().await {
            None => return Capture::Whole(read.freeze()),
            Some(Err(_)) => return Capture::Broken,
            Some(Ok(frame)) => to_bytes(frame),
        };
        match frame.into_data() {
            Ok(data) if read.len() + data.len() <= bytes_max => read.extend_from_slice(&data),
            Ok(data) => {
                let ready = [Frame::data(read.freeze()), Frame::data(data)];
                return Capture::Beyond(ReplyBody { ready: ready.into(), rest: Some(rest) });
            }
            Err(frame) => {
                let ready = [Frame::data(read.freeze()), frame];
                return Capture::Beyond(ReplyBody { ready: ready.into(), rest: Some(rest) });
            }
        }
    }
}

fn to_bytes<D: Buf>(frame: Frame<D>) -> Frame<Bytes> {
    frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))
}

impl<B> ReplyBody<B> {
    /// A handler's body, unread.
    pub(super) fn unread(body: B) -> Self {
        Self { ready: VecDeque::new(), rest: Some(Box::pin(body)) }
    }
}

impl<B> From<Bytes> for ReplyBody<B> {
    fn from(bytes: Bytes) -> Self {
        let ready = if bytes.is_empty() { VecDeque::new() } else { [Frame::data(bytes)].into() };
        Self { ready, rest: None }
    }
}

impl<B: Body> Body for ReplyBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if let Some(frame) = self.ready.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        match &mut self.rest {
            None => Poll::Ready(None),
            Some(rest) => rest.as_mut().poll_frame(context).map_ok(to_bytes),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ready.is_empty() && self.rest.as_ref().is_none_or(|rest| rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let ready: u64 =
            self.ready.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum();
        let Some(rest) = &self.rest else {
            return SizeHint::with_exact(ready);
        };
        let rest = rest.size_hint();
        let mut both = SizeHint::new();
        both.set_lower(ready + rest.lower());
        if let Some(upper) = rest.upper() {
            both.set_upper(ready + upper);
        }
        both
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{Full, StreamBody};

    use super::*;

    type Chunk = Result<Frame<Bytes>, &'static str>;

    fn chunks(chunks: Vec<Chunk>) -> StreamBody<impl futures_util::Stream<Item = Chunk>> {
        StreamBody::new(futures_util::stream::iter(chunks))
    }

    fn data(text: &'static str) -> Chunk {
        Ok(Frame::data(Bytes::from_static(text.as_bytes())))
    }

    #[tokio::test]
    async fn what_fits_is_read_whole() {
        let Capture::Whole(bytes) = capture(chunks(vec![data("ab"), data("cd")]), 4).await else {
            panic!("it fits");
        };
        assert_eq!(bytes, "abcd");
    }

    #[tokio::test]
    async fn what_is_longer_is_passed_on_whole() {
        let body = chunks(vec![data("ab"), data("cd"), data("ef")]);
        let Capture::Beyond(body) = capture(body, 3).await else { panic!("it does not fit") };
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abcdef");
        let Capture::Beyond(body) = capture(Full::new(Bytes::from("abcd")), 3).await else {
            panic!("it says that it does not fit");
        };
        assert_eq!(body.size_hint().exact(), Some(4));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abcd");
    }

    #[tokio::test]
    async fn trailers_are_passed_on() {
        let trailers =
            Frame::trailers([("a".parse().unwrap(), "b".parse().unwrap())].into_iter().collect());
        let Capture::Beyond(body) = capture(chunks(vec![data("ab"), Ok(trailers)]), 9).await else {
            panic!("trailers are not kept");
        };
        assert!(body.collect().await.unwrap().trailers().unwrap().contains_key("a"));
    }

    #[tokio::test]
    async fn what_breaks_off_is_not_taken_for_whole() {
        assert!(matches!(capture(chunks(vec![data("ab"), Err("lost")]), 9).await, Capture::Broken));
    }

    #[tokio::test]
    async fn a_request_has_a_limit() {
        assert_eq!(read(Full::new(Bytes::from("abc")), 3).await, Ok("abc".into()));
        assert_eq!(read(Full::new(Bytes::from("abcd")), 3).await, Err(Problem::BodyTooLarge));
        assert_eq!(
            read(chunks(vec![data("a"), Err("lost")]), 3).await,
            Err(Problem::BodyIncomplete)
        );
    }
}
