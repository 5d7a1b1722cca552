//! The plot: a band of what was expected, a line of what was seen, a mark where an incident began.

use super::explain::Hour;
use std::fmt::Write as _;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 36.0;
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// Draws hours that follow each other. `agent` is escaped.
pub(super) fn svg(agent: &str, hours: &[Hour]) -> String {
    let most = hours.iter().fold(1.0_f64, |most, h| most.max(f64::from(h.seen)).max(f64::from(h.high)));
    let top = round_up(most);
    let step = (WIDTH - LEFT - RIGHT) / hours.len().max(1) as f64;
    let x = |at: usize| LEFT + (at as f64 + 0.5) * step;
    let y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);
    let mut out = String::with_capacity(64 * 1024);
    let _infallible = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"18\" font-size=\"14\" font-weight=\"bold\">{}: actions an hour</text>\n\
         <text x=\"{LEFT}\" y=\"34\" fill=\"#666\">band: expected up to the most that raises no doubt; line: seen; mark: an incident began</text>\n",
        escape(agent)
    );
    for part in 0..=4 {
        let value = top * f64::from(part) / 4.0;
        let at = y(value);
        let _infallible = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{:.0}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#666\">{value:.0}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0
        );
    }
    for (at, hour) in hours.iter().enumerate().filter(|(_, hour)| hour.hour.rem_euclid(24) == 0) {
        let day = usize::try_from((hour.hour.div_euclid(24) + 3).rem_euclid(7)).unwrap_or(0);
        let _infallible = writeln!(
            out,
            "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{TOP}\" y2=\"{1:.0}\" stroke=\"#eee\"/>\
             <text x=\"{2:.1}\" y=\"{3:.0}\" fill=\"#666\">{4}</text>",
            x(at) - step / 2.0,
            HEIGHT - BOTTOM,
            x(at) + 2.0,
            HEIGHT - BOTTOM + 16.0,
            DAYS.get(day).copied().unwrap_or_default()
        );
    }
    let line = |of: &dyn Fn(&Hour) -> f64| {
        hours.iter().enumerate().fold(String::new(), |mut points, (at, hour)| {
            let _infallible = write!(points, "{:.1},{:.1} ", x(at), y(of(hour)));
            points
        })
    };
    let base = format!("{:.1},{:.1} {:.1},{:.1}", x(hours.len().saturating_sub(1)), y(0.0), x(0), y(0.0));
    let high = line(&|hour| f64::from(hour.high));
    let mean = line(&|hour| f64::from(hour.mean));
    let seen = line(&|hour| f64::from(hour.seen));
    let _infallible = write!(
        out,
        "<polygon points=\"{high}{base}\" fill=\"#cfe3f5\"/>\n\
         <polyline points=\"{mean}\" fill=\"none\" stroke=\"#6ba3d6\" stroke-dasharray=\"4 3\"/>\n\
         <polyline points=\"{seen}\" fill=\"none\" stroke=\"#1b3a57\" stroke-width=\"1.4\"/>\n"
    );
    for (at, hour) in hours.iter().enumerate().filter(|(_, hour)| hour.alert) {
        let _infallible = writeln!(
            out,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4.5\" fill=\"none\" stroke=\"#c0392b\" stroke-width=\"2\"/>",
            x(at),
            y(f64::from(hour.seen))
        );
    }
    out.push_str("</svg>\n");
    out
}

/// The next number that reads well: 1, 2, 4, 6, 8 or 10 times a power of ten, at least 4.
fn round_up(value: f64) -> f64 {
    let value = value.max(4.0);
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 4.0, 6.0, 8.0].into_iter().map(|n| n * power).find(|n| *n >= value).unwrap_or(10.0 * power)
}

/// Text as XML has it; what a person cannot see is shown as a box.
fn escape(text: &str) -> String {
    text.chars().take(80).fold(String::new(), |mut out, c| {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            c if checkrein_core::name::is_invisible(c) => out.push('□'),
            c => out.push(c),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out_and_axes_read_well() {
        assert!(svg("<script>\"&\u{202e}", &[]).contains("&lt;script&gt;&quot;&amp;□: actions"));
        assert_eq!([1.0, 37.0, 40.0, 41.0, 900.0].map(round_up), [4.0, 40.0, 40.0, 60.0, 1_000.0]);
    }
}
