//! Replay: what a candidate set would have made of the recorded past.

use super::{Facts, PolicySet, Windows};
use crate::{decision::Verdict, event::Checked, time::Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Changes that a report lists at most; the sums count all of them.
pub const MAX_CHANGES: usize = 1_000;

/// A replay under way. Feed it the recorded checks, oldest first.
#[derive(Debug)]
pub struct Replay {
    candidate: PolicySet,
    windows: Windows,
    /// Matches of each policy, in the order of the set.
    matches: Vec<u64>,
    report: ReplayReport,
}

/// What would have changed, action by action and in sum.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ReplayReport {
    /// Recorded checks that were judged again.
    pub checked: u64,
    /// Those among them with another verdict.
    pub changed: u64,
    /// How many changed in which way: `{"allow→block": 3}`.
    pub by_change: BTreeMap<String, u64>,
    /// How many checks each policy of the candidate set matched, shadows and exempted ones too; 0 for one
    /// that never did.
    pub by_policy: BTreeMap<String, u64>,
    /// The first ones that changed; at most 1,000.
    pub changes: Vec<Change>,
    /// When the first and the last of the checks were made.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, format = DateTime))]
    pub from: Option<Timestamp>,
    /// When the last of them was made.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, format = DateTime))]
    pub to: Option<Timestamp>,
    /// What a reader must know to trust the figures.
    pub notes: Vec<String>,
}

/// A check that would have been answered differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Change {
    /// `chk_…`.
    pub check_id: String,
    /// When it was decided.
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub at: Timestamp,
    /// Who acted.
    pub agent: String,
    /// What it did.
    pub action: String,
    /// To what.
    pub resource: String,
    /// The verdict that was given. One that a person approved later was still `hold`.
    pub was: Verdict,
    /// The verdict that the candidate set would have given.
    pub would_be: Verdict,
    /// Why, for a person.
    pub reason: String,
}

impl Replay {
    /// A replay of `candidate`.
    pub fn new(candidate: PolicySet) -> Self {
        let mut report = ReplayReport::default();
        let drift = &candidate.needs().drift;
        if !drift.is_empty() {
            report.notes.push(format!(
                "Drift is on record from a score of 5 on; a check without one counted as 0 for {}.",
                drift.join(", ")
            ));
        }
        Self { matches: vec![0; candidate.policies().len()], windows: Windows::new(), candidate, report }
    }

    /// Judges a recorded check again: at the time and with the blast radius on record.
    pub fn feed(&mut self, checked: &Checked) {
        let Checked { check, action, decision, .. } = checked;
        let facts = Facts {
            records: decision.blast_radius.records,
            systems: decision.blast_radius.systems,
            recipients: decision.blast_radius.recipients,
            drift: Some(decision.drift.as_ref().map_or(0.0, |drift| drift.score)),
            ..Facts::of(action, check.details(), decision.logged_at)
        };
        let matches = &mut self.matches;
        let judged = self.candidate.evaluate_each(&facts, &mut self.windows, |id| {
            if let Some(n) = usize::try_from(id).ok().and_then(|at| matches.get_mut(at)) {
                *n += 1;
            }
        });
        let report = &mut self.report;
        report.checked += 1;
        report.from.get_or_insert(decision.logged_at);
        report.to = Some(decision.logged_at);
        if judged.verdict == decision.verdict {
            return;
        }
        report.changed += 1;
        let change = format!("{}→{}", decision.verdict.as_str(), judged.verdict.as_str());
        *report.by_change.entry(change).or_default() += 1;
        if report.changes.len() < MAX_CHANGES {
            report.changes.push(Change {
                check_id: decision.id.clone(),
                at: decision.logged_at,
                agent: action.agent.to_string(),
                action: action.action.to_string(),
                resource: action.resource.to_string(),
                was: decision.verdict,
                would_be: judged.verdict,
                reason: judged.reason,
            });
        }
    }

