//! Drift, through its public interface: what must hold for any agent, however hostile.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test stops at the first thing that is not as it should be"
)]

use checkrein_core::{
    drift::{Baseline, Channel, Group, Incidents, Observed, Reading, RestoreError, Severity},
    name::is_invisible,
    time::Timestamp,
};
use proptest::prelude::*;

/// 2026-03-02, a Monday, in seconds.
const MONDAY: f64 = 1_772_409_600.0;
const DAY: f64 = 86_400.0;

struct Agent {
    baseline: Baseline,
    group: Group,
    dice: u64,
}

impl Agent {
    fn new() -> Self {
        Self { baseline: Baseline::new(7, at(MONDAY)), group: Group::new(), dice: 1 }
    }

    fn roll(&mut self) -> f64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn act(&mut self, t: f64, action: &str, resource: &str) -> Reading {
        self.baseline.observe(&observed(t, action, resource), &mut self.group)
    }

    /// Office hours of a ticket agent: 25 actions an hour, in the order that such work has.
    fn work(&mut self, from: f64, until: f64, factor: f64) {
        let mut t = from;
        while t < until {
            t += -(3_600.0 / (25.0 * factor)) * (1.0 - self.roll()).ln();
            let (hour, day) = ((t - MONDAY) % DAY / 3_600.0, (t - MONDAY) / DAY % 7.0);
            if (8.0..18.0).contains(&hour) && day < 5.0 && t < until {
                let ticket = format!("shop.tickets/{}", (self.roll() * 1e5) as u64);
                let action = match self.roll() {
                    x if x < 0.3 => "read_ticket",
                    x if x < 0.6 => "search",
                    _ => "update_ticket",
                };
                self.act(t, action, &ticket);
            }
        }
    }

    /// The highest score of each event of a burst of `n` updates, `apart` seconds from each other.
    fn burst(&mut self, from: f64, n: u32, apart: f64) -> Vec<f32> {
        (0..n)
            .map(|i| {
                let reading =
                    self.act(from + f64::from(i) * apart, "update_ticket", &format!("shop.tickets/{i}"));
                reading.score(Channel::Rate).max(reading.score(Channel::Burst))
            })
            .collect()
    }
}

fn at(seconds: f64) -> Timestamp {
    Timestamp::from_micros((seconds * 1e6) as i64)
}

fn observed<'a>(t: f64, action: &'a str, resource: &'a str) -> Observed<'a> {
    Observed { at: at(t), action, resource, tool: "crm", exact: "", records: Some(1), payload_bytes: None }
}

fn experienced() -> Agent {
    let mut agent = Agent::new();
    agent.work(MONDAY, MONDAY + 22.0 * DAY, 1.0);
    agent
}

#[test]
fn an_agent_takes_at_most_four_kibibytes() {
    assert!(size_of::<Baseline>() <= 4_096, "{}", size_of::<Baseline>());
    let mut agent = Agent::new();
    for i in 0..20_000 {
        let name = format!("{}-{i}", "x".repeat(i % 400));
        let action = Observed {
            tool: &name,
            records: Some(u64::MAX - i as u64),
            ..observed(MONDAY + i as f64 * 7.0, &name, &name)
        };
        agent.baseline.observe(&action, &mut agent.group);
    }
    assert!(agent.baseline.save().len() <= 4_096, "{}", agent.baseline.save().len());
}

#[test]
fn sessions_that_begin_far_more_often_are_seen_however_much_each_holds() {
    // Every three quarters of an hour, at work, something that takes one action or sixty.
    fn sessions(agent: &mut Agent, from: f64, until: f64, apart: f64) -> (f32, String) {
        let (mut t, mut highest) = (from, (0.0, String::new()));
        while t < until {
            t += -apart * (1.0 - agent.roll()).ln();
            let (hour, day) = ((t - MONDAY) % DAY / 3_600.0, (t - MONDAY) / DAY % 7.0);
            if !(8.0..18.0).contains(&hour) || day >= 5.0 || t >= until {
                continue;
            }
            for i in 0..1 + (60.0 * agent.roll().powi(3)) as u32 {
                let action = observed(t + f64::from(i) * 1.5, "read_ticket", "shop.tickets/1");
                let reading = agent.baseline.observe(&action, &mut agent.group);
                let score = reading.score(Channel::Rate);
                if score > highest.0 {
                    highest = (score, agent.baseline.explain(Channel::Rate, score, &action).sentence);
                }
            }
        }
        highest
    }
    let mut agent = Agent::new();
    let monday = MONDAY + 28.0 * DAY;
    sessions(&mut agent, MONDAY, monday, 2_700.0);
    let calm = sessions(&mut agent, monday, monday + 11.0 * 3_600.0, 2_700.0);
    assert!(calm.0 < 5.0, "{calm:?}");
    let often = sessions(&mut agent, monday + 13.0 * 3_600.0, monday + 17.0 * 3_600.0, 400.0);
    assert!(often.0 >= 5.0, "{often:?}");
    assert!(often.1.contains("spans of five minutes"), "{often:?}");
}

