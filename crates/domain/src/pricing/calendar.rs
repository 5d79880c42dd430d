//! Days, weekdays and minutes of the day in UTC, as price entries write them.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::{Date, Month};

use super::error::{PricingError, excerpt};
use crate::clock::UnixMs;

const MS_PER_MINUTE: i64 = 60_000;
const MS_PER_DAY: i64 = 86_400_000;

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weekday {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

impl Weekday {
    const ALL: [Self; 7] = [
        Self::Mon,
        Self::Tue,
        Self::Wed,
        Self::Thu,
        Self::Fri,
        Self::Sat,
        Self::Sun,
    ];

    /// The weekday of an instant, in UTC.
    pub fn of(instant: UnixMs) -> Self {
        // 1970-01-01 was a Thursday, which stands at 3
        let index = (instant.0.div_euclid(MS_PER_DAY) + 3).rem_euclid(7);
        usize::try_from(index)
            .ok()
            .and_then(|index| Self::ALL.get(index).copied())
            .unwrap_or(Self::Mon)
    }
}

/// A minute of the day in UTC, from `00:00` to `23:59`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClockMinute(u16);

impl ClockMinute {
    /// The minute in which an instant lies, in UTC.
    pub fn of(instant: UnixMs) -> Self {
        let minute = instant.0.rem_euclid(MS_PER_DAY) / MS_PER_MINUTE;
        Self(u16::try_from(minute).unwrap_or_default())
    }

    /// Minutes since midnight.
    pub(super) const fn minutes(self) -> u16 {
        self.0
    }
}

impl FromStr for ClockMinute {
    type Err = PricingError;

    fn from_str(text: &str) -> Result<Self, PricingError> {
        text.split_once(':')
            .and_then(|(hours, minutes)| Some(two_digits(hours, 23)? * 60 + two_digits(minutes, 59)?))
            .map(Self)
            .ok_or_else(|| PricingError::InvalidTime {
                text: excerpt(text),
                expected: "a time of day in UTC: write hours and minutes such as \"06:00\"",
            })
    }
}

fn two_digits(text: &str, max: u16) -> Option<u16> {
    let is_plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    is_plain
        .then(|| text.parse().ok())
        .flatten()
        .filter(|value| *value <= max)
}

impl fmt::Display for ClockMinute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

/// A calendar day in UTC, `YYYY-MM-DD`, from the year 2000 to 2099.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(Date);

impl Day {
    /// The day's first instant, 00:00 UTC.
    pub fn starts_at(self) -> UnixMs {
        UnixMs(self.0.midnight().assume_utc().unix_timestamp().saturating_mul(1_000))
    }
}

impl FromStr for Day {
    type Err = PricingError;

    fn from_str(text: &str) -> Result<Self, PricingError> {
        parse_day(text).map(Self).ok_or_else(|| PricingError::InvalidTime {
            text: excerpt(text),
            expected: "a day: write year, month and day such as \"2027-01-01\"",
        })
    }
}

fn parse_day(text: &str) -> Option<Date> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let year = i32::from(two_digits(year.strip_prefix("20")?, 99)?) + 2000;
    let month = Month::try_from(u8::try_from(two_digits(month, 12)?).ok()?).ok()?;
    let day = u8::try_from(two_digits(day, 31)?).ok()?;
    parts
        .next()
        .is_none()
        .then(|| Date::from_calendar_date(year, month, day).ok())
        .flatten()
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:04}-{:02}-{:02}",
            self.0.year(),
            u8::from(self.0.month()),
            self.0.day()
        )
    }
}

macro_rules! as_text {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

as_text!(ClockMinute);
as_text!(Day);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_and_writes_days_and_times() {
        assert_eq!(
            "2027-01-01".parse::<Day>().unwrap().starts_at(),
            UnixMs::from_rfc3339("2027-01-01T00:00:00Z").unwrap()
        );
        assert_eq!("2028-02-29".parse::<Day>().unwrap().to_string(), "2028-02-29");
        assert_eq!("06:30".parse::<ClockMinute>().unwrap().to_string(), "06:30");
        for bad in [
            "2027-02-29",
            "1999-01-01",
            "2027-1-1",
            "2027-01-01-01",
            "2027-13-01",
            "",
            "20+7-01-01",
        ] {
            assert!(bad.parse::<Day>().is_err(), "{bad}");
        }
        for bad in ["24:00", "06:60", "6:00", "06:00:00", "+6:00", ""] {
            assert!(bad.parse::<ClockMinute>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn weekday_and_minute_agree_with_the_calendar(ms in -4_000_000_000_000_i64..8_000_000_000_000) {
            let utc = UnixMs(ms).to_utc();
            let expected = usize::from(utc.weekday().number_days_from_monday());
            prop_assert_eq!(Weekday::of(UnixMs(ms)), Weekday::ALL[expected]);
            prop_assert_eq!(ClockMinute::of(UnixMs(ms)).0, u16::from(utc.hour()) * 60 + u16::from(utc.minute()));
        }
    }
}
