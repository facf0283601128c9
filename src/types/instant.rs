//! Instants: microseconds since the Unix epoch, written as ISO 8601 in a time zone of the IANA database.
//!
//! The database is compiled in: whether a server knows a zone must not depend on what its machine has installed.

use std::fmt;

use jiff::tz::{TimeZone, TimeZoneDatabase};

const SECOND: i64 = 1_000_000;
/// Microseconds of a day.
pub const DAY_MICROSECONDS: i64 = 86_400 * SECOND;
/// Offsets a client may write, in seconds (Milvus).
const OFFSETS: std::ops::RangeInclusive<i64> = -12 * 3_600..=14 * 3_600;

/// A time zone.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Default for Zone {
    fn default() -> Zone {
        Zone::UTC
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Zone").field(&self.0.iana_name()).finish()
    }
}

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Zone = Zone(TimeZone::UTC);

    /// The zone with this name, such as `Asia/Shanghai`.
    pub fn from_name(name: &str) -> Option<Zone> {
        if name == "UTC" {
            return Some(Zone::UTC);
        }
        TimeZoneDatabase::bundled().get(name).ok().map(Zone)
    }

    /// Seconds that clocks of the zone are ahead of UTC at an instant.
    pub fn offset_at(&self, instant: i64) -> i64 {
        // Beyond the years that the library knows the rules of its last year go on.
        let known = jiff::Timestamp::MIN.as_microsecond()..=jiff::Timestamp::MAX.as_microsecond();
        let instant = instant.clamp(*known.start(), *known.end());
        let timestamp = jiff::Timestamp::from_microsecond(instant).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        self.0.to_offset(timestamp).seconds().into()
    }

    /// The instant at which clocks of the zone show a time, given as if they showed UTC. Of two such instants the earlier
    /// one; a time that clocks skip is read with the offset before they do.
    fn instant_of(&self, local: i64) -> i64 {
        let shifted = |offset: i64| local.saturating_sub(offset * SECOND);
        // Offsets around a change: a day before it and a day behind it no other change is near.
        let before = self.offset_at(local.saturating_sub(DAY_MICROSECONDS));
        let after = self.offset_at(local.saturating_add(DAY_MICROSECONDS));
        let shows = |offset: i64| self.offset_at(shifted(offset)) == offset;
        match shows(before) {
            false if shows(after) => shifted(after),
            _ => shifted(before),
        }
    }

    /// An instant as clocks of the zone show it, with as many digits of a second as it needs: `2025-01-01T08:00:00.5+08:00`.
    pub fn show(&self, instant: i64) -> String {
        let offset = self.offset_at(instant);
        let local = instant.saturating_add(offset * SECOND);
        let (year, month, day) = civil(local.div_euclid(DAY_MICROSECONDS));
        let clock = local.rem_euclid(DAY_MICROSECONDS);
        let (seconds, microseconds) = (clock / SECOND, clock % SECOND);
        let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
        if microseconds != 0 {
            text.push_str(format!(".{microseconds:06}").trim_end_matches('0'));
        }
        match offset {
            0 => text.push('Z'),
            _ => {
                let minutes = offset.abs() / 60;
                let sign = if offset < 0 { '-' } else { '+' };
                text.push_str(&format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60));
            }
        }
        text
    }

    /// Year, month, day, hour, minute, second and microsecond as clocks of the zone show them.
    pub fn parts(&self, instant: i64) -> [i64; 7] {
        let local = instant.saturating_add(self.offset_at(instant) * SECOND);
        let (year, month, day) = civil(local.div_euclid(DAY_MICROSECONDS));
        let clock = local.rem_euclid(DAY_MICROSECONDS);
        let seconds = clock / SECOND;
        [year, month, day, seconds / 3_600, seconds / 60 % 60, seconds % 60, clock % SECOND]
    }
}

