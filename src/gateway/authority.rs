//! Unix sockets for gRPC's C core (Python, C++, Ruby): it sends the socket's path, percent-encoded, as `:authority`, which
//! the HTTP/2 library refuses as malformed. The value means nothing here, so its odd bytes are replaced on the way in,
//! length unchanged: both ends of the header compression still agree.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a client sends before its first frame.
const PREFACE_BYTES: usize = 24;
/// Length, type, flags and stream of a frame.
const FRAME_HEAD_BYTES: usize = 9;
/// The type of frames with headers.
const HEADERS: u8 = 1;
/// The header's name as an uncompressed literal; its length-prefixed value follows.
const NAME: &[u8] = b":authority";

/// A stream whose incoming `:authority` values are plain names.
#[derive(Debug)]
pub(super) struct PlainAuthority<S> {
    stream: S,
    filter: Filter,
}

impl<S> PlainAuthority<S> {
    pub(super) fn new(stream: S) -> PlainAuthority<S> {
        PlainAuthority { stream, filter: Filter::default() }
    }
}

/// Where in the client's bytes the filter is.
#[derive(Debug)]
enum Place {
    /// Inside what is passed on unread: the preface, payloads without headers.
    Skip { left: usize },
    /// Inside a frame's head, of which so many bytes are known.
    Head { known: [u8; FRAME_HEAD_BYTES], len: usize },
    /// Inside a payload with headers.
    Headers { left: usize, part: Part },
}

/// Where in a header.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// So many bytes of the name were matched.
    Name(usize),
    /// The next byte is the value's length.
    Length,
    /// So many bytes of the value follow.
    Value(u8),
}

#[derive(Debug)]
struct Filter {
    place: Place,
}

impl Default for Filter {
    fn default() -> Filter {
        Filter { place: Place::Skip { left: PREFACE_BYTES } }
    }
}

impl Filter {
    fn apply(&mut self, bytes: &mut [u8]) {
        let mut at = 0;
        while at < bytes.len() {
            match &mut self.place {
                Place::Skip { left } => {
                    let skipped = (*left).min(bytes.len() - at);
                    *left -= skipped;
                    at += skipped;
                    if *left == 0 {
                        self.place = Place::Head { known: [0; FRAME_HEAD_BYTES], len: 0 };
                    }
                }
                Place::Head { known, len } => {
                    known[*len] = bytes[at];
                    *len += 1;
                    at += 1;
                    if *len == FRAME_HEAD_BYTES {
                        self.place = payload_of(known);
                    }
                }
                Place::Headers { left, part } => {
                    *part = part.after(&mut bytes[at]);
                    *left -= 1;
                    at += 1;
                    if *left == 0 {
                        self.place = Place::Head { known: [0; FRAME_HEAD_BYTES], len: 0 };
                    }
                }
            }
        }
    }
}

/// The place after a frame's head.
fn payload_of(head: &[u8; FRAME_HEAD_BYTES]) -> Place {
    let left = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    match (left, head[3]) {
        (0, _) => Place::Head { known: [0; FRAME_HEAD_BYTES], len: 0 },
        (_, HEADERS) => Place::Headers { left, part: Part::Name(0) },
        _ => Place::Skip { left },
    }
}

impl Part {
    fn after(self, byte: &mut u8) -> Part {
        match self {
            Part::Name(matched) if *byte == NAME[matched] => match matched + 1 == NAME.len() {
                true => Part::Length,
                false => Part::Name(matched + 1),
            },
            // The name begins with its only colon, so a mismatch can only begin it anew.
            Part::Name(_) => Part::Name(usize::from(*byte == NAME[0])),
            // Compressed values (top bit) and those of 127 bytes and more are left alone: no socket has such a path.
            Part::Length if *byte == 0 || *byte >= 0x7f => Part::Name(0),
            Part::Length => Part::Value(*byte),
            Part::Value(left) => {
                if !(byte.is_ascii_alphanumeric() || matches!(*byte, b'.' | b'-')) {
                    *byte = b'-';
                }
                if left == 1 { Part::Name(0) } else { Part::Value(left - 1) }
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PlainAuthority<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let filled = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.filter.apply(&mut buffer.filled_mut()[filled..]);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PlainAuthority<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, 0, 0, 0, 0, 1]);
        frame.extend(payload);
        frame
    }

    #[test]
    fn paths_become_plain_names_however_the_bytes_arrive() {
        let settings = frame(4, b":authority\x04a%2F");
        let data = frame(0, b":authority\x04a%2F");
        let sent = |name: &[u8]| {
            let headers = [b"@\x05:path\x04/a%b@\x0a:authority\x0d", name, b"\x83\x86@\x01x\x01%"].concat();
            [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &settings, &frame(1, &headers), &data, &frame(1, b"")].concat()
        };
        let expected = sent(b"tmp-2Fh8-sock");
        for chunk in [1, 2, 7, 64, 10_000] {
            let mut bytes = sent(b"tmp%2Fh8_sock");
            let mut filter = Filter::default();
            bytes.chunks_mut(chunk).for_each(|chunk| filter.apply(chunk));
            assert_eq!(bytes, expected);
        }
    }
}
