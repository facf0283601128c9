//! Exit codes, for the program and for its roles: the one place where errors become numbers.

use crate::types::{Error, ErrorKind};

/// A failure that none of the others names.
pub const FAILED: u8 = 1;
/// Bad configuration or usage: whoever ends with it is not started again.
pub const USAGE: u8 = 2;
/// Another server uses the directory.
pub const IN_USE: u8 = 3;
/// The disk is full.
pub const DISK_FULL: u8 = 4;
/// Stored bytes fail their check.
pub const CORRUPT: u8 = 5;
/// A bug of ours.
pub const BUG: u8 = 70;

/// The exit code of a program or role that ends with this error.
pub fn code(error: &Error) -> u8 {
    match error.kind {
        ErrorKind::InvalidParameter | ErrorKind::MissingParameter => USAGE,
        ErrorKind::InUse => IN_USE,
        ErrorKind::DiskFull => DISK_FULL,
        ErrorKind::Corrupt => CORRUPT,
        ErrorKind::Internal => BUG,
        _ => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_their_exit_codes() {
        let kinds = [ErrorKind::InvalidParameter, ErrorKind::InUse, ErrorKind::DiskFull, ErrorKind::Corrupt];
        assert_eq!(kinds.map(|kind| code(&Error::new(kind, ""))), [2, 3, 4, 5]);
        assert_eq!([ErrorKind::Internal, ErrorKind::Io].map(|kind| code(&Error::new(kind, ""))), [70, 1]);
    }
}
