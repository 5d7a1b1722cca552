//! The whole machine of approvals and grants against a model that shares no code with it, over any sequence of
//! steps, orderly restarts and crashes.

use crate::common::*;
use checkrein_core::{
    approval::{Actor, Answer, State, Transition, Via},
    event::Event,
    grant::{self, Grant},
    key::Role,
    time::Timestamp,
};
use checkrein_store::{AppendError, ApprovalFilter, GrantFilter};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Seconds after which approvals and grants are over; a step takes 150.
const LIFE: i64 = 3600;
/// All that a store keeps.
const FILES: [&str; 5] =
    ["checkrein.db", WAL, "checkrein.lock", "checkrein.journal-1", "checkrein.journal-2"];
const WAL: &str = "checkrein.db-wal";

#[derive(Clone, Debug)]
enum Step {
    /// Somebody asks for approval `a`, by so many people.
    Ask(u8, u8),
    Decide(u8, u8, bool),
    Expire(u8),
    Withdraw(u8),
    Comment(u8),
    /// A check uses approval `a`.
    Use(u8, u8),
    Give(u8, u64, Option<u64>),
    UseGrant(u8, u64),
    Revoke(u8),
    ExpireGrant(u8),
    Restart,
    /// The process dies, without a word.
    Crash,
    /// The machine does.
    PowerCut,
}

fn step() -> impl Strategy<Value = Step> {
    let n = || 0..3_u8;
    prop_oneof![
        3 => (n(), 1..4_u8).prop_map(|(a, people)| Step::Ask(a, people)),
        6 => (n(), 0..5_u8, prop::bool::weighted(0.85)).prop_map(|(a, who, yes)| Step::Decide(a, who, yes)),
        1 => n().prop_map(Step::Expire),
        1 => n().prop_map(Step::Withdraw),
        1 => n().prop_map(Step::Comment),
        4 => (n(), 0..9_u8).prop_map(|(a, check)| Step::Use(a, check)),
        2 => (n(), 1..9_u64, prop::option::of(1..4_u64)).prop_map(|(g, r, u)| Step::Give(g, r, u)),
        5 => (n(), 0..5_u64).prop_map(|(g, records)| Step::UseGrant(g, records)),
        1 => n().prop_map(Step::Revoke),
        1 => n().prop_map(Step::ExpireGrant),
        1 => Just(Step::Restart),
        1 => Just(Step::Crash),
        1 => Just(Step::PowerCut),
    ]
}

/// Persons 0 and 1 are Olga with two keys; 2, 3 and 4 are others.
fn person(who: u8) -> Actor {
    let name = if who < 2 { "Olga".to_owned() } else { format!("person {who}") };
    Actor { key_id: format!("key_{who}"), name, role: Role::Operator, via: Via::Key, made_by: None }
}

fn human(who: u8) -> u8 {
    who.max(1)
}

/// What a person would say about one approval.
#[derive(Debug)]
struct Asked {
    until: Timestamp,
    needed: usize,
    yes: BTreeSet<u8>,
    over: Option<State>,
    used: bool,
    comments: usize,
}

#[derive(Debug)]
struct Given {
    until: Timestamp,
    left: u64,
    uses_left: u64,
    used: u64,
    over: Option<grant::State>,
}

#[derive(Debug, Default)]
struct Model {
    asked: BTreeMap<u8, Asked>,
    given: BTreeMap<u8, Given>,
}

