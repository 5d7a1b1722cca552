//! A compiled set of policies, and how it judges.

use super::{
    Mode, OnUnknown, Policy, Problem, Rule,
    cel::Inputs,
    condition::{Leaf, Rate, Truth},
    index::Index,
    matcher::nearest,
    reason,
    schema::Spelling,
    windows::{WindowKey, Windows},
};
use crate::{
    action::{Action, Count, Effect},
    decision::{Matched, Verdict},
    json,
    time::Timestamp,
};
use foldhash::{HashMap, HashSet};
use serde_json::Value;
use sha2::{Digest, Sha256};
use smallvec::SmallVec;

/// Policies that a [`Judgement`] lists at most; those that decided come first.
pub const MAX_MATCHED: usize = 32;

/// What is known about an action when it is judged.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The action.
    pub action: &'a Action,
    /// Records affected: the largest number that any basis gives.
    pub records: Count,
    /// Targets and hosts touched.
    pub systems: Count,
    /// Addressees of what is sent.
    pub recipients: Count,
    /// How far the action departs from what its agent normally does; `None` when that is not known.
    pub drift: Option<f64>,
    /// What the check carried, for `when`.
    pub payload: Option<&'a Value>,
    /// Checkrein's own time.
    pub now: Timestamp,
}

impl<'a> Facts<'a> {
    /// What the action itself tells; drift is not known.
    pub const fn of(action: &'a Action, payload: Option<&'a Value>, now: Timestamp) -> Self {
        Self {
            records: action.records,
            systems: action.systems,
            recipients: action.recipients,
            drift: None,
            action,
            payload,
            now,
        }
    }
}

/// What a set of policies makes of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Whether it may run.
    pub verdict: Verdict,
    /// One sentence for a person.
    pub reason: String,
    /// The policies that matched, those that decided first; at most [`MAX_MATCHED`].
    pub matched: Vec<Matched>,
    /// How many more matched than are listed; the reason tells it too.
    pub unlisted: usize,
    /// How many people must approve: the most that an enforced policy asks for. 0 when none asks for any.
    pub approvals: u8,
}

/// What the policies of a set read beyond the action itself, so that only that is gathered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The policies that read drift (`drift_at_least`, or `drift` in `when`).
    pub drift: Vec<String>,
    /// Some policy reads the payload.
    pub payload: bool,
    /// Some policy reads how many records are affected.
    pub records: bool,
    /// Some policy reads how many systems are touched.
    pub systems: bool,
    /// Some policy reads how many recipients there are.
    pub recipients: bool,
    /// The longest period of a `rate_exceeds`, in seconds: how far back the log is read with
    /// [`PolicySet::observe`] after a restart.
    pub rate_period_seconds: Option<u32>,
}

/// An action with what its evaluation shares: inputs of `when` are prepared once, and only if one asks.
pub(super) struct Case<'a> {
    pub(super) facts: &'a Facts<'a>,
    pub(super) inputs: Inputs<'a>,
    /// The effect of an action that lists none, so that no action escapes for want of one.
    stand_in: Option<Effect>,
}

impl<'a> Case<'a> {
    pub(super) fn new(facts: &'a Facts<'a>) -> Self {
        let action = facts.action;
        let stand_in = action.effects.is_empty().then(|| Effect {
            names: [action.action.clone()].into_iter().collect(),
            category: action.category,
            resource: action.resource.clone(),
            environment: action.environment,
        });
        Self { facts, inputs: Inputs::new(facts), stand_in }
    }

    pub(super) fn effects(&self) -> &[Effect] {
        self.stand_in.as_ref().map_or(&self.facts.action.effects, std::slice::from_ref)
    }
}

/// A policy that matched, before anything is said about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hit {
    pub(super) policy: u32,
    /// The effect that it matched on.
    pub(super) effect: usize,
}

/// A compiled set of policies: immutable, shared between threads behind an `Arc`, replaced as a whole.
#[derive(Debug, Default)]
pub struct PolicySet {
    /// By name.
    policies: Vec<Policy>,
    index: Index,
    /// For policies with a rate.
    pub(super) rates: HashMap<u32, WindowKey>,
    /// For policies with `except`: the allow policies.
    exceptions: HashMap<u32, Box<[u32]>>,
    needs: Needs,
}

