use super::*;
use proptest::prelude::*;

const SECOND: i64 = 1_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * SECOND)
}

fn drift() -> Cause {
    Cause::Drift { channel: Channel::Burst, score: 8.0 }
}

fn rules() -> Rules {
    Rules { cool_down_seconds: 100, longest_cool_down_seconds: 1_000, probes: 2, ..Rules::default() }
}

fn person() -> Cause {
    Cause::Person { by: "ada".to_owned(), reason: "look into it".to_owned() }
}

#[test]
fn opens_probes_and_closes() {
    let (mut breaker, rules) = (Breaker::new(), rules());
    assert_eq!(breaker.admit(at(0), false, &rules).0, Admission::Run);
    let change = breaker.drifted(at(10), Channel::Burst, 7.0, &rules).unwrap();
    assert_eq!((change.from, change.to, change.until), (State::Closed, State::Open, Some(at(110))));
    assert_eq!(breaker.admit(at(109), false, &rules).0, Admission::Refused(Some(at(110))));
    let (Admission::Probe(one), Some(change)) = breaker.admit(at(110), false, &rules) else { panic!() };
    assert_eq!(change.to, State::HalfOpen);
    let (Admission::Probe(two), None) = breaker.admit(at(110), false, &rules) else { panic!() };
    assert_eq!(breaker.admit(at(111), false, &rules).0, Admission::Refused(Some(at(210))));
    assert!(breaker.ended(at(112), Some(one), false, &rules).is_none());
    assert_eq!(breaker.ended(at(113), Some(two), false, &rules).unwrap().to, State::Closed);
    assert_eq!(breaker.admit(at(114), false, &rules).0, Admission::Run);
}

#[test]
fn each_trip_in_a_row_lasts_twice_as_long_and_long_calm_forgives() {
    let (mut breaker, rules) = (Breaker::new(), rules());
    let mut lasted = Vec::new();
    let mut now = 0;
    for _ in 0..6 {
        breaker.trip(at(now), drift(), &rules).unwrap();
        let until = breaker.until().unwrap();
        lasted.push((until.as_micros() - at(now).as_micros()) / SECOND);
        now = until.as_micros() / SECOND;
        let (Admission::Probe(_), _) = breaker.admit(until, false, &rules) else { panic!() };
    }
    assert_eq!(lasted, [100, 200, 400, 800, 1_000, 1_000]);
    for _ in 0..2 {
        breaker.ended(at(now), Some(6), false, &rules);
    }
    assert_eq!(breaker.state(), State::Closed);
    now += 25 * 3_600;
    breaker.trip(at(now), drift(), &rules).unwrap();
    assert_eq!(breaker.until(), Some(at(now + 100)));
}

#[test]
fn what_trips_it() {
    let rules = Rules::default();
    let mut breaker = Breaker::new();
    assert!(breaker.drifted(at(0), Channel::Mix, 6.9, &rules).is_none());
    assert!(breaker.drifted(at(0), Channel::Loop, 5.0, &rules).is_some());
    assert!(Breaker::new().drifted(at(0), Channel::Mix, f32::NAN, &rules).is_some());

    let mut breaker = Breaker::new();
    // Ten within five minutes, the first of eleven being just too old.
    assert!((0..9).all(|i| breaker.blocked(at(i), &rules).is_none()));
    assert!(breaker.blocked(at(300), &rules).is_none());
    assert_eq!(breaker.blocked(at(300), &rules).unwrap().cause, Some(Cause::Blocks));

    let mut breaker = Breaker::new();
    assert!((0..14).all(|i| breaker.ended(at(i), None, true, &rules).is_none()));
    assert!((0..5).all(|i| breaker.ended(at(20 + i), None, false, &rules).is_none()));
    assert_eq!(breaker.ended(at(30), None, true, &rules).unwrap().cause, Some(Cause::Errors));

    let mut breaker = Breaker::new();
    assert!(breaker.measured(at(0), 12, 120, &rules).is_none());
    assert!(breaker.measured(at(0), 1, 100, &rules).is_none());
    assert!(breaker.measured(at(0), 12, 10_000, &rules).is_some());
    assert!(Breaker::new().measured(at(0), u64::MAX, u64::MAX, &rules).is_none());
}

