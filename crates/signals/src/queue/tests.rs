use super::*;
use checkrein_core::signal::{Notification, Severity, Status};

const SECOND: i64 = 1_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000 * SECOND + seconds * SECOND)
}

fn delivery(no: u64, severity: Severity, seconds: i64) -> Delivery {
    Delivery {
        no,
        sink: "team".into(),
        standing: Standing::Queued,
        condition: format!("c{no}"),
        entries: (no, no),
        queued_at: at(seconds),
        attempts: 0,
        next_at: at(seconds),
        settled_at: None,
        error: None,
        notification: Notification {
            delivery_id: format!("d{no}"),
            dedup_key: format!("k{no}"),
            status: Status::Firing,
            severity,
            count: 1,
            first_at: at(seconds),
            last_at: at(seconds),
            signals: Vec::new(),
            link: None,
        },
    }
}

fn failure(retry: Retry) -> Result<(), Failure> {
    Err(Failure { retry, reason: "no".into() })
}

/// When which message was delivered.
type Delivered = Vec<(i64, u64)>;
/// How the sink was, and when that changed.
type Said = Vec<(SinkHealth, i64)>;

/// Lets time pass second by second; `answer` says what the sink answers at a time. What was delivered, and when.
fn run(
    queue: &mut Queue,
    seconds: std::ops::Range<i64>,
    mut answer: impl FnMut(i64, &Delivery) -> Result<(), Failure>,
) -> (Delivered, Said, u32) {
    let (mut delivered, mut health, mut attempts) = (Vec::new(), Vec::new(), 0);
    for second in seconds {
        while let (Some(next), effects) = queue.start(at(second)) {
            assert!(effects.changed.iter().all(|d| d.standing == Standing::Dead));
            attempts += 1;
            let effects = queue.answer(next.no, answer(second, &next), at(second), 0.5);
            health.extend(effects.health.map(|(health, _)| (health, second)));
            delivered.extend(
                effects.changed.iter().filter(|d| d.standing == Standing::Delivered).map(|d| (second, d.no)),
            );
            assert!(attempts < 1_000_000, "it never rests");
        }
    }
    (delivered, health, attempts)
}

#[test]
fn a_sink_that_is_dead_for_an_hour_gets_everything_in_order() {
    let mut queue =
        Queue::new(Pace::default(), (1..=500).map(|n| delivery(n, Severity::Warning, 0)).collect(), false);
    let (delivered, health, attempts) =
        run(&mut queue, 0..5_000, |second, _| if second < 3_600 { failure(Retry::Later) } else { Ok(()) });
    let order: Vec<u64> = delivered.iter().map(|(_, no)| *no).collect();
    assert_eq!(order, (1..=500).collect::<Vec<_>>());
    let first = delivered.first().unwrap().0;
    assert!((3_600..=3_900).contains(&first), "back at {first}");
    assert!(delivered.iter().all(|(second, _)| *second == first), "and then all at once");
    assert!(attempts < 500 + 40, "{attempts} attempts");
    assert_eq!(health, [(SinkHealth::Failing, 0), (SinkHealth::Recovered, first)]);
    assert!(queue.is_empty());
}

#[test]
fn one_message_that_fails_does_not_stop_the_others() {
    let mut queue =
        Queue::new(Pace::default(), (1..=50).map(|n| delivery(n, Severity::Warning, 0)).collect(), false);
    let (delivered, health, _) =
        run(&mut queue, 0..10, |_, d| if d.no == 1 { failure(Retry::Later) } else { Ok(()) });
    assert_eq!(delivered.len(), 49);
    assert!(health.is_empty(), "{health:?}");
    // Not even when it alone is left, has opened the circuit, and more come.
    run(&mut queue, 10..20_000, |_, d| if d.no == 1 { failure(Retry::Later) } else { Ok(()) });
    queue.push(delivery(51, Severity::Warning, 20_000), at(20_000));
    let (delivered, ..) =
        run(&mut queue, 20_000..40_000, |_, d| if d.no == 1 { failure(Retry::Later) } else { Ok(()) });
    assert_eq!(delivered.len(), 1);
}

