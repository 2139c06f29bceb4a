//! [`Zone`]: a time zone by its IANA name, as stretches of time of one offset each.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::calendar::civil_from_days;
use crate::nearest::{nearest, question};

/// The first second of the calendar: 0001-01-01T00:00:00.
pub(crate) const FIRST: i64 = -62_135_596_800;
/// The last one: 9999-12-31T23:59:59.
pub(crate) const LAST: i64 = 253_402_300_799;

/// A time zone, such as `Europe/Amsterdam` or `UTC`.
///
/// The rules come from the system's time zone database, and from one that is compiled in where the
/// system has none.
#[derive(Clone)]
pub struct Zone(Kind);

#[derive(Clone)]
enum Kind {
    Utc,
    Rules(TimeZone),
}

/// A stretch of time of one offset from UTC, and the offsets around it; all in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// Its first second.
    pub(crate) from: i64,
    /// The first second after it.
    pub(crate) until: i64,
    pub(crate) offset: i64,
    pub(crate) offset_before: i64,
    pub(crate) offset_after: i64,
}

impl Zone {
    /// The zone of an IANA name. Capital and small letters are the same.
    ///
    /// # Errors
    /// [`UnknownZone`], with the names most like it.
    pub fn parse(name: &str) -> Result<Zone, UnknownZone> {
        let name = name.trim();
        if name.eq_ignore_ascii_case("UTC") {
            return Ok(Zone::utc());
        }
        // Longer texts are no names, and are not searched for.
        let known = (name.len() <= 64).then(|| jiff::tz::db().get(name).ok()).flatten();
        match known {
            Some(rules) if !rules.is_unknown() && rules.iana_name().is_some() => {
                Ok(Zone(Kind::Rules(rules)))
            }
            _ => Err(UnknownZone::new(name)),
        }
    }

    /// Universal time.
    pub const fn utc() -> Zone {
        Zone(Kind::Utc)
    }

    /// The IANA name.
    pub fn name(&self) -> &str {
        match &self.0 {
            Kind::Utc => "UTC",
            Kind::Rules(rules) => rules.iana_name().unwrap_or("UTC"),
        }
    }

    /// The offset from UTC at an instant, in seconds; positive to the east.
    pub fn offset_at(&self, micros: i64) -> i32 {
        match &self.0 {
            Kind::Utc => 0,
            Kind::Rules(rules) => rules.to_offset(instant(micros.div_euclid(1_000_000))).seconds(),
        }
    }

    /// An instant as the zone's clock shows it, by RFC 3339: `2026-11-21T08:00:00+01:00`; in universal
    /// time with `Z`. Fractions of a second stand there only when there are any. What the clock shows
    /// beyond the years 1 to 9999 is written as the nearest that is within.
    pub fn rfc3339(&self, micros: i64) -> String {
        let offset = i64::from(self.offset_at(micros));
        let local = micros.saturating_add(offset * 1_000_000);
        let local = local.clamp(FIRST * 1_000_000, LAST * 1_000_000 + 999_999);
        let (local, fraction) = (local.div_euclid(1_000_000), local.rem_euclid(1_000_000));
        let (year, month, day) = civil_from_days(local.div_euclid(86_400));
        let time = local.rem_euclid(86_400);
        let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
        let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
        if fraction != 0 {
            let digits = format!("{fraction:06}");
            text.push('.');
            text.push_str(digits.trim_end_matches('0'));
        }
        if matches!(self.0, Kind::Utc) {
            text.push('Z');
        } else {
            let sign = if offset < 0 { '-' } else { '+' };
            // Offsets of the nineteenth century have seconds, which RFC 3339 cannot say.
            let minutes = (offset.abs() + 30) / 60;
            text.push_str(&format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60));
        }
        text
    }

    /// The stretch in which an instant lies.
    pub(crate) fn stretch(&self, at: i64) -> Stretch {
        let whole = Stretch {
            from: i64::MIN,
            until: i64::MAX,
            offset: 0,
            offset_before: 0,
            offset_after: 0,
        };
        let Kind::Rules(rules) = &self.0 else {
            return whole;
        };
        let offset = i64::from(rules.to_offset(instant(at)).seconds());
        let mut stretch = Stretch { offset, offset_before: offset, offset_after: offset, ..whole };
        for change in rules.following(instant(at)) {
            let after = i64::from(change.offset().seconds());
            if after != offset {
                stretch.until = change.timestamp().as_second();
                stretch.offset_after = after;
                break;
            }
        }
        // The change at the very instant begins the stretch.
        for change in rules.preceding(instant(at + 1)) {
            let began = change.timestamp().as_second();
            let before = i64::from(rules.to_offset(instant(began - 1)).seconds());
            if before != offset {
                stretch.from = began;
                stretch.offset_before = before;
                break;
            }
        }
        stretch
    }
}

/// The instant of a second; the nearest there is when it lies beyond the calendar.
fn instant(second: i64) -> Timestamp {
    let (least, most) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    Timestamp::from_second(second.clamp(least, most)).unwrap_or(Timestamp::UNIX_EPOCH)
}

impl FromStr for Zone {
    type Err = UnknownZone;

    fn from_str(name: &str) -> Result<Zone, UnknownZone> {
        Zone::parse(name)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Zone").field(&self.name()).finish()
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Zone) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Zone {}

impl std::hash::Hash for Zone {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

/// A name of no time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownZone {
    name: String,
    nearest: Vec<String>,
}

impl UnknownZone {
    fn new(name: &str) -> UnknownZone {
        let name: String = name.chars().take(64).collect();
        let known: Vec<String> =
            jiff::tz::db().available().map(|known| known.as_str().to_owned()).collect();
        // A city without its continent is the usual slip.
        let cities = known.iter().filter(|known| {
            let city = known.rsplit('/').next().unwrap_or_default();
            !name.is_empty() && city.eq_ignore_ascii_case(&name.replace(' ', "_"))
        });
        let mut found: Vec<String> = cities.take(3).cloned().collect();
        if found.is_empty() {
            let alike = nearest(&name, known.iter().map(String::as_str));
            found = alike.into_iter().take(3).map(str::to_owned).collect();
        }
        UnknownZone { name, nearest: found }
    }

    /// The name, at most its first 64 characters.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The names most like it; none when nothing is like it.
    pub fn nearest(&self) -> &[String] {
        &self.nearest
    }
}

impl fmt::Display for UnknownZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let alike: Vec<&str> = self.nearest.iter().map(String::as_str).collect();
        let advice = question(&alike)
            .unwrap_or_else(|| "write an IANA name, such as `Europe/Amsterdam` or `UTC`".into());
        write!(f, "`{}` is not a time zone; {advice}", self.name.escape_debug())
    }
}

impl std::error::Error for UnknownZone {}
