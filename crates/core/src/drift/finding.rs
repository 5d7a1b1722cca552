//! One sentence that a person understands, with what was expected and what was seen.

use super::{Baseline, Channel, Observed, season::hour_of_week};
use crate::name::is_invisible;

/// Characters of a name that are shown.
const SHOWN: usize = 60;
const DAYS: [&str; 7] = ["Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays"];

/// Why a reading is high.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// In which way.
    pub channel: Channel,
    /// How unusual, in decades.
    pub score: f32,
    /// What is normal: a count, or a share for `mix` and `errors`.
    pub expected: f64,
    /// What was seen instead, in the same unit.
    pub seen: f64,
    /// Both, for a person. Names in it are cut and hold nothing invisible.
    pub sentence: String,
}

impl Baseline {
    /// Explains the reading of `channel` that was just given for `action`.
    pub fn explain(&self, channel: Channel, score: f32, action: &Observed<'_>) -> Finding {
        let (expected, seen, sentence) = match channel {
            Channel::Rate => self.rate_sentence(action),
            Channel::Burst => self.burst_sentence(action),
            Channel::Loop => self.loop_sentence(action),
            Channel::Novelty => self.novelty_sentence(action),
            Channel::Sequence => {
                let (odd, calls) = (self.sequence.odd, self.sequence.calls);
                let last = shown(action.action);
                let text = format!(
                    "{odd} of the last {calls} actions came in an order that is new for this agent, \
                     most recently {last}"
                );
                (0.0, f64::from(odd), text)
            }
            Channel::Mix if self.names.told => {
                let (usual, new, calls) = self.names.seen();
                let usually = percent(usual);
                let text = format!(
                    "{new} of the last {calls} actions came from agents that had never acted; normally {usually} do"
                );
                (usual, f64::from(new) / f64::from(calls.max(1)), text)
            }
            Channel::Mix => {
                let (calls, of_it) = self.mix.seen(usize::from(self.symbol));
                let share = f64::from(of_it) / f64::from(calls.max(1));
                let name = shown(action.action);
                let usual = f64::from(self.share);
                let text = format!(
                    "{of_it} of the last {calls} actions are {name}; normally it is {}",
                    percent(usual)
                );
                (usual, share, text)
            }
            Channel::Records => self.records_sentence(action),
            Channel::Errors => {
                let (calls, failures) = (self.errors.calls, self.errors.failures);
                let usual = f64::from(self.errors.usual());
                let text =
                    format!("{failures} of the last {calls} actions failed; normally {} do", percent(usual));
                (usual, f64::from(failures) / f64::from(calls.max(1)), text)
            }
        };
        Finding { channel, score, expected, seen, sentence }
    }

    fn now_is(&self) -> String {
        let hour = hour_of_week(self.span().1.as_micros().div_euclid(3_600_000_000));
        format!("{} at {:02}:00", DAYS.get(hour / 24).copied().unwrap_or_default(), hour % 24)
    }

    fn rate_sentence(&self, action: &Observed<'_>) -> (f64, f64, String) {
        if let Some((accepted, grown)) = self.season.grown() {
            let text = format!(
                "{} actions last week, where {} were last taken for normal: growth by small steps; \
                 accept it or look into it",
                number(f64::from(grown)),
                number(f64::from(accepted))
            );
            return (f64::from(accepted), f64::from(grown), text);
        }
        if self.spells.told {
            let (hours, seen, usual) = self.spells.seen();
            let (seen, usual) = (f64::from(seen), f64::from(usual));
            let text = format!(
                "at work in {} spans of five minutes in {} hours, most recently {}; normally it is in {}",
                number(seen),
                number(f64::from(hours)),
                shown(action.action),
                number(usual)
            );
            return (usual, seen, text);
        }
        let (count, expected) = (f64::from(self.rate.count), f64::from(self.expected.ceiling));
        let over = self.rate.span;
        if over >= 1.0 && count < 2.0 * expected {
            let seen = f64::from(self.rate.seen) + count;
            let usual = f64::from(self.rate.expected) + expected;
            let text = format!(
                "{} actions in {} hours, most recently {}; normally it makes {} in that time",
                number(seen),
                number(f64::from(over + 1.0)),
                shown(action.action),
                number(usual)
            );
            return (usual, seen, text);
        }
        let text = format!(
            "{} actions this hour, most recently {}; {} it normally makes {}",
            number(count),
            shown(action.action),
            self.now_is(),
            number(expected)
        );
        (expected, count, text)
    }