impl PolicySet {
    /// Compiles a whole set. The order of `policies` does not matter.
    ///
    /// # Errors
    /// Every problem of the set: names used twice, exceptions that name no allow policy.
    pub fn compile(mut policies: Vec<Policy>) -> Result<Self, Vec<Problem>> {
        policies.sort_by(|a, b| a.name.cmp(&b.name));
        policies.shrink_to_fit();
        let mut problems = Vec::new();
        let mut problem = |policy: &Policy, path: &str, message: String| {
            problems.push(Problem { policy: policy.name.clone(), path: path.to_owned(), message });
        };
        for pair in policies.chunk_by(|a, b| a.name == b.name) {
            if let [first, _, ..] = pair {
                problem(first, "name", format!("{} policies have this name; rename all but one", pair.len()));
            }
        }
        let mut set = Self { needs: needs(&policies), ..Self::default() };
        let find = |name: &str| policies.binary_search_by(|p| p.name.as_str().cmp(name)).ok();
        for (policy, id) in policies.iter().zip(0_u32..) {
            if policy.condition.rate.is_some() {
                set.rates.insert(id, window_key(policy));
            }
            let mut allows = Vec::with_capacity(policy.except.len());
            for (i, name) in policy.except.iter().enumerate() {
                let path = format!("except[{i}]");
                match find(name).and_then(|at| Some((u32::try_from(at).ok()?, policies.get(at)?))) {
                    Some((at, Policy { rule: Rule::Allow, .. })) => allows.push(at),
                    Some((_, other)) => problem(
                        policy,
                        &path,
                        format!(
                            "`{name}` is a {} policy; an exception must be an allow policy",
                            other.rule.as_str()
                        ),
                    ),
                    None => {
                        let known: Vec<&str> = policies
                            .iter()
                            .filter(|p| p.rule == Rule::Allow)
                            .map(|p| p.name.as_str())
                            .collect();
                        let hint = nearest(name, &known).map_or_else(
                            || "add it, or remove it here".to_owned(),
                            |meant| format!("did you mean `{meant}`?"),
                        );
                        problem(policy, &path, format!("there is no allow policy `{name}`; {hint}"));
                    }
                }
            }
            if !allows.is_empty() {
                set.exceptions.insert(id, allows.into());
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        set.index = Index::new(&policies);
        set.policies = policies;
        Ok(set)
    }

    /// The policies, by name.
    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }

    /// What they read.
    pub const fn needs(&self) -> &Needs {
        &self.needs
    }

    /// Judges an action, and counts it in the rates that it takes part in.
    pub fn evaluate(&self, facts: &Facts<'_>, windows: &mut Windows) -> Judgement {
        self.evaluate_each(facts, windows, |_| {})
    }

    /// As [`PolicySet::evaluate`]; tells every policy that matched, listed or not, by its place in
    /// [`PolicySet::policies`].
    pub(super) fn evaluate_each(
        &self,
        facts: &Facts<'_>,
        windows: &mut Windows,
        matched: impl FnMut(u32),
    ) -> Judgement {
        let case = Case::new(facts);
        let mut hits = self.hits(&case);
        hits.retain(|hit| self.rate(hit.policy, facts, windows) != Some(false));
        hits.iter().map(|hit| hit.policy).for_each(matched);
        self.judge(&case, &hits)
    }

    /// Counts an action in the rates that it takes part in, without judging it: to warm `windows` from the
    /// log, oldest first, after a restart.
    pub fn observe(&self, facts: &Facts<'_>, windows: &mut Windows) {
        if self.rates.is_empty() {
            return;
        }
        let case = Case::new(facts);
        for hit in self.hits(&case) {
            self.rate(hit.policy, facts, windows);
        }
    }

    /// Whether the number of records could change what some policy makes of the action: one reads it, and
    /// nothing else in its condition rules it out.
    pub fn turns_on_records(&self, facts: &Facts<'_>) -> bool {
        if !self.needs.records {
            return false;
        }
        let facts = Facts { records: Count::Unknown, ..*facts };
        let case = Case::new(&facts);
        let mut found = false;
        for effect in case.effects() {
            self.index.candidates(facts.action, effect, facts.records, |id| {
                found = found
                    || self.policy(id).is_some_and(|policy| {
                        reads_records(policy)
                            && policy.condition.truth(&case, effect, Spelling::Any) != Truth::False
                    });
            });
        }
        found
    }

    /// Every policy whose condition, the rate aside, holds: by id, each once.
    pub(super) fn hits(&self, case: &Case<'_>) -> SmallVec<[Hit; 8]> {
        let mut hits = SmallVec::<[Hit; 8]>::new();
        for (at, effect) in case.effects().iter().enumerate() {
            self.index.candidates(case.facts.action, effect, case.facts.records, |id| {
                if let Some(policy) = self.policy(id) {
                    let holds = match policy.rule {
                        // Every effect must be covered, so the first one's candidates are all there can be.
                        Rule::Allow => at == 0 && covers(policy, case),
                        _ => resolve(policy, policy.condition.truth(case, effect, Spelling::Any)),
                    };
                    if holds {
                        hits.push(Hit { policy: id, effect: at });
                    }
                }
            });
        }
        if hits.len() > 1 {
            hits.sort_unstable_by_key(|h| (h.policy, h.effect));
            hits.dedup_by_key(|h| h.policy);
        }
        hits
    }

    /// Counts the action for the policy's rate; whether it lets the policy match. `None` without a rate.
    fn rate(&self, id: u32, facts: &Facts<'_>, windows: &mut Windows) -> Option<bool> {
        if self.rates.is_empty() {
            return None;
        }
        let key = self.rates.get(&id)?;
        let policy = self.policy(id)?;
        let rate: Rate = policy.condition.rate?;
        Some(resolve(policy, windows.count(key, rate, &facts.action.agent, facts.now)))
    }

    fn judge(&self, case: &Case<'_>, hits: &[Hit]) -> Judgement {
        if hits.is_empty() {
            return Judgement {
                verdict: Verdict::Allow,
                reason: if self.policies.is_empty() { reason::NO_POLICIES } else { reason::NOTHING_OBJECTS }
                    .to_owned(),
                matched: Vec::new(),
                unlisted: 0,
                approvals: 0,
            };
        }
        let mut ranked: SmallVec<[Ranked<'_>; 4]> = hits
            .iter()
            .filter_map(|hit| {
                let policy = self.policy(hit.policy)?;
                let exempted_by = self.exemption(hit.policy, case);
                Some(Ranked { policy, hit: *hit, exempted_by })
            })
            .collect();
        // Stable, so that policies of one rank stay in the order of their names.
        ranked.sort_by_key(Ranked::rank);
        let verdict = match ranked.first() {
            Some(first) if first.counts() => match first.policy.rule {
                Rule::Block => Verdict::Block,
                Rule::RequireApproval => Verdict::Hold,
                Rule::Alert | Rule::Allow => Verdict::Allow,
            },
            _ => Verdict::Allow,
        };
        let asks = |r: &&Ranked<'_>| r.counts() && r.policy.rule == Rule::RequireApproval;
        let approvals = ranked.iter().filter(asks).map(|r| r.policy.approvals).max().unwrap_or(0);
        let unlisted = ranked.len().saturating_sub(MAX_MATCHED);
        let matched: Vec<Matched> = ranked
            .iter()
            .take(MAX_MATCHED)
            .map(|r| Matched {
                name: r.policy.name.clone(),
                rule: r.policy.rule,
                mode: r.policy.mode,
                reason: reason::of_policy(r.policy, case, r.hit.effect),
                exempted_by: r.exempted_by.map(|p| p.name.clone()),
            })
            .collect();
        let reason = reason::of_judgement(&matched, unlisted, approvals);
        Judgement { verdict, reason, matched, unlisted, approvals }
    }

    /// The enforced allow policy, named in the policy's `except`, that covers the whole action.
    fn exemption(&self, id: u32, case: &Case<'_>) -> Option<&Policy> {
        if self.exceptions.is_empty() {
            return None;
        }
        self.exceptions
            .get(&id)?
            .iter()
            .filter_map(|allow| self.policy(*allow))
            .find(|allow| allow.mode == Mode::Enforce && covers(allow, case))
    }

    #[cfg(test)]
    pub(super) fn candidates(
        &self,
        action: &Action,
        effect: &Effect,
        records: Count,
        visit: impl FnMut(u32),
    ) {
        self.index.candidates(action, effect, records, visit);
    }

    pub(super) fn policy(&self, id: u32) -> Option<&Policy> {
        self.policies.get(usize::try_from(id).ok()?)
    }
}

struct Ranked<'a> {
    policy: &'a Policy,
    hit: Hit,
    exempted_by: Option<&'a Policy>,
}

impl Ranked<'_> {
    fn counts(&self) -> bool {
        self.policy.mode == Mode::Enforce && self.exempted_by.is_none()
    }