impl Model {
    /// Whether the step can be taken; it is taken then.
    fn take(&mut self, step: &Step, now: Timestamp) -> bool {
        match *step {
            Step::Ask(a, needed) => {
                let until = at(0).plus_seconds(LIFE);
                let fresh = Asked {
                    until,
                    needed: usize::from(needed),
                    yes: BTreeSet::new(),
                    over: None,
                    used: false,
                    comments: 0,
                };
                let new = !self.asked.contains_key(&a);
                if new {
                    self.asked.insert(a, fresh);
                }
                new
            }
            Step::Give(g, records, uses) => {
                let new = !self.given.contains_key(&g);
                if new {
                    let until = now.plus_seconds(LIFE);
                    let uses_left = uses.unwrap_or(u64::MAX);
                    self.given.insert(g, Given { until, left: records, uses_left, used: 0, over: None });
                }
                new
            }
            Step::Decide(a, who, yes) => self.asked.get_mut(&a).is_some_and(|it| {
                if it.over.is_some() || now >= it.until {
                    return false;
                }
                if !yes {
                    it.over = Some(State::Denied);
                    return true;
                }
                // One person's second yes is none, where several are needed.
                if it.needed > 1 && !it.yes.insert(human(who)) {
                    return false;
                }
                it.yes.insert(human(who));
                if it.yes.len() == it.needed {
                    it.over = Some(State::Approved);
                }
                true
            }),
            Step::Use(a, _) => self.asked.get_mut(&a).is_some_and(|it| {
                let may = it.over == Some(State::Approved) && !it.used && now < it.until;
                it.used |= may;
                may
            }),
            Step::Expire(a) => self.asked.get_mut(&a).is_some_and(|it| {
                let open = it.over.is_none() || (it.over == Some(State::Approved) && !it.used);
                let may = open && now >= it.until;
                if may {
                    it.over = Some(State::Expired);
                }
                may
            }),
            Step::Withdraw(a) => self.asked.get_mut(&a).is_some_and(|it| {
                let may = it.over.is_none() || (it.over == Some(State::Approved) && !it.used);
                if may {
                    it.over = Some(State::Withdrawn);
                }
                may
            }),
            Step::Comment(a) => self.asked.get_mut(&a).is_some_and(|it| {
                it.comments += 1;
                true
            }),
            Step::UseGrant(g, records) => self.given.get_mut(&g).is_some_and(|it| {
                let may = it.over.is_none() && now < it.until && records <= it.left;
                if may {
                    it.left -= records;
                    it.uses_left -= 1;
                    it.used += 1;
                    if it.left == 0 || it.uses_left == 0 {
                        it.over = Some(grant::State::UsedUp);
                    }
                }
                may
            }),
            Step::Revoke(g) => self.given.get_mut(&g).is_some_and(|it| {
                let may = it.over.is_none();
                it.over = it.over.or(Some(grant::State::Revoked));
                may
            }),
            Step::ExpireGrant(g) => self.given.get_mut(&g).is_some_and(|it| {
                let may = it.over.is_none() && now >= it.until;
                if may {
                    it.over = Some(grant::State::Expired);
                }
                may
            }),
            Step::Restart | Step::Crash | Step::PowerCut => true,
        }
    }
}