    /// The report.
    pub fn finish(self) -> ReplayReport {
        let by_policy = self.candidate.policies().iter().map(|p| p.name.clone()).zip(self.matches).collect();
        ReplayReport { by_policy, ..self.report }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        action::{Action, Count},
        check::Check,
        decision::{Basis, BlastRadius, Decision, DriftVerdict},
        drift::{Channel, Severity, breaker},
        fingerprint::Fingerprint,
        policy::tests::{at, set, update},
    };
    use serde_json::json;

    fn recorded(id: u32, verdict: Verdict, records: Count, counted: Count) -> Checked {
        let action = Action { records, ..update() };
        let check =
            Check { action: Some("update".into()), payload: Some(json!({"amount": id})), ..Check::default() };
        Checked {
            key_id: "key_1".into(),
            fingerprint: Fingerprint::of(&check, &action.agent, None),
            decision: Decision {
                id: format!("chk_{id}"),
                verdict,
                reason: String::new(),
                policies: Vec::new(),
                category: action.category,
                environment: action.environment,
                blast_radius: BlastRadius {
                    records: counted,
                    systems: action.systems,
                    recipients: action.recipients,
                    basis: Basis::Counted,
                    understated: false,
                    declared: None,
                    by_resource: Vec::new(),
                },
                drift: None,
                breaker: breaker::State::Closed,
                approval_id: None,
                snapshot_id: None,
                logged_at: at(id.into()),
            },
            check,
            action,
            execution: None,
            probe: None,
        }
    }

    #[test]
    fn tells_what_would_have_changed() {
        let candidate = set(&json!([
            {"name": "big", "rule": "block", "condition": {"action": "update", "record_count_exceeds": 25}},
            {"name": "dear", "rule": "require_approval", "condition": {"action": "update", "when": "payload.amount == 4"}},
            {"name": "busy", "rule": "alert", "condition": {"rate_exceeds": {"count": 2, "period": "3s"}}},
            {"name": "never", "rule": "alert", "condition": {"action": "fly"}},
            {"name": "odd", "rule": "alert", "condition": {"drift_at_least": 5}},
        ]));
        let mut replay = Replay::new(candidate);
        replay.feed(&recorded(1, Verdict::Allow, Count::Known(1), Count::Known(26)));
        replay.feed(&recorded(2, Verdict::Hold, Count::Known(1), Count::Known(1)));
        replay.feed(&recorded(3, Verdict::Block, Count::Known(1), Count::Unknown));
        let mut odd = recorded(4, Verdict::Allow, Count::Known(1), Count::Known(1));
        odd.decision.drift = Some(Box::new(DriftVerdict {
            score: 5.5,
            severity: Severity::Notice,
            channel: Channel::Rate,
            reason: String::new(),
            expected: 1.0,
            seen: 9.0,
            agents: None,
        }));
        replay.feed(&odd);
        let report = replay.finish();
        assert_eq!((report.checked, report.changed), (4, 3));
        assert_eq!(json!(report.by_change), json!({"allow→block": 1, "hold→allow": 1, "allow→hold": 1}));
        assert_eq!(json!(report.by_policy), json!({"big": 2, "dear": 1, "busy": 2, "never": 0, "odd": 1}));
        let changed: Vec<_> =
            report.changes.iter().map(|c| (c.check_id.as_str(), c.was, c.would_be)).collect();
        assert_eq!(
            changed,
            [
                ("chk_1", Verdict::Allow, Verdict::Block),
                ("chk_2", Verdict::Hold, Verdict::Allow),
                ("chk_4", Verdict::Allow, Verdict::Hold)
            ]
        );
        assert!(report.changes[0].reason.starts_with("Blocked by big: "), "{}", report.changes[0].reason);
        assert_eq!((report.from, report.to), (Some(at(1)), Some(at(4))));
        assert!(report.notes[0].contains("odd"));
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<ReplayReport>(&text).unwrap(), report);
    }

    #[test]
    fn a_long_list_of_changes_is_cut_and_counted() {
        let mut replay = Replay::new(set(&json!([{"name": "all", "rule": "block", "condition": {}}])));
        for i in 0..1_200 {
            replay.feed(&recorded(i, Verdict::Allow, Count::Known(1), Count::Known(1)));
        }
        let report = replay.finish();
        assert_eq!((report.changed, report.changes.len()), (1_200, MAX_CHANGES));
    }
}
