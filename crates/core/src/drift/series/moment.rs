//! Times as series have them.

use crate::time::Timestamp;

/// A point in time of a series, in seconds since 1970; a local time is taken as it stands.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Moment(f64);

/// From the year 1 to 9999, in seconds since 1970.
const RANGE: std::ops::RangeInclusive<f64> = -62_135_596_800.0..=253_402_300_799.0;

impl Moment {
    /// Reads `YYYY-MM-DD HH:MM:SS`, ISO 8601 with or without offset, a date alone, or seconds since 1970.
    ///
    /// # Errors
    /// With what to write instead, when it is none of these.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Ok(seconds) = text.parse::<f64>() {
            if RANGE.contains(&seconds) {
                return Ok(Self(seconds));
            }
        } else if let Ok(at) = Timestamp::parse(text) {
            return Ok(Self(at.as_micros() as f64 / 1e6));
        } else if let Ok(local) = text.parse::<jiff::civil::DateTime>()
            && let Ok(at) = local.to_zoned(jiff::tz::TimeZone::UTC)
        {
            return Ok(Self(at.timestamp().as_microsecond() as f64 / 1e6));
        }
        let shown: String = text.chars().take(40).collect();
        Err(format!("has the time `{shown}`; write it like 2026-11-22 09:50:05, or in seconds since 1970"))
    }

    /// Seconds since 1970.
    pub fn seconds(self) -> f64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_series_have() {
        let seconds = |text: &str| Moment::parse(text).map(Moment::seconds);
        for text in [
            "2026-11-22 09:10:05",
            "2026-11-22T09:10:05",
            "2026-11-22T09:10:05Z",
            "2026-11-22T10:10:05+01:00",
            "1795338605",
        ] {
            assert_eq!(seconds(text), Ok(1_795_338_605.0), "{text}");
        }
        assert_eq!(seconds("2026-11-22 09:10:05.25"), Ok(1_795_338_605.25));
        assert_eq!(seconds("2026-11-22"), Ok(1_795_305_600.0));
        for bad in ["", "timestamp", "NaN", "inf", "1e300", "22.11.2026", "2026-13-01 00:00:00"] {
            assert!(Moment::parse(bad).is_err(), "{bad}");
        }
    }
}