/// A firewall minds some messages, whose texts come from agents; a page behind them is not held up.
#[test]
fn what_a_receiver_refuses_holds_nobody_up() {
    let mut queue =
        Queue::new(Pace::default(), (1..=20).map(|n| delivery(n, Severity::Warning, 0)).collect(), false);
    let answer = |_, d: &Delivery| if d.no <= 20 { failure(Retry::Refused) } else { Ok(()) };
    let (_, health, attempts) = run(&mut queue, 0..600, answer);
    assert_eq!(health, [(SinkHealth::Failing, 4)], "somebody is told");
    assert!(attempts < 300, "{attempts}");
    queue.push(delivery(21, Severity::Critical, 600), at(600));
    let (delivered, health, _) = run(&mut queue, 600..700, answer);
    let [(second, 21)] = *delivered else { panic!("{delivered:?}") };
    assert!(second <= 630, "{second}");
    assert_eq!(health.first(), Some(&(SinkHealth::Recovered, second)));
    // Where a setting was to blame, all arrive in order once it is mended.
    let (delivered, ..) = run(&mut queue, 700..2_000, |_, _| Ok(()));
    assert_eq!(delivered.iter().map(|(_, no)| *no).collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
}

/// When the settings change, what was refused is tried at once.
#[test]
fn what_was_refused_is_tried_with_new_settings() {
    let mut queue = Queue::new(Pace::default(), vec![delivery(1, Severity::Warning, 0)], false);
    run(&mut queue, 0..3_000, |_, _| failure(Retry::Refused));
    queue.set_pace(Pace::default());
    let (delivered, ..) = run(&mut queue, 3_000..3_001, |_, _| Ok(()));
    assert_eq!(delivered, [(3_000, 1)]);
}

#[test]
fn what_the_receiver_says_about_time_is_heeded() {
    let mut queue =
        Queue::new(Pace::default(), (1..=3).map(|n| delivery(n, Severity::Warning, 0)).collect(), false);
    let mut asked = Vec::new();
    let (delivered, health, _) = run(&mut queue, 0..100, |second, _| {
        asked.push(second);
        if asked.len() == 1 { failure(Retry::After(Duration::from_secs(30))) } else { Ok(()) }
    });
    assert_eq!(asked, [0, 30, 30, 30]);
    assert_eq!(delivered.len(), 3);
    assert!(health.is_empty(), "a limit is no failure");
}

#[test]
fn one_that_puts_off_for_long_fails_however_politely() {
    let pause = || failure(Retry::After(Duration::from_secs(60)));
    let waiting = || (1..=3).map(|n| delivery(n, Severity::Warning, 0)).collect();
    let mut queue = Queue::new(Pace::default(), waiting(), false);
    let (_, health, _) = run(&mut queue, 0..3_000, |_, _| pause());
    assert_eq!(health, [(SinkHealth::Failing, 900)]);
    // One that takes a message between two pauses does not, however long the others wait.
    let mut queue =
        Queue::new(Pace::default(), (1..=30).map(|n| delivery(n, Severity::Warning, 0)).collect(), false);
    let mut asked = 0;
    let (delivered, health, _) = run(&mut queue, 0..3_000, |_, _| {
        asked += 1;
        if asked % 2 == 1 { pause() } else { Ok(()) }
    });
    assert_eq!((delivered.len(), health.len()), (30, 0));
}

#[test]
fn a_setting_that_is_mended_is_tried_at_once() {
    let mut queue = Queue::new(Pace::default(), vec![delivery(1, Severity::Warning, 0)], false);
    run(&mut queue, 0..2_000, |_, _| failure(Retry::Later));
    assert!(queue.start(at(2_000)).0.is_none(), "in a pause of minutes");
    queue.set_pace(Pace::default());
    assert_eq!(queue.start(at(2_000)).0.unwrap().no, 1);
}

#[test]
fn what_is_refused_for_good_is_a_dead_letter_and_said_once() {
    let mut queue =
        Queue::new(Pace::default(), (1..=3).map(|n| delivery(n, Severity::Warning, 0)).collect(), false);
    let (delivered, health, attempts) =
        run(&mut queue, 0..10, |_, d| if d.no == 3 { Ok(()) } else { failure(Retry::Never) });
    assert_eq!((delivered, attempts), (vec![(0, 3)], 3));
    assert_eq!(health, [(SinkHealth::Failing, 0), (SinkHealth::Recovered, 0)]);
    assert!(queue.is_empty());
}

#[test]
fn a_full_queue_gives_up_the_least_severe_and_says_so() {
    let pace = Pace { queue: 3, ..Pace::default() };
    let mut queue = Queue::new(pace, Vec::new(), false);
    let mut lost = Vec::new();
    let severities =
        [Severity::Critical, Severity::Info, Severity::Warning, Severity::Info, Severity::Critical];
    let mut said = 0;
    for (no, severity) in (1..).zip(severities) {
        let effects = queue.push(delivery(no, severity, 0), at(0));
        said += effects.health.is_some_and(|(health, _)| health == SinkHealth::Full) as u32;
        lost.extend(effects.changed.into_iter().filter(|d| d.standing == Standing::Dead).map(|d| d.no));
    }
    assert_eq!((lost, said, queue.len()), (vec![2, 4], 1, 3));
    // Not the one that is on its way.
    let (flying, _) = queue.start(at(0));
    let effects = queue.push(delivery(6, Severity::Critical, 0), at(0));
    assert_eq!(flying.unwrap().no, 1);
    assert_eq!(effects.changed.iter().find(|d| d.standing == Standing::Dead).unwrap().no, 3);
}

#[test]
fn what_is_too_old_is_given_up() {
    let mut queue = Queue::new(Pace::default(), vec![delivery(1, Severity::Warning, 0)], false);
    let (_, health, _) = run(&mut queue, 0..60, |_, _| failure(Retry::Later));
    assert_eq!(health.len(), 1);
    let (next, effects) = queue.start(at(72 * 3600));
    assert!(next.is_none() && queue.is_empty());
    assert_eq!(effects.changed[0].standing, Standing::Dead);
    assert!(effects.changed[0].error.as_deref().unwrap().contains("too old"), "{effects:?}");
    // One that was never tried is, whatever its age.
    let mut queue = Queue::new(Pace::default(), vec![delivery(1, Severity::Warning, 0)], false);
    assert_eq!(queue.start(at(999_999)).0.unwrap().no, 1);
}

#[test]
fn it_wakes_when_there_is_something_to_do() {
    let mut queue = Queue::new(Pace::default(), vec![delivery(1, Severity::Warning, 0)], false);
    for _ in 0..30 {
        let now = queue.wake(at(0)).unwrap();
        let (next, _) = queue.start(now);
        let next = next.expect("something to start at the time that it named");
        assert_eq!(queue.wake(now), None, "while it is on its way there is nothing");
        queue.answer(next.no, failure(Retry::Later), now, 1.0);
        assert!(queue.wake(now).unwrap() > now);
        assert!(queue.start(now).0.is_none());
    }
}

#[test]
fn nothing_is_waited_for_by_the_clock_while_all_places_are_taken() {
    let pace = Pace { concurrency: 2, ..Pace::default() };
    let mut queue = Queue::new(pace, (1..=3).map(|n| delivery(n, Severity::Warning, 0)).collect(), false);
    assert_eq!(queue.wake(at(0)), Some(at(0)));
    let started: Vec<u64> = std::iter::from_fn(|| queue.start(at(0)).0).map(|d| d.no).collect();
    assert_eq!(started, [1, 2]);
    assert_eq!(queue.wake(at(1)), None, "only an answer makes room, and an answer wakes by itself");
    queue.answer(1, Ok(()), at(2), 0.5);
    assert_eq!(queue.wake(at(2)), Some(at(0)));
}
