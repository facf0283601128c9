//! How long rows live: the property `collection.ttl.seconds`.
//!
//! An expired row is gone for every reader at once, whatever its snapshot, by the machine's clock; merges drop it later.

use super::Timestamp;

/// The property's name.
pub const TTL_PROPERTY: &str = "collection.ttl.seconds";

/// Rows inserted at or before this have expired; 0 when rows live for ever (no such property, 0 or -1).
pub fn expired_until(properties: &[(String, String)], now_unix_ms: impl FnOnce() -> u64) -> Timestamp {
    let ttl = properties.iter().find(|(name, _)| name == TTL_PROPERTY).and_then(|(_, ttl)| ttl.trim().parse().ok());
    let ttl_ms = ttl.filter(|ttl: &u64| *ttl > 0).and_then(|ttl| ttl.checked_mul(1_000));
    ttl_ms.map_or(Timestamp(0), |ttl_ms| Timestamp::from_unix_ms(now_unix_ms().saturating_sub(ttl_ms)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_expire_after_the_ttl_and_without_one_never() {
        let until = |ttl: &str| expired_until(&[(TTL_PROPERTY.to_owned(), ttl.to_owned())], || 10_000);
        assert_eq!(until("4"), Timestamp::from_unix_ms(6_000));
        assert_eq!(until("3155760000"), Timestamp(0));
        for never in ["0", "-1", "", "x"] {
            assert_eq!(until(never), Timestamp(0), "{never}");
        }
        assert_eq!(expired_until(&[], || 10_000), Timestamp(0));
    }
}
