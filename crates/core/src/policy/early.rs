//! What can be said before anything is counted.

use super::{
    Mode, Policy, PolicySet, Rule, Windows,
    condition::{Leaf, Truth},
    schema::Spelling,
    set::{Case, Facts, resolve},
};
use crate::action::Count;

impl PolicySet {
    /// Whether an enforced policy blocks the action however many records it turns out to touch. Counts
    /// nothing in `windows`.
    ///
    /// A policy that blocks only because the number is not known yet is no reason.
    pub fn blocks_uncounted(&self, facts: &Facts<'_>, windows: &Windows) -> bool {
        let facts = Facts { records: Count::Unknown, ..*facts };
        let case = Case::new(&facts);
        self.hits(&case).iter().any(|hit| {
            let Some(policy) = self.policy(hit.policy) else { return false };
            if policy.rule != Rule::Block || policy.mode != Mode::Enforce {
                return false;
            }
            if let (Some(key), Some(rate)) = (self.rates.get(&hit.policy), policy.condition.rate)
                && !resolve(policy, windows.would(key, rate, &facts.action.agent, facts.now))
            {
                return false;
            }
            match reads_records(policy) {
                Reads::No => true,
                // `hits` names one effect of several, and another may be the one that is certain.
                Reads::Compared => case
                    .effects()
                    .iter()
                    .any(|effect| policy.condition.truth(&case, effect, Spelling::Any) == Truth::True),
                Reads::Computed => false,
            }
        })
    }
}

/// What a policy's condition does with the number of records.
enum Reads {
    No,
    /// Compares it: the three values tell when it does not matter.
    Compared,
    /// Computes with it in `when`: what comes of the unknown says nothing.
    Computed,
}

fn reads_records(policy: &Policy) -> Reads {
    let mut reads = Reads::No;
    policy.condition.each_leaf(&mut |leaf| match leaf {
        Leaf::When(when) if when.reads("records") => reads = Reads::Computed,
        Leaf::Records(_) if matches!(reads, Reads::No) => reads = Reads::Compared,
        _ => {}
    });
    reads
}
