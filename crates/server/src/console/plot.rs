//! Plots, as SVG. Nothing in them comes from an agent but numbers.

use crate::app::pulse::{MINUTES, Minute};
use checkrein_api::AgentHour;
use checkrein_core::time::Timestamp;
use std::fmt::Write as _;

const WIDTH: i64 = 720;
const HEIGHT: u64 = 60;
const BAND_HEIGHT: f32 = 90.0;

/// Actions a minute over the last hour: allowed below, held and blocked on top.
pub(super) fn strip(minutes: &[Minute], now: Timestamp) -> String {
    let last = now.as_micros().div_euclid(60_000_000);
    let most = minutes.iter().map(|m| m.verdicts.iter().sum::<u64>()).max().unwrap_or(0).max(1);
    let sums = minutes.iter().fold([0_u64; 3], |sum, m| {
        let [a, h, b] = m.verdicts;
        [sum[0] + a, sum[1] + h, sum[2] + b]
    });
    let [allowed, held, blocked] = sums;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"The last hour: {allowed} actions allowed, \
         {held} held, {blocked} blocked; at most {most} in a minute\">",
        HEIGHT + 16
    );
    let step = WIDTH / MINUTES;
    for minute in minutes {
        let x = (MINUTES - 1 - (last - minute.number)) * step;
        if !(0..WIDTH).contains(&x) {
            continue;
        }
        let mut y = HEIGHT;
        for (n, class) in minute.verdicts.iter().zip(["bar-allow", "bar-hold", "bar-block"]) {
            if *n == 0 {
                continue;
            }
            // What is there is seen, however small.
            let height = (n.saturating_mul(HEIGHT) / most).max(2).min(y);
            y -= height;
            let _infallible = write!(
                svg,
                "<rect class=\"{class}\" x=\"{}\" y=\"{y}\" width=\"{}\" height=\"{height}\"/>",
                x + 1,
                step - 2
            );
        }
    }
    let _infallible = write!(
        svg,
        "<path class=\"axis\" d=\"M0 {HEIGHT}.5H{WIDTH}\"/><text x=\"0\" y=\"{0}\">an hour ago</text>\
         <text x=\"{WIDTH}\" y=\"{0}\" text-anchor=\"end\">now</text></svg>",
        HEIGHT + 13
    );
    svg
}

/// Actions an hour against what is normal: the band up to what raises no doubt, what is expected, and what was.
pub(super) fn band(hours: &[AgentHour]) -> String {
    let most = hours.iter().map(|h| h.rate.high.max(h.rate.seen as f32)).fold(1.0_f32, f32::max);
    let places = hours.len().max(1);
    let step = WIDTH as f32 / places as f32;
    let y = |value: f32| BAND_HEIGHT - (value.max(0.0) / most) * BAND_HEIGHT;
    let (mut band, mut expected, mut bars) = (String::from("M0 "), String::new(), String::new());
    let _infallible = write!(band, "{BAND_HEIGHT}");
    for (i, hour) in hours.iter().enumerate() {
        let (left, right) = (i as f32 * step, (i + 1) as f32 * step);
        let high = y(hour.rate.high);
        let _infallible = write!(band, "L{left:.1} {high:.1}L{right:.1} {high:.1}");
        let line = y(hour.rate.expected);
        let _infallible =
            write!(expected, "{}{left:.1} {line:.1}L{right:.1} {line:.1}", if i == 0 { "M" } else { "L" });
        if hour.rate.seen > 0 {
            let top = y(hour.rate.seen as f32).min(BAND_HEIGHT - 2.0);
            let class = if hour.rate.seen as f32 > hour.rate.high { "bar-block" } else { "bar-allow" };
            let _infallible = write!(
                bars,
                "<rect class=\"{class}\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
                left + step * 0.2,
                step * 0.6,
                BAND_HEIGHT - top
            );
        }
    }
    let _infallible = write!(band, "L{WIDTH} {BAND_HEIGHT}Z");
    let seen: u64 = hours.iter().map(|h| h.rate.seen).sum();
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"Actions an hour over the last {places} hours: {seen} \
         in all, at most {most:.0} in one hour or allowed for\"><path class=\"band\" d=\"{band}\"/>{bars}\
         <path class=\"expected\" d=\"{expected}\"/><path class=\"axis\" d=\"M0 {BAND_HEIGHT}.5H{WIDTH}\"/>\
         <text x=\"0\" y=\"{1}\">{places} hours ago</text><text x=\"{WIDTH}\" y=\"{1}\" text-anchor=\"end\">now</text></svg>",
        BAND_HEIGHT + 16.0,
        BAND_HEIGHT + 13.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_what_was_and_nothing_outside() {
        let now = Timestamp::from_micros(1_000 * 60_000_000);
        let minute = |number, verdicts| Minute { number, verdicts };
        let svg =
            strip(&[minute(900, [9, 9, 9]), minute(999, [1_000_000, 0, 1]), minute(1000, [5, 2, 0])], now);
        assert_eq!(svg.matches("<rect").count(), 4, "{svg}");
        assert!(svg.contains("height=\"2\""), "one in a million is seen");
        assert!(
            svg.contains("x=\"709\"") && svg.contains("1000014 actions allowed, 11 held, 10 blocked"),
            "{svg}"
        );
        assert_eq!(strip(&[], now).matches("<rect").count(), 0);
    }
}
