//! Plots, as SVG. Nothing in them comes from an agent but numbers.

use crate::app::pulse::{MINUTES, Minute};
use checkrein_core::time::Timestamp;
use std::fmt::Write as _;

const WIDTH: i64 = 720;
const HEIGHT: u64 = 60;

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
