//! Timestamps and intervals of the filter language: ISO 8601, microseconds since the Unix epoch.

use super::error::FilterError;
use crate::types::{DAY_MICROSECONDS as DAY, Zone, civil, days_of, parse_instant};

const SECOND: i64 = 1_000_000;

/// A span of time; months have no fixed length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) months: i64,
    pub(super) microseconds: i64,
}

impl Interval {
    /// Reads `P1Y2M3DT4H5M6S`; every part is optional.
    pub(super) fn parse(text: &str) -> Result<Interval, FilterError> {
        let invalid = || FilterError::expression(format!("invalid ISO 8601 duration: {text}"));
        let mut rest = text.strip_prefix('P').ok_or_else(invalid)?;
        let mut interval = Interval::default();
        let mut units: &[(char, i64, bool)] = &[('Y', 12, true), ('M', 1, true), ('D', DAY, false)];
        let mut is_time = false;
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('T').filter(|_| !is_time) {
                units = &[('H', 3_600 * SECOND, false), ('M', 60 * SECOND, false), ('S', SECOND, false)];
                is_time = true;
                rest = after;
                continue;
            }
            let length = rest.bytes().take_while(u8::is_ascii_digit).count();
            let amount: i64 = rest[..length].parse().map_err(|_| invalid())?;
            let unit = rest[length..].chars().next().ok_or_else(invalid)?;
            let place = units.iter().position(|(name, ..)| *name == unit).ok_or_else(invalid)?;
            let (_, scale, is_months) = units[place];
            let total = if is_months { &mut interval.months } else { &mut interval.microseconds };
            *total = amount.checked_mul(scale).and_then(|part| total.checked_add(part)).ok_or_else(invalid)?;
            units = &units[place + 1..];
            rest = &rest[length + unit.len_utf8()..];
        }
        Ok(interval)
    }

    /// The interval backwards.
    pub(super) fn negated(self) -> Interval {
        Interval { months: -self.months, microseconds: -self.microseconds }
    }

    /// A timestamp this much later; a day that the month does not have runs over into the next, as in Go.
    pub(super) fn after(self, instant: i64) -> i64 {
        let mut moved = instant;
        if self.months != 0 {
            let (year, month, day) = civil(instant.div_euclid(DAY));
            let months = year.saturating_mul(12).saturating_add(month - 1).saturating_add(self.months);
            // Beyond the years a timestamp can hold the sum saturates.
            let months = months.clamp(-12 * 400_000, 12 * 400_000);
            let days = days_of(months.div_euclid(12), months.rem_euclid(12) + 1, 1) + day - 1;
            moved = days.saturating_mul(DAY).saturating_add(instant.rem_euclid(DAY));
        }
        moved.saturating_add(self.microseconds)
    }
}

/// Reads an ISO 8601 timestamp; without an offset it is of the zone.
pub(super) fn instant(text: &str, zone: &Zone) -> Result<i64, FilterError> {
    parse_instant(text, zone).ok_or_else(|| {
        FilterError::expression(format!("invalid timestamp string: '{text}'. Does not match any known format"))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        instant(text, &Zone::UTC).unwrap()
    }

    #[test]
    fn intervals_move_by_calendar_months() {
        let moved = |interval: &str, from: &str| Interval::parse(interval).unwrap().after(at(from));
        assert_eq!(moved("P1D", "2024-02-28T01:00:00Z"), at("2024-02-29T01:00:00Z"));
        assert_eq!(moved("P1M", "2025-01-15 00:00:00"), at("2025-02-15 00:00:00"));
        assert_eq!(moved("P1M", "2025-01-31 00:00:00"), at("2025-03-03 00:00:00"));
        assert_eq!(moved("P1Y2M3DT4H5M6S", "2024-11-01 00:00:00"), at("2026-01-04T04:05:06Z"));
        assert_eq!(
            Interval::parse("P2M").unwrap().negated().after(at("2025-01-15 00:00:00")),
            at("2024-11-15 00:00:00")
        );
        for wrong in ["1D", "P1X", "P1D2Y", "PT1D", "P1", "P99999999999999999999D"] {
            assert!(Interval::parse(wrong).is_err(), "{wrong}");
        }
        Interval { months: i64::MAX, microseconds: i64::MAX }.after(i64::MAX);
        Interval { months: i64::MIN, microseconds: i64::MIN }.after(i64::MIN);
    }
}