#[test]
fn a_person_has_the_last_word() {
    let rules = rules();
    let mut breaker = Breaker::new();
    breaker.trip(at(0), drift(), &rules);
    let change = breaker.trip(at(1), person(), &rules).unwrap();
    assert_eq!(change.until, None);
    assert!(breaker.drifted(at(2), Channel::Loop, 12.0, &rules).is_none());
    assert_eq!(breaker.admit(at(1_000_000), false, &rules).0, Admission::Refused(None));
    assert_eq!(breaker.close(at(1_000_001)).unwrap().to, State::Closed);
    assert!(breaker.close(at(1_000_002)).is_none());
    assert_eq!(Breaker::opened(at(0)).admit(at(9), false, &rules).0, Admission::Refused(None));
}

#[test]
fn reads_run_where_the_operator_says_so() {
    let exempt = Rules { exempt_reads: true, ..rules() };
    let mut breaker = Breaker::new();
    breaker.trip(at(0), person(), &exempt);
    assert_eq!(breaker.admit(at(1), true, &exempt).0, Admission::Run);
    assert_eq!(breaker.admit(at(1), false, &exempt).0, Admission::Refused(None));
    assert_eq!(breaker.admit(at(1), true, &rules()).0, Admission::Refused(None));
}

#[test]
fn all_must_admit_and_none_loses_a_probe_for_nothing() {
    let rules = rules();
    let (mut agent, mut group, mut all) = (Breaker::new(), Breaker::new(), Breaker::new());
    agent.trip(at(0), drift(), &rules);
    group.trip(at(50), drift(), &rules);
    let mut three = [(&mut agent, &rules), (&mut group, &rules), (&mut all, &rules)];
    assert_eq!(admit_by_all(&mut three, at(120), false), Err(Some(at(150))));
    assert_eq!(three[0].0.state(), State::Open, "it was not asked to probe");
    let admitted = admit_by_all(&mut three, at(150), false).unwrap();
    assert!(matches!(
        admitted[..],
        [(Admission::Probe(1), Some(_)), (Admission::Probe(1), Some(_)), (Admission::Run, None)]
    ));
    all.trip(at(151), person(), &rules);
    let mut three = [(&mut agent, &rules), (&mut group, &rules), (&mut all, &rules)];
    assert_eq!(admit_by_all(&mut three, at(152), false), Err(None));
}

