//! Any sequence of appends, refusals and restarts does what a plain model in memory does.

use crate::common::*;
use checkrein_core::{
    approval::{Answer, Approval, Transition},
    event::Event,
    key::Role,
    time::Timestamp,
};
use checkrein_store::{AppendError, ApprovalFilter};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<Small>),
    Reopen,
}

/// Events from a small world, so that they meet.
#[derive(Clone, Debug)]
enum Small {
    Check(u8, Option<u8>),
    Outcome(u8),
    Request(u8),
    Decide(u8, bool),
    Expire(u8),
    Withdraw(u8),
    Use(u8, u8),
    Put(u8, u64),
    Delete(u8),
    Key(u8),
    Revoke(u8),
}

fn small() -> impl Strategy<Value = Small> {
    let n = 0..4_u8;
    prop_oneof![
        4 => (0..12_u8, proptest::option::of(0..6_u8)).prop_map(|(c, k)| Small::Check(c, k)),
        1 => (0..12_u8).prop_map(Small::Outcome),
        2 => n.clone().prop_map(Small::Request),
        2 => (n.clone(), any::<bool>()).prop_map(|(a, yes)| Small::Decide(a, yes)),
        1 => n.clone().prop_map(Small::Expire),
        1 => n.clone().prop_map(Small::Withdraw),
        2 => (n.clone(), n.clone()).prop_map(|(a, c)| Small::Use(a, c)),
        1 => (n.clone(), 0..3_u64).prop_map(|(p, l)| Small::Put(p, l)),
        1 => n.clone().prop_map(Small::Delete),
        1 => n.clone().prop_map(Small::Key),
        1 => n.prop_map(Small::Revoke),
    ]
}

impl Small {
    fn event(&self) -> Event {
        let apr = |a: &u8| format!("apr_{a}");
        match self {
            Self::Check(c, None) => check(&format!("chk_{c}")),
            Self::Check(c, Some(k)) => check_with_key(&format!("chk_{c}"), &format!("k{k}")),
            Self::Outcome(c) => outcome(&format!("chk_{c}")),
            Self::Request(a) => requested(&apr(a), "chk_0"),
            Self::Decide(a, yes) => decided(&apr(a), if *yes { Answer::Approve } else { Answer::Deny }),
            Self::Expire(a) => changed(&apr(a), Transition::Expire),
            Self::Withdraw(a) => changed(&apr(a), Transition::Withdraw { by: actor(Role::Agent) }),
            Self::Use(a, c) => {
                let fingerprint = approval("", "chk_0").fingerprint;
                changed(&apr(a), Transition::Use { check_id: format!("chk_{c}"), fingerprint })
            }
            Self::Put(p, limit) => policy(&format!("p{p}"), *limit),
            Self::Delete(p) => policy_deleted(&format!("p{p}")),
            Self::Key(k) => key(&format!("key_{k}")),
            Self::Revoke(k) => revoked(&format!("key_{k}")),
        }
    }
}

#[derive(Clone, Default)]
struct Model {
    log: Vec<Event>,
    checks: BTreeMap<String, Option<String>>,
    approvals: BTreeMap<String, Approval>,
    policies: BTreeMap<String, u64>,
    keys: BTreeMap<String, ()>,
}

impl Model {
    /// What should happen: nothing, or the name of the error.
    fn take(&mut self, small: &Small, now: Timestamp) -> Result<(), &'static str> {
        let event = small.event();
        let subject = event.subject().to_owned();
        match (small, &event) {
            (Small::Check(_, k), _) => {
                let key = k.map(|k| format!("k{k}"));
                if self.checks.contains_key(&subject) {
                    return Err("exists");
                }
                if key.is_some() && self.checks.values().any(|used| *used == key) {
                    return Err("duplicate");
                }
                self.checks.insert(subject, key);
            }
            (Small::Outcome(_), _) => drop(self.checks.get(&subject).ok_or("missing")?),
            (Small::Request(_), Event::ApprovalRequested(approval)) => {
                if self.approvals.contains_key(&subject) {
                    return Err("exists");
                }
                self.approvals.insert(subject, (**approval).clone());
            }
            (_, Event::ApprovalChanged { transition, .. }) => {
                let approval = self.approvals.get_mut(&subject).ok_or("missing")?;
                *approval = approval.after(transition, now).map_err(|_| "refused")?;
            }
            (Small::Put(_, limit), _) => drop(self.policies.insert(subject, *limit)),
            (Small::Delete(_), _) => drop(self.policies.remove(&subject).ok_or("missing")?),
            (Small::Key(_), _) => {
                if self.keys.insert(subject, ()).is_some() {
                    return Err("exists");
                }
            }
            (Small::Revoke(_), _) => self.keys.remove(&subject).ok_or("missing")?,
            other => panic!("{other:?}"),
        }
        self.log.push(event);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_store_does_what_the_model_does(steps in proptest::collection::vec(
        prop_oneof![
            12 => proptest::collection::vec(small(), 1..4).prop_map(Step::Append),
            1 => Just(Step::Reopen),
        ],
        1..40,
    )) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }
}

async fn run(steps: Vec<Step>) {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let mut model = Model::default();
    for (n, step) in steps.into_iter().enumerate() {
        // Some appends come before the approvals' time is over, some after.
        let now = at(i64::try_from(n).unwrap() * 150);
        match step {
            Step::Reopen => {
                store.close().await;
                store = open(dir.path());
            }
            Step::Append(smalls) => {
                let mut next = model.clone();
                let expected = smalls.iter().try_for_each(|small| next.take(small, now));
                let got = match store.append(smalls.iter().map(Small::event).collect(), now).await {
                    Ok(_) => Ok(()),
                    Err(AppendError::Duplicate(_)) => Err("duplicate"),
                    Err(AppendError::Exists(_)) => Err("exists"),
                    Err(AppendError::NotFound(_)) => Err("missing"),
                    Err(AppendError::Refused(_)) => Err("refused"),
                    Err(other) => panic!("{other}"),
                };
                assert_eq!(got, expected, "{smalls:?}");
                if expected.is_ok() {
                    model = next;
                }
            }
        }
    }
    let entries = store.entries(0, 10_000, Default::default()).await.unwrap();
    let events: Vec<_> = entries.iter().map(|e| Event::from_parts(&e.kind, &e.body).unwrap()).collect();
    assert_eq!(events, model.log);
    let policies: Vec<_> = store
        .policies()
        .await
        .unwrap()
        .iter()
        .map(|p| p["condition"]["record_count_exceeds"].as_u64().unwrap())
        .collect();
    assert_eq!(policies, model.policies.values().copied().collect::<Vec<_>>());
    let keys: Vec<_> = store.keys().await.unwrap().into_iter().map(|k| k.id).collect();
    assert_eq!(keys, model.keys.keys().cloned().collect::<Vec<_>>());
    let approvals = store.approvals(ApprovalFilter::default(), None, 100).await.unwrap().rows;
    let approvals: BTreeMap<_, _> = approvals.into_iter().map(|a| (a.id.clone(), a)).collect();
    assert_eq!(approvals, model.approvals);
    store.close().await;
    assert_eq!(verified(dir.path()), model.log.len() as u64);
}