    fn burst_sentence(&self, action: &Observed<'_>) -> (f64, f64, String) {
        let now = self.span().1.as_micros();
        // The test that has gathered over the longer time tells more, unless it began long before.
        let quick = &self.quick;
        let burst = if self.slow.count > 2 * quick.count { &self.slow } else { quick };
        let seconds = (now.saturating_sub(burst.since) as f64 / 1e6).max(1.0);
        let expected = f64::from(self.expected.ceiling) * seconds / 3_600.0;
        let seen = f64::from(burst.count);
        let text = format!(
            "{} actions in {}, most recently {}; {} it normally makes {} in that time",
            number(seen),
            span(seconds),
            shown(action.action),
            self.now_is(),
            number(expected)
        );
        (expected, seen, text)
    }

    fn loop_sentence(&self, action: &Observed<'_>) -> (f64, f64, String) {
        let (length, run) = self.repeats.strongest();
        let name = shown(action.action);
        let on = if action.resource.is_empty() {
            String::new()
        } else {
            format!(" on {}", shown(action.resource))
        };
        let text = if length == 1 {
            format!("the same call, {name}{on}, {} times in a row", run.saturating_add(1))
        } else {
            let rounds = run / length + 1;
            format!("the same {length} calls in turn, the last one {name}{on}, {rounds} times over")
        };
        let usual = f64::from(self.repeats.usual());
        let text = format!("{text}; normally {} of its calls repeat the one before", percent(usual));
        (usual, f64::from(run), text)
    }

    fn novelty_sentence(&self, action: &Observed<'_>) -> (f64, f64, String) {
        let new = self.novelty.new;
        let mut parts = Vec::new();
        if new & 1 != 0 {
            parts.push(format!("the action {}", shown(action.action)));
        }
        if new & 2 != 0 {
            parts.push(format!("the tool {}", shown(action.tool)));
        }
        if new & 8 != 0 {
            parts.push(format!("the resource {}", shown(action.resource)));
        }
        if parts.is_empty() && new & 4 != 0 {
            parts.push(format!("{} with the tool {}", shown(action.action), shown(action.tool)));
        }
        if parts.is_empty() {
            parts.push(format!("{} on {}", shown(action.action), shown(action.resource)));
        }
        let text = format!("never seen of this agent before: {}", parts.join(", "));
        (0.0, parts.len() as f64, text)
    }

    fn records_sentence(&self, action: &Observed<'_>) -> (f64, f64, String) {
        let (usual, seldom) = self.records.usual(usize::from(self.symbol));
        let (unit, seen) = match (action.records, action.payload_bytes) {
            (Some(records), _) => ("records", records as f64),
            (None, bytes) => ("bytes", bytes.unwrap_or(0) as f64),
        };
        let text = format!(
            "{} {unit} in one {}; normally about {}, seldom more than {}",
            number(seen),
            shown(action.action),
            number(f64::from(usual)),
            number(f64::from(seldom))
        );
        (f64::from(usual), seen, text)
    }
}

/// A name as it may be shown: cut, and nothing in it that a person cannot see.
fn shown(name: &str) -> String {
    let mut out = String::new();
    for (at, c) in name.chars().enumerate() {
        if at == SHOWN {
            out.push('…');
            break;
        }
        if is_invisible(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

fn percent(share: f64) -> String {
    match share * 100.0 {
        p if p < 1.0 => "less than 1%".to_owned(),
        p => format!("{p:.0}%"),
    }
}

/// Small numbers to one digit after the point, large ones grouped.
fn number(n: f64) -> String {
    if n < 9.95 && (n - n.round()).abs() > 0.05 {
        return format!("{n:.1}");
    }
    let digits = format!("{:.0}", n.max(0.0));
    let first = digits.len() % 3;
    let mut out = String::with_capacity(digits.len() + 4);
    for (at, c) in digits.chars().enumerate() {
        if at > 0 && at % 3 == first {
            out.push(',');
        }
        out.push(c);
    }
    out
}

fn span(seconds: f64) -> String {
    match seconds {
        s if s < 100.0 => format!("{s:.0} s"),
        s if s < 6_000.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.0} hours", s / 3_600.0),
    }
}