#[test]
fn four_hundred_instead_of_twenty_five_an_hour_is_caught_and_explained() {
    let mut agent = experienced();
    // Tuesday of the fourth week, 14:00.
    let from = MONDAY + 22.0 * DAY + 14.0 * 3_600.0;
    agent.work(MONDAY + 22.0 * DAY, from, 1.0);
    let caught = agent.burst(from, 40, 9.0).iter().position(|score| *score >= 5.0).unwrap() + 1;
    assert!(caught <= 16, "after {caught}");

    let last = observed(from + 39.0 * 9.0, "update_ticket", "shop.tickets/39");
    let finding = agent.baseline.explain(Channel::Burst, 7.0, &last);
    assert!(finding.seen >= 38.0 && finding.expected < 5.0, "{finding:?}");
    assert!(finding.sentence.contains("Tuesdays at 14:00"), "{}", finding.sentence);
    assert!(finding.sentence.contains("update_ticket"), "{}", finding.sentence);
}

#[test]
fn a_loop_is_caught_within_six_even_from_a_new_agent() {
    for mut agent in [experienced(), Agent::new()] {
        let from = MONDAY + 22.0 * DAY + 10.0 * 3_600.0;
        let scores: Vec<f32> = (0..6)
            .map(|i| agent.act(from + f64::from(i), "refund", "orders/1").score(Channel::Loop))
            .collect();
        assert!(scores.iter().any(|score| *score >= 5.0), "{scores:?}");
    }
}

#[test]
fn what_was_never_seen_is_named() {
    let mut agent = experienced();
    let t = MONDAY + 22.0 * DAY + 10.0 * 3_600.0;
    let reading = agent.act(t, "export_all", "secrets.vault");
    assert_eq!(reading.worst().0, Channel::Novelty);
    assert_eq!(Severity::of(reading.worst().1), Some(Severity::Critical));
    let finding = agent.baseline.explain(Channel::Novelty, 7.0, &observed(t, "export_all", "secrets.vault"));
    assert_eq!(
        finding.sentence,
        "never seen of this agent before: the action export_all, the resource secrets.vault"
    );
}

#[test]
fn more_records_and_more_errors_are_seen() {
    let mut agent = experienced();
    let mut t = MONDAY + 22.0 * DAY + 10.0 * 3_600.0;
    let mut large = || {
        t += 60.0;
        let action = Observed { records: Some(5_000), ..observed(t, "update_ticket", "shop.tickets/7") };
        agent.baseline.observe(&action, &mut agent.group).score(Channel::Records)
    };
    assert!((0..4).any(|_| large() >= 5.0));
    let mut agent = experienced();
    (0..2_000).for_each(|i| {
        agent.baseline.outcome(i % 50 == 0);
    });
    let after = (1..60).find(|_| agent.baseline.outcome(true).score(Channel::Errors) >= 5.0).unwrap();
    assert!(after <= 8, "{after}");
}

#[test]
fn a_slow_ramp_is_bounded_and_signals() {
    // 40% more each week, which no hour of which stands out.
    let (mut agent, mut told, mut incidents) = (Agent::new(), None, Incidents::default());
    for week in 0..12 {
        let from = MONDAY + f64::from(week) * 7.0 * DAY;
        let factor = 1.4_f64.powi(week);
        let mut t = from;
        while t < from + 7.0 * DAY {
            t += -(3_600.0 / (10.0 * factor)) * (1.0 - agent.roll()).ln();
            let ticket = format!("shop.tickets/{}", (agent.roll() * 1e5) as u64);
            let reading = agent.act(t, "update_ticket", &ticket);
            if incidents.begin(&reading, at(t), 5.0).any(|(channel, _)| channel == Channel::Rate) {
                told.get_or_insert(week);
            }
        }
    }
    assert!(told.is_some_and(|week| (2..=7).contains(&week)), "{told:?}");
    let (mean, _) = agent.baseline.band(at(MONDAY + 85.0 * DAY));
    let ramped = 10.0 * 1.4_f64.powi(11);
    assert!(f64::from(mean) < ramped / 3.0, "it follows to {mean} of {ramped}");
    agent.baseline.accept();
}