    /// Those that count first, the strictest of them foremost; then the exempted; then the shadows.
    fn rank(&self) -> (bool, bool, std::cmp::Reverse<Rule>) {
        (self.policy.mode == Mode::Shadow, self.exempted_by.is_some(), std::cmp::Reverse(self.policy.rule))
    }
}

/// Whether a policy matches, given what its condition says.
pub(super) fn resolve(policy: &Policy, truth: Truth) -> bool {
    match truth {
        Truth::True => true,
        Truth::False => false,
        Truth::Unknown => policy.on_unknown == OnUnknown::Match,
        // What stops an action must not fail open, whatever the policy says about the unknown.
        Truth::Error => {
            policy.on_unknown == OnUnknown::Match
                || matches!(policy.rule, Rule::Block | Rule::RequireApproval)
        }
    }
}

/// Whether an allow policy holds, beyond doubt, of everything that the action does.
fn covers(policy: &Policy, case: &Case<'_>) -> bool {
    let certain = |effect| policy.condition.truth(case, effect, Spelling::Written) == Truth::True;
    case.effects().iter().all(certain)
}

/// A digest of what a policy counts: its name, its condition and how it takes the unknown. Mode and
/// description may change without losing the count.
fn window_key(policy: &Policy) -> WindowKey {
    let counted = Value::Array(vec![
        policy.name.as_str().into(),
        policy.condition.to_value(),
        (policy.on_unknown == OnUnknown::Match).into(),
        matches!(policy.rule, Rule::Block | Rule::RequireApproval).into(),
    ]);
    let mut bytes = Vec::with_capacity(256);
    json::write_canonical(&counted, &mut bytes);
    let digest: [u8; 32] = Sha256::digest(&bytes).into();
    let mut key = WindowKey::default();
    key.iter_mut().zip(digest).for_each(|(k, d)| *k = d);
    key
}

