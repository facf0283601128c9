//! gRPC on HTTP/2 frames: one message in, one message and trailers out. Bodies are moved, not decoded.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::config::limits::{BODIES_BYTES_MAX, REQUEST_BYTES_MAX};
use crate::types::{Error, ErrorKind, Result};

/// Compressed flag and length in front of each message.
const PREFIX_BYTES: usize = 5;
/// Up to here a reply is copied behind its prefix and sent as one frame; a longer one is sent as it is, as a second frame.
const COPIED_REPLY_BYTES: usize = 8 << 10;
/// What a message's buffer is made with at most; a client's claim of a length is not believed before its bytes are there.
const FIRST_CAPACITY: usize = 1 << 20;

/// gRPC status codes that the gateway answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    Internal = 13,
    Unimplemented = 12,
}

/// Why a message could not be read.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The client went away or broke the protocol; there is nobody to tell more than a gRPC status.
    Broken(&'static str),
    /// Something that the caller is told in the response message.
    Refused(Error),
}

/// Bytes of request bodies held by the gateway.
#[derive(Debug, Default)]
pub(super) struct BodyBudget {
    held: AtomicUsize,
}

/// A request body; gives its bytes back to the budget when dropped.
#[derive(Debug)]
pub(super) struct HeldBody<'a> {
    budget: &'a BodyBudget,
    counted: usize,
    message: Message,
}

#[derive(Debug)]
enum Message {
    Whole(Bytes),
    Joined(Vec<u8>),
}

impl AsRef<[u8]> for HeldBody<'_> {
    fn as_ref(&self) -> &[u8] {
        match &self.message {
            Message::Whole(bytes) => bytes,
            Message::Joined(bytes) => bytes,
        }
    }
}

impl HeldBody<'_> {
    fn count(&mut self, bytes: usize) -> Result<(), ReadError> {
        self.counted += bytes;
        let held = self.budget.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if held <= BODIES_BYTES_MAX {
            return Ok(());
        }
        Err(ReadError::Refused(Error::new(
            ErrorKind::RateLimited,
            format!("the gateway holds {held} bytes of requests, at most {BODIES_BYTES_MAX}; try again"),
        )))
    }
}

impl Drop for HeldBody<'_> {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

impl BodyBudget {
    /// Reads the one message of a unary call.
    ///
    /// # Errors
    /// When the stream ends early, the message is compressed or too large, or too many bytes are held already.
    pub(super) async fn read_message(&self, mut body: Incoming) -> Result<HeldBody<'_>, ReadError> {
        let mut held = HeldBody { budget: self, counted: 0, message: Message::Whole(Bytes::new()) };
        let mut head = next_data(&mut body).await?;
        held.count(head.len())?;
        while head.len() < PREFIX_BYTES {
            // Only a client that trickles single bytes gets here.
            let next = next_data(&mut body).await?;
            held.count(next.len())?;
            head = [head, next].concat().into();
        }
        let length = message_length(&head)?;
        head.advance(PREFIX_BYTES);
        if head.len() >= length {
            head.truncate(length);
            held.message = Message::Whole(head);
            return Ok(held);
        }
        let mut joined = Vec::with_capacity(length.min(FIRST_CAPACITY));
        joined.extend_from_slice(&head);
        drop(head);
        while joined.len() < length {
            let next = next_data(&mut body).await?;
            held.count(next.len())?;
            joined.extend_from_slice(&next[..next.len().min(length - joined.len())]);
        }
        held.message = Message::Joined(joined);
        Ok(held)
    }
}

/// The next bytes of a body.
async fn next_data(body: &mut Incoming) -> Result<Bytes, ReadError> {
    loop {
        match body.frame().await {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(data);
                }
            }
            Some(Err(_)) => return Err(ReadError::Broken("the request was broken off")),
            None => return Err(ReadError::Broken("the request ended before its message was complete")),
        }
    }
}

/// The length in a message's prefix.
fn message_length(head: &[u8]) -> Result<usize, ReadError> {
    let [flag, length @ ..] = head.first_chunk::<PREFIX_BYTES>().copied().unwrap_or_default();
    if flag != 0 {
        return Err(ReadError::Broken("compressed messages are not taken; send without grpc-encoding"));
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > REQUEST_BYTES_MAX {
        return Err(ReadError::Refused(Error::invalid(format_args!(
            "received message larger than max ({length} vs. {REQUEST_BYTES_MAX}); send fewer rows per request"
        ))));
    }
    Ok(length)
}

/// The frames of a reply.
#[derive(Debug, Default)]
pub(super) struct ReplyBody {
    data: [Option<Bytes>; 2],
    trailers: Option<HeaderMap>,
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.data.iter_mut().find_map(Option::take).map(Frame::data);
        let frame = data.or_else(|| self.trailers.take().map(Frame::trailers));
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.trailers.is_none() && self.data.iter().all(Option::is_none)
    }
}

/// A reply with gRPC status OK.
pub(super) fn ok_response(message: Vec<u8>) -> Response<ReplyBody> {
    // Bounded by the slot pool (REPLY_BYTES_MAX), far below 4 GiB.
    let mut prefix =
        Vec::with_capacity(PREFIX_BYTES + if message.len() <= COPIED_REPLY_BYTES { message.len() } else { 0 });
    prefix.push(0);
    prefix.extend_from_slice(&(message.len() as u32).to_be_bytes());
    let data = if message.len() <= COPIED_REPLY_BYTES {
        prefix.extend_from_slice(&message);
        [Some(prefix.into()), None]
    } else {
        [Some(prefix.into()), Some(message.into())]
    };
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let mut response = Response::new(ReplyBody { data, trailers: Some(trailers) });
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// A gRPC error: headers only.
pub(super) fn error_response(code: Code, message: &str) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::default());
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(code as u16));
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(message)) {
        headers.insert("grpc-message", message);
    }
    response
}

/// The answer to what is no gRPC call.
pub(super) fn not_grpc() -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::default());
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response
}

/// gRPC's encoding of messages in headers: printable ASCII stays, the rest is `%XX`.
fn percent_encoded(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// The time a `grpc-timeout` header grants: at most 8 digits and a unit. `None` when it makes no sense.
pub(super) fn timeout_of(header: &str) -> Option<Duration> {
    let (digits, unit) = header.split_at_checked(header.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3_600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_in_every_unit() {
        assert_eq!(timeout_of("2H"), Some(Duration::from_secs(7_200)));
        assert_eq!(timeout_of("99999999M"), Some(Duration::from_secs(99_999_999 * 60)));
        assert_eq!(timeout_of("1500m"), Some(Duration::from_millis(1_500)));
        assert_eq!(timeout_of("7u"), Some(Duration::from_micros(7)));
        for wrong in ["", "S", "1", "-1S", "123456789S", "1s", "1é"] {
            assert_eq!(timeout_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn messages_in_headers_are_ascii() {
        assert_eq!(percent_encoded("a b%é"), "a b%25%C3%A9");
    }

    #[test]
    fn a_prefix_is_checked() {
        assert_eq!(message_length(&[0, 0, 0, 1, 2]).expect("a length"), 258);
        assert!(matches!(message_length(&[1, 0, 0, 0, 0]), Err(ReadError::Broken(_))));
        assert!(matches!(message_length(&[0, 255, 0, 0, 0]), Err(ReadError::Refused(_))));
    }
}
