//! The error of the roles and of the library's edge: what kind, whose fault, worth another try.
//!
//! Lower folders have small error enums of their own and convert into this one. Only `proto/status.rs` turns a kind
//! into Milvus codes.

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in the words of the protocol's callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The named collection does not exist.
    CollectionNotFound,
    /// The collection exists but is not loaded.
    CollectionNotLoaded,
    /// The operation needs a released collection.
    CollectionLoaded,
    /// A collection of that name exists with other parameters, or a limit on their number is reached.
    CollectionIllegalSchema,
    /// The named partition does not exist.
    PartitionNotFound,
    /// The partition exists but is not loaded.
    PartitionNotLoaded,
    /// The named database does not exist.
    DatabaseNotFound,
    /// The name cannot be a database's.
    DatabaseInvalidName,
    /// No such index.
    IndexNotFound,
    /// An index is in the way.
    IndexDuplicate,
    /// No such alias.
    AliasNotFound,
    /// An alias and a collection would share one name.
    AliasCollectionConflict,
    /// The alias belongs to another collection.
    AliasExists,
    /// No such resource group.
    ResourceGroupNotFound,
    /// No such field.
    FieldNotFound,
    /// The name cannot be a field's.
    FieldInvalidName,
    /// A parameter is wrong; the commonest error.
    InvalidParameter,
    /// A parameter is missing.
    MissingParameter,
    /// The request was made for an older schema; the client reads the schema again and retries.
    SchemaMismatch,
    /// Too much at once: buffers or queues are full; try again.
    RateLimited,
    /// This server does not do that; the message names what.
    Unimplemented,
    /// A role is restarting or stopping; try again.
    Unavailable,
    /// The deadline passed before the answer was there.
    Timeout,
    /// The disk is full.
    DiskFull,
    /// Stored bytes fail their check; the message names the file.
    Corrupt,
    /// The directory is in use by another server.
    InUse,
    /// An operating-system error that none of the above names.
    Io,
    /// Rejected by Milvus with its "unexpected error" code (65535).
    Unexpected,
    /// A bug of ours.
    Internal,
}

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The caller's: the same request fails again.
    Client,
    /// Ours or the machine's.
    Server,
}

/// Kind and message; the message says what was tried, on what, why not, and what to do.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What went wrong.
    pub kind: ErrorKind,
    /// One sentence for a person.
    pub message: String,
}

impl Error {
    /// An error of this kind with this message.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into() }
    }

    /// The caller's parameter is wrong. Appends Milvus' `: invalid parameter`.
    pub fn invalid(message: impl std::fmt::Display) -> Error {
        Error::new(ErrorKind::InvalidParameter, format!("{message}: invalid parameter"))
    }

    /// The caller asked for something this server does not do.
    pub fn unimplemented(what: impl std::fmt::Display) -> Error {
        Error::new(ErrorKind::Unimplemented, format!("{what} is not supported yet by ShoalDB"))
    }

    /// A bug of ours.
    pub fn internal(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Internal, message)
    }

    /// An operating-system error, with what was tried and on what: `cannot <attempt>: <error>`.
    pub fn io(attempt: impl std::fmt::Display, error: &std::io::Error) -> Error {
        let kind = match error.raw_os_error() {
            // ENOSPC and EDQUOT.
            Some(28 | 122) => ErrorKind::DiskFull,
            _ => ErrorKind::Io,
        };
        Error::new(kind, format!("cannot {attempt}: {error}"))
    }

    /// Whether the same request may succeed later.
    pub fn is_retriable(&self) -> bool {
        matches!(self.kind, ErrorKind::RateLimited | ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::DiskFull)
    }

    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self.kind {
            ErrorKind::RateLimited
            | ErrorKind::Unavailable
            | ErrorKind::Timeout
            | ErrorKind::DiskFull
            | ErrorKind::Corrupt
            | ErrorKind::InUse
            | ErrorKind::Io
            | ErrorKind::Internal => Blame::Server,
            _ => Blame::Client,
        }
    }
}