/// Reads `2025-01-01T08:00:00.5+08:00`; a space may take the place of the `T`, and without an offset the time is the zone's.
/// Digits beyond microseconds are dropped.
pub fn parse_instant(text: &str, zone: &Zone) -> Option<i64> {
    let (date, time) = text.split_once(['T', ' '])?;
    let mut parts = date.split('-');
    let (year, month, day) = (digits(parts.next()?, 4)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let is_day = (1..=12).contains(&month) && day >= 1 && civil(days_of(year, month, day)) == (year, month, day);
    if parts.next().is_some() || !is_day {
        return None;
    }
    let midnight = days_of(year, month, day) * DAY_MICROSECONDS;
    match time.find(['Z', '+', '-']) {
        Some(at) => Some(midnight + clock_time(&time[..at])? - offset(&time[at..])?),
        None => Some(zone.instant_of(midnight + clock_time(time)?)),
    }
}

fn clock_time(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let mut parts = whole.split(':');
    let (hour, minute, second) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(6);
    let microseconds = digits.fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    Some((hour * 3_600 + minute * 60 + second) * SECOND + microseconds)
}

/// `Z`, `+08` or `+08:00`.
fn offset(text: &str) -> Option<i64> {
    if text == "Z" {
        return Some(0);
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = text[1..].split_once(':').unwrap_or((&text[1..], "00"));
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    let seconds = sign * (hours * 60 + minutes) * 60;
    (minutes <= 59 && OFFSETS.contains(&seconds)).then_some(seconds * SECOND)
}

/// A number of exactly so many digits.
fn digits(text: &str, count: usize) -> Option<i64> {
    if text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Days since the Unix epoch of a date of the Gregorian calendar (Hinnant's algorithm).
pub fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month and day of a day since the Unix epoch.
pub fn civil(days: i64) -> (i64, i64, i64) {
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

    fn zone(name: &str) -> Zone {
        Zone::from_name(name).unwrap()
    }

    #[test]
    fn instants_are_read_with_and_without_an_offset() {
        let at = |text: &str| parse_instant(text, &Zone::UTC).unwrap();
        assert_eq!(at("1970-01-01T00:00:00Z"), 0);
        assert_eq!(at("2025-01-01T08:00:00+08:00"), 1_735_689_600 * SECOND);
        assert_eq!(at("2025-01-01 08:00:00+08"), 1_735_689_600 * SECOND);
        assert_eq!(at("2025-01-01 00:00:00.000001999"), 1_735_689_600 * SECOND + 1);
        assert_eq!(at("1969-12-31T23:59:59.999999Z"), -1);
        for wrong in [
            "",
            "1234",
            "timestamp",
            "2025-01-01",
            "2025-01-01 00:00",
            "2025-02-29 00:00:00",
            "2025-04-31 00:00:00",
            "2025-13-01T00:00:00",
            "2025-01-01T24:00:00Z",
            "2025-01-01T00:00:00+8",
            "2025-01-01T00:00:00+24:00",
            "2025-01-01T00:00:00-13:00",
            "2025-01-01T00:00:00.Z",
            "٢٠٢٥-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_instant(wrong, &Zone::UTC), None, "{wrong}");
        }
    }

    #[test]
    fn zones_say_what_clocks_show() {
        let shanghai = zone("Asia/Shanghai");
        assert_eq!(parse_instant("2024-10-23 23:30:00.123456", &shanghai), Some(1_729_697_400_123_456));
        assert_eq!(shanghai.show(1_729_697_400_123_456), "2024-10-23T23:30:00.123456+08:00");
        assert_eq!(shanghai.parts(1_729_697_400_123_456), [2024, 10, 23, 23, 30, 0, 123_456]);
        assert_eq!(Zone::UTC.show(1_729_697_400_120_000), "2024-10-23T15:30:00.12Z");
        assert_eq!(zone("America/New_York").show(0), "1969-12-31T19:00:00-05:00");
        assert_eq!(zone("Asia/Kolkata").show(0), "1970-01-01T05:30:00+05:30");
        // Behind the last year of the library.
        let last = parse_instant("9999-12-31T23:46:05Z", &Zone::UTC).unwrap();
        assert_eq!(shanghai.show(last), "10000-01-01T07:46:05+08:00");
        for extreme in [i64::MIN, i64::MAX] {
            shanghai.show(extreme);
        }
        assert!(Zone::from_name("Nowhere/Else").is_none() && Zone::from_name("").is_none());
    }

    #[test]
    fn clock_changes_leave_no_time_unread() {
        let new_york = zone("America/New_York");
        let read = |text: &str| Zone::UTC.show(parse_instant(text, &new_york).unwrap());
        assert_eq!(read("2025-03-09T01:59:59"), "2025-03-09T06:59:59Z");
        assert_eq!(read("2025-03-09T02:30:00"), "2025-03-09T07:30:00Z");
        assert_eq!(read("2025-03-09T03:00:00"), "2025-03-09T07:00:00Z");
        assert_eq!(read("2025-11-02T00:59:59"), "2025-11-02T04:59:59Z");
        assert_eq!(read("2025-11-02T01:30:00"), "2025-11-02T05:30:00Z");
        assert_eq!(read("2025-11-02T02:00:00"), "2025-11-02T07:00:00Z");
    }

    #[test]
    fn dates_and_days_are_each_others_inverse() {
        for days in (-1_000_000..1_000_000).step_by(997) {
            let (year, month, day) = civil(days);
            assert_eq!(days_of(year, month, day), days);
        }
        for extreme in [i64::MIN, i64::MAX] {
            civil(extreme.div_euclid(DAY_MICROSECONDS));
        }
    }
}