#[test]
fn rules_that_never_open_or_close_are_refused() {
    assert_eq!(Rules::default().check(), Ok(()));
    for wrong in [
        Rules { probes: 0, ..Rules::default() },
        Rules { blocks: 0, ..Rules::default() },
        Rules { errors_of_20: 21, ..Rules::default() },
        Rules { open_at_drift: f32::NAN, ..Rules::default() },
        Rules { cool_down_seconds: 0, ..Rules::default() },
    ] {
        assert!(wrong.check().is_err(), "{wrong:?}");
    }
    assert!(serde_json::from_str::<Rules>(r#"{"prbes":3}"#).is_err());
}

#[derive(Clone, Debug)]
enum Step {
    /// The clock moves, also backward.
    Clock(i64),
    Admit,
    /// The outcome of one of the probes that are out, or of some that were, comes in.
    Outcome {
        which: usize,
        failed: bool,
    },
    Drift,
    Open,
    Close,
    /// The process starts again from what it saved.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (-50_i64..400).prop_map(Step::Clock),
        6 => Just(Step::Admit),
        4 => (any::<usize>(), prop::bool::weighted(0.2)).prop_map(|(which, failed)| Step::Outcome { which, failed }),
        1 => Just(Step::Drift),
        1 => Just(Step::Open),
        1 => Just(Step::Close),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..120)
}

/// What must hold, told from the whole history rather than from a state.
#[derive(Default)]
struct Model {
    now: i64,
    /// A person has opened it and none has closed it.
    held: bool,
    /// It tripped and nothing has closed it since; then not before this time.
    not_before: Option<i64>,
    in_a_row: u32,
    /// A probe has been let through since then.
    probing: bool,
    /// When it was closed last.
    calm_since: Option<i64>,
    /// Good outcomes of probes let through since the last trip or bad probe.
    good: u32,
    /// Probes out: their number, and whether they were let through since then.
    out: Vec<(u32, bool)>,
}

impl Model {
    fn must_be_open(&self) -> bool {
        self.held || self.not_before.is_some()
    }

    fn trip(&mut self) {
        if self.held || (self.not_before.is_some() && !self.probing) {
            // Open already (nothing let through since): one trip is enough.
            return;
        }
        self.trip_again();
    }

    fn trip_again(&mut self) {
        let calm = self.not_before.is_none() && self.calm_since.is_none_or(|t| self.now - t >= 24 * 3_600);
        self.in_a_row = if calm { 1 } else { self.in_a_row + 1 };
        self.not_before = Some(self.now + (100_i64 << (self.in_a_row - 1).min(20)).min(1_000));
        (self.good, self.probing) = (0, false);
        self.out.iter_mut().for_each(|(_, now)| *now = false);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn never_closed_while_it_should_be_open(steps in steps()) {
        let rules = rules();
        let (mut breaker, mut model, mut clock) = (Breaker::new(), Model::default(), 0_i64);
        for step in steps {
            match step {
                Step::Clock(by) => {
                    clock += by;
                    continue;
                }
                Step::Restart => {
                    let saved = serde_json::to_string(&breaker).unwrap();
                    let restored: Breaker = serde_json::from_str(&saved).unwrap();
                    prop_assert_eq!(&restored, &breaker);
                    breaker = restored;
                    continue;
                }
                Step::Outcome { .. } if model.out.is_empty() => continue,
                _ => model.now = model.now.max(clock),
            }
            match step {
                Step::Admit => match breaker.admit(at(clock), false, &rules).0 {
                    Admission::Run => prop_assert!(!model.must_be_open(), "ran while it should be open"),
                    Admission::Probe(round) => {
                        prop_assert!(!model.held, "a probe while a person holds it open");
                        prop_assert!(model.not_before.is_some_and(|t| model.now >= t), "a probe too early");
                        model.out.push((round, true));
                        model.probing = true;
                    }
                    Admission::Refused(until) => {
                        prop_assert!(model.must_be_open(), "refused without a reason");
                        prop_assert_eq!(until.is_none(), model.held);
                    }
                },
                Step::Outcome { which, failed } => {
                    let (round, current) = model.out.swap_remove(which % model.out.len());
                    if current && !model.held && failed {
                        model.trip_again();
                    } else if current && !model.held {
                        model.good += 1;
                    }
                    breaker.ended(at(clock), Some(round), failed, &rules);
                    if model.good >= 2 && model.not_before.is_some() {
                        (model.not_before, model.good, model.calm_since) = (None, 0, Some(model.now));
                        model.out.iter_mut().for_each(|(_, now)| *now = false);
                    }
                }
                Step::Drift => {
                    model.trip();
                    breaker.trip(at(clock), drift(), &rules);
                }
                Step::Open => {
                    model.held = true;
                    model.out.iter_mut().for_each(|(_, now)| *now = false);
                    breaker.trip(at(clock), person(), &rules);
                }
                Step::Close => {
                    let was = model.must_be_open();
                    (model.held, model.not_before, model.good) = (false, None, 0);
                    if was {
                        (model.in_a_row, model.calm_since) = (0, Some(model.now));
                    }
                    model.out.iter_mut().for_each(|(_, now)| *now = false);
                    breaker.close(at(clock));
                }
                Step::Clock(_) | Step::Restart => {}
            }
            prop_assert_eq!(breaker.state() == State::Closed, !model.must_be_open(), "after {:?}", step);
        }
    }
}
