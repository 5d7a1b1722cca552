//! Durations and sizes as people write them.

use std::time::Duration;

/// Reads `500ms`, `10s`, `15m`, `24h`, `90d` or `2w`.
///
/// # Errors
/// When it is none; what to write instead.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 604_800_000,
        _ => return Err(wrong(text, "duration", "`10s`, `15m`, `24h` or `90d`")),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(millis))
        .map(Duration::from_millis)
        .ok_or_else(|| wrong(text, "duration", "`10s`, `15m`, `24h` or `90d`"))
}

/// Reads `512B`, `64KiB`, `1MiB`, `2GiB`, and the decimal `kB`, `MB`, `GB`; into bytes.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let bytes = match unit {
        "B" => 1,
        "kB" => 1_000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        _ => return Err(wrong(text, "size", "`512B`, `64KiB` or `1MiB`")),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(bytes))
        .ok_or_else(|| wrong(text, "size", "`512B`, `64KiB` or `1MiB`"))
}

/// The digits at the front, and what follows them.
fn split(text: &str) -> (&str, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    (number, unit.trim())
}

fn wrong(text: &str, what: &str, examples: &str) -> String {
    format!("`{}` is not a {what}; write a whole number and its unit, e.g. {examples}", text.escape_debug())
}

/// A duration as [`duration`] reads it, in the largest unit that keeps it exact.
pub(super) fn show_duration(d: Duration) -> String {
    let millis = d.as_millis();
    [(604_800_000, "w"), (86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")]
        .into_iter()
        .find(|(unit, _)| millis >= *unit && millis.is_multiple_of(*unit))
        .map_or_else(|| format!("{millis}ms"), |(unit, name)| format!("{}{name}", millis / unit))
}

/// A size as [`size`] reads it, in the largest binary unit that keeps it exact.
pub(super) fn show_size(bytes: u64) -> String {
    [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")]
        .into_iter()
        .find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit))
        .map_or_else(|| format!("{bytes}B"), |(unit, name)| format!("{}{name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        assert_eq!(duration("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(duration("500 ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2w"), duration("14d"));
        assert_eq!(size("1MiB"), Ok(1_048_576));
        assert_eq!(size("1 MB"), Ok(1_000_000));
        for bad in
            ["", "10", "h", "-1h", "1.5h", "1h30m", "1 fortnight", "99999999999999999999h", "99999999999999w"]
        {
            assert!(duration(bad).is_err(), "{bad}");
            assert!(size(bad).is_err(), "{bad}");
        }
        assert!(size("1mib").is_err(), "a milli-bit is no size");
        assert!(size("18446744073709551615GiB").is_err());
        assert!(duration("é").unwrap_err().contains("`é`"));
    }

    #[test]
    fn shows_what_it_reads() {
        for text in ["1ms", "90s", "1m", "36h", "90d", "2w"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
        for text in ["1023B", "64KiB", "1MiB", "3GiB"] {
            assert_eq!(show_size(size(text).unwrap()), text);
        }
    }
}