fn reads_records(policy: &Policy) -> bool {
    let mut reads = false;
    policy.condition.each_leaf(&mut |leaf| {
        reads |= match leaf {
            Leaf::Records(_) => true,
            Leaf::When(when) => when.reads("records"),
            _ => false,
        };
    });
    reads
}

fn needs(policies: &[Policy]) -> Needs {
    let mut needs = Needs::default();
    let mut drift = HashSet::default();
    for policy in policies {
        policy.condition.each_leaf(&mut |leaf| match leaf {
            Leaf::Records(_) => needs.records = true,
            Leaf::Systems(_) => needs.systems = true,
            Leaf::Recipients(_) => needs.recipients = true,
            Leaf::Drift(_) => {
                drift.insert(policy.name.as_str());
            }
            Leaf::When(when) => {
                needs.records |= when.reads("records");
                needs.systems |= when.reads("systems");
                needs.recipients |= when.reads("recipients");
                needs.payload |= when.reads("payload");
                if when.reads("drift") {
                    drift.insert(policy.name.as_str());
                }
            }
            _ => {}
        });
        if let Some(rate) = policy.condition.rate {
            needs.rate_period_seconds = needs.rate_period_seconds.max(Some(rate.period_seconds));
        }
    }
    needs.drift = policies.iter().map(|p| p.name.clone()).filter(|n| drift.contains(n.as_str())).collect();
    needs
}