#[test]
fn growth_of_twelve_percent_a_week_is_no_news() {
    let (mut agent, mut incidents) = (Agent::new(), Incidents::default());
    for week in 0..14 {
        let from = MONDAY + f64::from(week) * 7.0 * DAY;
        let mut t = from;
        while t < from + 7.0 * DAY {
            t += -(3_600.0 / (10.0 * 1.12_f64.powi(week))) * (1.0 - agent.roll()).ln();
            let ticket = format!("shop.tickets/{}", (agent.roll() * 1e5) as u64);
            let reading = agent.act(t, "update_ticket", &ticket);
            let begun: Vec<_> = incidents.begin(&reading, at(t), 5.0).collect();
            assert!(begun.is_empty(), "week {week}: {begun:?}");
        }
    }
}

#[test]
fn while_frozen_nothing_is_learnt() {
    let mut frozen = experienced();
    frozen.baseline.freeze(true);
    let (mean, high) = frozen.baseline.band(at(MONDAY + 29.0 * DAY + 10.0 * 3_600.0));
    frozen.work(MONDAY + 22.0 * DAY, MONDAY + 26.0 * DAY, 20.0);
    let after = frozen.baseline.band(at(MONDAY + 29.0 * DAY + 10.0 * 3_600.0));
    assert_eq!((mean.to_bits(), high.to_bits()), (after.0.to_bits(), after.1.to_bits()));
    frozen.baseline.freeze(false);
    // What came after the freeze is told apart from what came before it.
    let scores = frozen.burst(MONDAY + 28.0 * DAY + 10.0 * 3_600.0, 60, 5.0);
    assert!(scores.iter().any(|score| *score >= 5.0));
}

#[test]
fn one_incident_is_one_alert() {
    let (mut agent, mut incidents) = (experienced(), Incidents::default());
    let from = MONDAY + 22.0 * DAY + 10.0 * 3_600.0;
    let mut alerts = Vec::new();
    for i in 0..400 {
        let t = from + f64::from(i) * 9.0;
        let reading = agent.act(t, "update_ticket", &format!("shop.tickets/{i}"));
        alerts.extend(incidents.begin(&reading, at(t), 5.0));
    }
    let rates = alerts.iter().filter(|(c, _)| matches!(c, Channel::Rate | Channel::Burst)).count();
    assert_eq!(rates, 1, "{alerts:?}");
    assert!(alerts.len() <= 3, "{alerts:?}");
}

#[test]
fn time_may_do_what_it_likes() {
    let mut agent = experienced();
    let now = MONDAY + 22.0 * DAY;
    for t in [now, now - 7.0 * DAY, 0.0, -1e12, now, now, now + 3_600.0, now + 40.0 * 365.0 * DAY, 9e12] {
        let reading = agent.act(t, "read_ticket", "shop.tickets/1");
        assert!(Channel::ALL.iter().all(|channel| (0.0..=12.0).contains(&reading.score(*channel))));
    }
    let far = Observed { at: Timestamp::from_micros(i64::MAX), ..observed(0.0, "a", "b") };
    agent.baseline.observe(&far, &mut agent.group);
    let early = Observed { at: Timestamp::from_micros(i64::MIN), ..far };
    agent.baseline.observe(&early, &mut agent.group);
    Agent { baseline: Baseline::new(1, early.at), ..agent }.baseline.observe(&far, &mut Group::new());
}

#[test]
fn sentences_are_short_and_hide_nothing() {
    let mut agent = experienced();
    let name = "\u{202e}\u{1b}[2J".repeat(100);
    let t = MONDAY + 22.0 * DAY;
    let action = Observed { tool: &name, ..observed(t, &name, &name) };
    agent.baseline.observe(&action, &mut agent.group);
    for channel in Channel::ALL {
        let sentence = agent.baseline.explain(channel, 5.0, &action).sentence;
        assert!(!sentence.contains(is_invisible) && sentence.chars().count() < 2_500, "{sentence:?}");
    }
}

#[test]
fn damage_is_noticed() {
    let saved = experienced().baseline.save();
    assert!(Baseline::restore(&saved).is_ok());
    for at in (0..saved.len()).step_by(37) {
        let mut damaged = saved.clone();
        damaged[at] ^= 0x40;
        assert!(Baseline::restore(&damaged).is_err(), "{at}");
        assert!(Baseline::restore(&saved[..at]).is_err(), "{at}");
    }
    let mut other = saved;
    other[0] = 9;
    assert_eq!(Baseline::restore(&other).unwrap_err(), RestoreError::Version(9));
}

