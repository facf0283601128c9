//! Timestamps and intervals of the filter language: ISO 8601, microseconds since the Unix epoch.

use super::error::FilterError;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

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

/// Reads an ISO 8601 timestamp; without a zone it is UTC.
pub(super) fn parse_instant(text: &str) -> Result<i64, FilterError> {
    read_instant(text).ok_or_else(|| {
        FilterError::expression(format!("invalid timestamp string: '{text}'. Does not match any known format"))
    })
}

fn read_instant(text: &str) -> Option<i64> {
    let (date, time) = match text.split_once(['T', ' ']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let (year, month, day) = (digits(parts.next()?, 4)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let is_day = (1..=12).contains(&month) && day >= 1 && civil(days_of(year, month, day)) == (year, month, day);
    if parts.next().is_some() || !is_day {
        return None;
    }
    let midnight = days_of(year, month, day) * DAY;
    let Some(time) = time else { return Some(midnight) };
    let (clock, zone) = match time.find(['Z', '+', '-']) {
        Some(at) => (&time[..at], zone(&time[at..])?),
        None => (time, 0),
    };
    Some(midnight + clock_time(clock)? - zone)
}

fn clock_time(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let mut parts = whole.split(':');
    let (hour, minute) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let second = parts.next().map_or(Some(0), |second| digits(second, 2))?;
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let micros: i64 = format!("{fraction:0<6}")[..6].parse().ok()?;
    Some(((hour * 60 + minute) * 60 + second) * SECOND + micros)
}

/// `Z` or `+08:00`, as microseconds east of UTC.
fn zone(text: &str) -> Option<i64> {
    if text == "Z" {
        return Some(0);
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = text[1..].split_once(':')?;
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    (hours <= 18 && minutes <= 59).then_some(sign * (hours * 60 + minutes) * 60 * SECOND)
}

/// A number of exactly so many digits.
fn digits(text: &str, count: usize) -> Option<i64> {
    if text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Days since the Unix epoch of a date of the Gregorian calendar (Hinnant's algorithm).
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month and day of a day since the Unix epoch.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        parse_instant(text).unwrap()
    }

    #[test]
    fn instants_are_read_with_and_without_zone() {
        assert_eq!(at("1970-01-01T00:00:00Z"), 0);
        assert_eq!(at("2025-01-01T08:00:00+08:00"), 1_735_689_600 * SECOND);
        assert_eq!(at("2025-01-01T00:00:00"), 1_735_689_600 * SECOND);
        assert_eq!(at("2025-01-01"), at("2025-01-01 00:00"));
        assert_eq!(at("1969-12-31T23:59:59.999999Z"), -1);
        for wrong in
            ["", "1234", "timestamp", "2025-02-29", "2025-13-01", "2025-01-01T24:00:00Z", "2025-01-01T00:00:00+8"]
        {
            assert!(parse_instant(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn intervals_move_by_calendar_months() {
        let moved = |interval: &str, from: &str| Interval::parse(interval).unwrap().after(at(from));
        assert_eq!(moved("P1D", "2024-02-28T01:00:00Z"), at("2024-02-29T01:00:00Z"));
        assert_eq!(moved("P1M", "2025-01-15"), at("2025-02-15"));
        assert_eq!(moved("P1M", "2025-01-31"), at("2025-03-03"));
        assert_eq!(moved("P1Y2M3DT4H5M6S", "2024-11-01"), at("2026-01-04T04:05:06Z"));
        assert_eq!(Interval::parse("P2M").unwrap().negated().after(at("2025-01-15")), at("2024-11-15"));
        for wrong in ["1D", "P1X", "P1D2Y", "PT1D", "P1", "P99999999999999999999D"] {
            assert!(Interval::parse(wrong).is_err(), "{wrong}");
        }
        Interval { months: i64::MAX, microseconds: i64::MAX }.after(i64::MAX);
        Interval { months: i64::MIN, microseconds: i64::MIN }.after(i64::MIN);
    }
}