fn event(step: &Step, now: Timestamp) -> Option<Event> {
    let of = |a: &u8, transition| changed(&format!("apr_{a}"), transition);
    let of_grant = |g: &u8, transition| Event::GrantChanged { id: format!("grt_{g}"), transition };
    let agent = Actor { role: Role::Agent, ..person(9) };
    Some(match step {
        Step::Ask(a, people) => {
            let approval = checkrein_core::approval::Approval {
                approvals: *people,
                ..approval(&format!("apr_{a}"), "chk_0")
            };
            Event::ApprovalRequested(Box::new(approval))
        }
        Step::Decide(a, who, yes) => {
            let decision = if *yes { Answer::Approve } else { Answer::Deny };
            of(a, Transition::Decide { decision, by: person(*who), comment: None })
        }
        Step::Expire(a) => of(a, Transition::Expire),
        Step::Withdraw(a) => of(a, Transition::Withdraw { by: agent }),
        Step::Comment(a) => of(a, Transition::Comment { by: person(2), text: "hm".into() }),
        Step::Use(a, check) => {
            let fingerprint = approval("", "chk_0").fingerprint;
            of(a, Transition::Use { check_id: format!("chk_{check}"), fingerprint })
        }
        Step::Give(g, records, uses) => {
            let given = Grant {
                max_uses: *uses,
                expires_at: now.plus_seconds(LIFE),
                ..grant(&format!("grt_{g}"), *records, now)
            };
            Event::GrantGiven(Box::new(given))
        }
        Step::UseGrant(g, records) => {
            of_grant(g, grant::Transition::Use { check_id: "chk_0".into(), records: *records })
        }
        Step::Revoke(g) => of_grant(g, grant::Transition::Revoke { by: person(3) }),
        Step::ExpireGrant(g) => of_grant(g, grant::Transition::Expire),
        Step::Restart | Step::Crash | Step::PowerCut => return None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn people_and_grants_are_counted_as_a_person_would(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }
}

/// How much of the write-ahead log a power cut leaves: half of what came since `before`, which was synced.
fn torn(before: &[u8], now: &[u8]) -> u64 {
    // Begun anew, it has another header.
    let goes_on = !before.is_empty() && now.get(..32) == before.get(..32);
    let synced = if goes_on { before.len().min(now.len()) } else { 0 };
    (synced + (now.len() - synced) / 2) as u64
}

/// A store, and what its disk is sure to hold.
struct Running {
    store: checkrein_store::Store,
    dir: tempfile::TempDir,
    /// The database as it was before anything was added.
    kept: tempfile::TempDir,
    /// The write-ahead log then.
    before: Vec<u8>,
}

impl Running {
    fn begin(dir: tempfile::TempDir) -> Self {
        let kept = tempfile::tempdir().unwrap();
        for file in ["checkrein.db", "checkrein.lock"] {
            std::fs::copy(dir.path().join(file), kept.path().join(file)).unwrap();
        }
        // No checkpoint tears the copy: none begins before a quarter of this is written.
        let options = checkrein_store::Options { wal_bytes: 4 << 20, ..options(dir.path()) };
        let store = checkrein_store::Store::open(options).unwrap();
        let before = std::fs::read(dir.path().join(WAL)).unwrap_or_default();
        Self { store, dir, kept, before }
    }

    async fn restart(self) -> Self {
        self.store.close().await;
        Self::begin(self.dir)
    }

    /// What SIGKILL leaves at this moment; that nothing is written just then, `same` has seen to.
    async fn crash(self) -> Self {
        let left = tempfile::tempdir().unwrap();
        for file in FILES {
            std::fs::copy(self.dir.path().join(file), left.path().join(file)).unwrap();
        }
        self.store.close().await;
        open(left.path()).close().await;
        Self::begin(left)
    }

    /// What a machine that lost power finds: the database as it was when the store was opened, half of what it
    /// wrote since, and the journal.
    async fn power_cut(self) -> Self {
        let (from, left) = (self.dir.path(), self.kept);
        for file in FILES.into_iter().filter(|file| !["checkrein.db", "checkrein.lock"].contains(file)) {
            std::fs::copy(from.join(file), left.path().join(file)).unwrap();
        }
        let wal = std::fs::OpenOptions::new().write(true).open(left.path().join(WAL)).unwrap();
        wal.set_len(torn(&self.before, &std::fs::read(from.join(WAL)).unwrap())).unwrap();
        self.store.close().await;
        open(left.path()).close().await;
        Self::begin(left)
    }
}

async fn run(steps: Vec<Step>) {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).close().await;
    let mut running = Running::begin(dir);
    let mut model = Model::default();
    let mut taken = 0_u64;
    for (n, step) in steps.iter().enumerate() {
        let now = at(i64::try_from(n).unwrap() * 150);
        match step {
            Step::Restart => running = running.restart().await,
            Step::Crash => running = running.crash().await,
            Step::PowerCut => running = running.power_cut().await,
            _ => {
                let recorded = match running.store.append(vec![event(step, now).unwrap()], now).await {
                    Ok(_) => true,
                    Err(
                        AppendError::Refused(_)
                        | AppendError::Grant(_)
                        | AppendError::NotFound(_)
                        | AppendError::Exists(_),
                    ) => false,
                    Err(other) => panic!("{other}"),
                };
                assert_eq!(recorded, model.take(step, now), "{step:?} in {model:?}");
                taken += u64::from(recorded);
            }
        }
        same(&running.store, &model).await;
    }
    running.store.close().await;
    assert_eq!(verified(running.dir.path()), taken, "all that was acknowledged, and nothing else");
}

async fn same(store: &checkrein_store::Store, model: &Model) {
    let approvals = store.approvals(ApprovalFilter::default(), None, 100).await.unwrap().rows;
    assert_eq!(approvals.len(), model.asked.len());
    for a in approvals {
        let said = &model.asked[&a.id.trim_start_matches("apr_").parse().unwrap()];
        assert_eq!(a.state, said.over.unwrap_or(State::Pending), "{a:?} {said:?}");
        assert_eq!((a.used_by.is_some(), a.comments.len()), (said.used, said.comments));
        if matches!(a.state, State::Pending | State::Approved) {
            assert_eq!(a.approved_by_people(), said.yes.len(), "{a:?} {said:?}");
        }
        if a.used_by.is_some() {
            let mut names: BTreeSet<_> = a.given.iter().map(|g| g.by.name.clone()).collect();
            names.extend(a.decided_by.map(|by| by.name));
            assert_eq!(names.len(), said.needed, "that many different people");
        }
    }
    let grants = store.grants(GrantFilter::default(), None, 100).await.unwrap().rows;
    assert_eq!(grants.len(), model.given.len());
    for g in grants {
        let said = &model.given[&g.id.trim_start_matches("grt_").parse().unwrap()];
        assert_eq!((g.state, g.uses), (said.over.unwrap_or(grant::State::Open), said.used));
        assert_eq!(g.left(), said.left);
    }
}