#[derive(Clone, Debug)]
struct Call {
    pause: f64,
    action: u8,
    resource: u16,
    records: u64,
    failed: bool,
}

fn calls(most: usize) -> impl Strategy<Value = Vec<Call>> {
    let pause = prop_oneof![Just(0.0), 0.0..10.0, 0.0..10_000.0, -100.0..0.0, 0.0..1e6];
    let call = (pause, 0_u8..40, 0_u16..2_000, any::<u64>(), any::<bool>()).prop_map(
        |(pause, action, resource, records, failed)| Call { pause, action, resource, records, failed },
    );
    prop::collection::vec(call, 1..most)
}

fn play(agent: &mut Agent, t: &mut f64, call: &Call) -> (Reading, Reading) {
    *t += call.pause;
    let (action, resource) = (format!("a{}", call.action), format!("r.{}", call.resource));
    let action = Observed { records: Some(call.records), ..observed(*t, &action, &resource) };
    let reading = agent.baseline.observe(&action, &mut agent.group);
    (reading, agent.baseline.outcome(call.failed))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_restored_baseline_scores_the_same(before in calls(400), after in calls(200)) {
        let (mut agent, mut t) = (Agent::new(), MONDAY);
        for call in &before {
            play(&mut agent, &mut t, call);
        }
        let mut restored = Agent {
            baseline: Baseline::restore(&agent.baseline.save()).unwrap(),
            group: Group::restore(&agent.group.save()).unwrap(),
            dice: 0,
        };
        let mut u = t;
        for call in &after {
            prop_assert_eq!(play(&mut agent, &mut t, call), play(&mut restored, &mut u, call));
        }
        prop_assert_eq!(agent.baseline.save(), restored.baseline.save());
    }

    #[test]
    fn a_larger_burst_scores_no_less(weeks in 2_u32..4, n in 2_u32..60, more in 1_u32..60, over in 10.0..1_200.0_f64) {
        let mut agent = Agent::new();
        let from = MONDAY + f64::from(weeks) * 7.0 * DAY + 10.0 * 3_600.0;
        agent.work(MONDAY, from, 1.0);
        let worst = |n: u32| {
            let mut agent = Agent { baseline: agent.baseline.clone(), group: agent.group.clone(), dice: 0 };
            agent.burst(from + 1.0, n, over / f64::from(n)).into_iter().fold(0.0, f32::max)
        };
        let (small, large) = (worst(n), worst(n + more));
        prop_assert!(large >= small, "{small} for {n}, {large} for {}", n + more);
    }
}

#[test]
fn new_names_stand_out_where_there_are_more_of_them_than_usual() {
    // A new name every so many actions; 0: the first three agents stay.
    for every in [0_u32, 10, 50] {
        let mut baseline = Baseline::new(7, at(MONDAY));
        let (mut count, mut worst) = (0_u32, 0.0_f32);
        for hour in (0..22 * 24).filter(|hour| (8..18).contains(&(hour % 24))) {
            for n in 0..20 + hour % 7 {
                let t = MONDAY + f64::from(hour) * 3_600.0 + f64::from(n) * 130.0;
                let action = ["read", "update", "reply"][count as usize % 3];
                let is_new = if every == 0 { count < 3 } else { count % every == 0 };
                let reading = baseline.observe_one_of_many(&observed(t, action, "tickets"), is_new);
                assert_eq!(reading.score(Channel::Sequence), 0.0);
                worst = worst.max(reading.score(Channel::Mix));
                count += 1;
            }
        }
        assert!(worst < 5.0, "every {every}: {worst} with nothing unusual");
        let mut caught = None;
        for n in 0..40_u32 {
            let t = MONDAY + 22.0 * DAY + 10.0 * 3_600.0 + f64::from(n) * 150.0;
            let last = observed(t, ["read", "update", "reply"][n as usize % 3], "tickets");
            let score = baseline.observe_one_of_many(&last, true).score(Channel::Mix);
            if score >= 5.0 {
                caught = Some((n + 1, baseline.explain(Channel::Mix, score, &last)));
                break;
            }
        }
        let (after, finding) = caught.expect("ever new names");
        assert!((3..=25).contains(&after), "every {every}: after {after}");
        let said = &finding.sentence;
        assert!(said.contains("came from agents that had never acted; normally"), "{said}");
        assert!(finding.seen > 3.0 * finding.expected, "{finding:?}");
        // Of one that is known nothing of the kind is said.
        let known = observed(MONDAY + 22.0 * DAY + 13.0 * 3_600.0, "update", "tickets");
        assert!(baseline.observe_one_of_many(&known, false).score(Channel::Mix) < 5.0);
    }
}
