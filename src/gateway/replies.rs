//! Replies that the gateway makes itself: an error as the message of any method, without knowing the message.

use prost::Message;

use crate::ipc::method::{Form, Method};
use crate::proto::status;
use crate::types::Error;

/// Field 1, length-delimited: where every response message has its status.
const STATUS_TAG: u8 = 0x0a;

/// The response of `method` that says only that it failed, and how.
pub(super) fn error_reply(method: Method, error: &Error) -> Vec<u8> {
    let status = status::failure(error).encode_to_vec();
    if is_bare(method) {
        return status;
    }
    let mut reply = Vec::with_capacity(status.len() + 6);
    reply.push(STATUS_TAG);
    // Writing to a Vec cannot fail.
    prost::encoding::encode_varint(status.len() as u64, &mut reply);
    reply.extend_from_slice(&status);
    reply
}

/// Whether a reply tells of a failure, by its first bytes: success is an empty status.
pub(super) fn is_failure(method: Method, reply: &[u8]) -> bool {
    match is_bare(method) {
        true => !reply.is_empty(),
        false => matches!(reply, [STATUS_TAG, length, ..] if *length != 0),
    }
}

/// Whether the method answers a `Status` and not a message with one.
fn is_bare(method: Method) -> bool {
    method.form() == Form::Status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::common::Status;
    use crate::proto::milvus::{MutationResult, SearchResults};
    use crate::types::ErrorKind;

    #[test]
    fn an_error_is_a_valid_response_of_every_method() {
        let error = Error::new(ErrorKind::RateLimited, "x".repeat(300));
        for method in Method::ALL.iter().filter(|method| method.form() != Form::Other) {
            let reply = error_reply(*method, &error);
            assert!(is_failure(*method, &reply));
            let bare = Status::decode(reply.as_slice()).ok().filter(|status| status.code == 8);
            let inner = MutationResult::decode(reply.as_slice()).ok().and_then(|reply| reply.status);
            let inner = inner.filter(|status| status.code == 8);
            assert_eq!(bare.is_some(), is_bare(*method), "{method:?}");
            assert_eq!(inner.is_some(), !is_bare(*method), "{method:?}");
        }
    }

    #[test]
    fn success_is_no_failure() {
        let reply = SearchResults { status: Some(Status::default()), ..Default::default() }.encode_to_vec();
        assert!(!is_failure(Method::Search, &reply));
        assert!(!is_failure(Method::CreateIndex, &Status::default().encode_to_vec()));
    }
}
