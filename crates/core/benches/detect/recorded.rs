//! Calls of agents that others recorded: `--calls FILE`, one JSON object a line, `{"session","action","resource",
//! "exact"}`, sessions one after the other. `scripts/tau-calls` makes such a file of public trajectories.
//!
//! The records have no times, and there are few of them. So one half of the sessions, drawn again and again, is
//! four weeks of an agent that works on weekdays; it learns from those. The other half, which it never saw, is
//! judged, each session from the same state: as it is, with its calls in random order together with those of
//! the following ones, and with one of its calls again and again.

use crate::{Agent, START, fleet::Event, rng::Rng};
use checkrein_core::{
    drift::{Baseline, Channel, Group, Incidents, Reading},
    time::Timestamp,
};
use serde::Deserialize;

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    session: u64,
    action: String,
    resource: String,
    exact: String,
}

type Session = Vec<Call>;

const SESSIONS_A_DAY: usize = 25;
/// Calls in random order that are shown.
const DISORDER: usize = 60;
const REPEATS: usize = 30;

pub fn run(path: &str, seed: u64) {
    let text = std::fs::read_to_string(path).unwrap();
    let mut sessions: Vec<Session> = Vec::new();
    for line in text.lines() {
        let call: Call = serde_json::from_str(line).unwrap();
        match sessions.last_mut().filter(|session| session[0].session == call.session) {
            Some(session) => session.push(call),
            None => sessions.push(vec![call]),
        }
    }
    let calls: usize = sessions.iter().map(Vec::len).sum();
    println!("{} sessions, {calls} calls", sessions.len());
    let (mut alarms, mut weeks) = (std::collections::BTreeMap::<&str, u32>::new(), 0.0);
    let [mut order, mut again] = [Vec::new(), Vec::new()];
    let (mut judged, mut loops) = (0, 0);
    for half in 0..2 {
        let mut rng = Rng::new(seed * 2 + half);
        let (learnt, other): (Vec<_>, Vec<_>) =
            sessions.iter().enumerate().partition(|(at, _)| (*at as u64) % 2 == half);
        let mut group = Group::new();
        let mut agent = Agent {
            baseline: Baseline::new(7, Timestamp::from_micros(START * 3_600_000_000)),
            incidents: Incidents::default(),
            highest: Reading::default(),
        };
        for day in (0..28).filter(|day| day % 7 < 5) {
            for (t, session) in times(day, &mut rng) {
                let (_, session) = learnt[session % learnt.len()];
                play(&mut agent, &mut group, session, t, &mut rng);
            }
        }
        // The other half: five days of a week as they are.
        let mut as_it_is = copy(&agent);
        let mut at = 0;
        for day in 28..33 {
            for (t, _) in times(day, &mut rng).into_iter().take(other.len().div_ceil(5)) {
                let Some((_, session)) = other.get(at) else { break };
                at += 1;
                for channel in play(&mut as_it_is, &mut group.clone(), session, t, &mut rng).1 {
                    *alarms.entry(channel.as_str()).or_default() += 1;
                }
            }
        }
        weeks += 1.0;
        for (nth, (_, session)) in other.iter().enumerate() {
            let t = (START + 28 * 24 + 10) as f64 * 3_600.0;
            judged += 1;
            let mut mixed: Session =
                other.iter().cycle().skip(nth).flat_map(|(_, s)| (*s).clone()).take(DISORDER).collect();
            for i in (1..mixed.len()).rev() {
                mixed.swap(i, rng.below(i + 1));
            }
            let (found, _) = play(&mut copy(&agent), &mut group.clone(), &mixed, t, &mut rng);
            order.extend(found);
            loops += 1;
            let repeated = vec![session[rng.below(session.len())].clone(); REPEATS];
            again.extend(play(&mut copy(&agent), &mut group.clone(), &repeated, t, &mut rng).0);
        }
    }
    println!("false alarms: {alarms:?} in {weeks} weeks of sessions that were never seen");
    for (what, mut found, of) in [("random order", order, judged), ("one call again and again", again, loops)]
    {
        found.sort_unstable();
        let at = |q: f64| found.get((found.len() as f64 * q) as usize).copied().unwrap_or(0);
        println!(
            "{what}: {:.1}% of {of} found, after {} calls (median), {} (p90)",
            100.0 * found.len() as f64 / f64::from(of),
            at(0.5),
            at(0.9)
        );
    }
}

fn copy(agent: &Agent) -> Agent {
    Agent { baseline: agent.baseline.clone(), incidents: Incidents::default(), highest: Reading::default() }
}

/// When the sessions of a day begin, and random numbers to choose them by.
fn times(day: i64, rng: &mut Rng) -> Vec<(f64, usize)> {
    let from = (START + day * 24 + 8) as f64 * 3_600.0;
    let n = rng.poisson(SESSIONS_A_DAY as f64);
    let mut times: Vec<_> = (0..n).map(|_| (from + rng.unit() * 9.0 * 3_600.0, rng.below(1 << 30))).collect();
    times.sort_by(|a, b| a.0.total_cmp(&b.0));
    times
}

/// Shows a session: after how many calls something was told first, and in which channels anything was.
fn play(
    agent: &mut Agent,
    group: &mut Group,
    calls: &[Call],
    mut t: f64,
    rng: &mut Rng,
) -> (Option<usize>, Vec<Channel>) {
    let (mut first, mut channels) = (None, Vec::new());
    for (at, call) in calls.iter().enumerate() {
        // A model takes its time.
        t += 2.0 + rng.exp(10.0);
        let event = Event {
            t,
            action: call.action.clone(),
            resource: call.resource.clone(),
            tool: String::new(),
            records: None,
            failed: false,
        };
        let told = agent.see_exactly(&event, &call.exact, group, 5.0);
        if !told.is_empty() {
            first = first.or(Some(at + 1));
            channels.extend(told.into_iter().map(|(channel, ..)| channel));
        }
    }
    (first, channels)
}
