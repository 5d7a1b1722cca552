//! What is said to a person about a judgement.

use super::{
    Mode, Policy, Rule,
    condition::{Condition, Leaf, Truth},
    matcher::shown,
    parse::period_text,
    set::Case,
};
use crate::{
    action::{Count, Effect},
    decision::Matched,
};
use std::fmt::Write as _;

pub(super) const NOTHING_OBJECTS: &str = "Allowed; no policy objects.";

/// Phrases that one sentence holds at most.
const PHRASES: usize = 4;

/// Why `policy` matched on the effect at place `at`.
pub(super) fn of_policy(policy: &Policy, case: &Case<'_>, at: usize) -> String {
    let Some(effect) = case.effects().get(at) else { return String::new() };
    let mut phrases = Phrases { case, effect, strong: Vec::new(), weak: Vec::new() };
    phrases.condition(&policy.condition);
    if let Some(rate) = policy.condition.rate {
        let period = period_text(rate.period_seconds);
        phrases.strong.push(format!("is one more than {} within {period}", rate.count));
    }
    let mut said = if phrases.strong.is_empty() { phrases.weak } else { phrases.strong };
    if said.is_empty() {
        said.push("is covered by this policy".into());
    }
    said.truncate(PHRASES);
    // The action under its own name, unless it does several things.
    let verb = match (case.effects(), effect.names.first()) {
        ([_, _, ..], Some(name)) => name,
        _ => &case.facts.action.action,
    };
    format!("{} on {} {}", shown(verb), shown(&effect.resource), said.join(" and "))
}

/// The sentence of the whole judgement, from the policies that matched, the deciding one first.
pub(super) fn of_judgement(matched: &[Matched], unlisted: usize) -> String {
    let counting = |m: &&Matched| m.mode == Mode::Enforce && m.exempted_by.is_none() && m.rule != Rule::Allow;
    let mut text = String::new();
    let _infallible = if let Some(Matched { name, rule, reason, .. }) = matched.iter().find(counting) {
        match rule {
            Rule::Block => write!(text, "Blocked by {name}: {reason}."),
            Rule::RequireApproval => write!(text, "Held by {name}: {reason}. A person must approve it."),
            Rule::Alert | Rule::Allow => write!(text, "Allowed with an alert from {name}: {reason}."),
        }
    } else if let Some((name, by)) = matched
        .iter()
        .filter(|m| m.mode == Mode::Enforce)
        .find_map(|m| Some((&m.name, m.exempted_by.as_ref()?)))
    {
        write!(text, "Allowed; {by} exempts it from {name}.")
    } else {
        text.write_str(NOTHING_OBJECTS)
    };
    if unlisted > 0 {
        let _infallible = write!(text, " {unlisted} more matching policies are not listed.");
    }
    text
}

struct Phrases<'a> {
    case: &'a Case<'a>,
    effect: &'a Effect,
    /// What a limit or rule says.
    strong: Vec<String>,
    /// What merely places the action; said when there is nothing stronger.
    weak: Vec<String>,
}

impl Phrases<'_> {
    fn condition(&mut self, condition: &Condition) {
        for leaf in &condition.leaves {
            // Enough is known to be said; do not spend time on the rest.
            if self.strong.len() < PHRASES && leaf.truth(self.case, self.effect) != Truth::False {
                self.leaf(leaf);
            }
        }
    }

    fn leaf(&mut self, leaf: &Leaf) {
        let facts = self.case.facts;
        let action = facts.action;
        match leaf {
            Leaf::Records(limit) => self.strong.push(count("touches", facts.records, "record", *limit)),
            Leaf::Systems(limit) => self.strong.push(count("touches", facts.systems, "system", *limit)),
            Leaf::Recipients(limit) => {
                self.strong.push(count("goes to", facts.recipients, "recipient", *limit));
            }
            Leaf::PayloadBytes(limit) => {
                self.strong.push(format!("carries {} bytes, over {limit}", action.payload_bytes));
            }
            Leaf::Drift(least) => self.strong.push(match facts.drift {
                Some(score) => format!("has a drift score of {score:.1}, at least {least}"),
                None => "has an unknown drift score".into(),
            }),
            Leaf::DomainIn(hosts) => {
                self.domain(action.domains.known.iter().find(|d| hosts.contains(d)), "");
            }
            Leaf::DomainNotIn(hosts) => {
                self.domain(
                    action.domains.known.iter().find(|d| !hosts.contains(d)),
                    ", which is not in the list",
                );
            }
            Leaf::When(when) => self.strong.push(match when.run(self.case) {
                Ok(_) => format!("fulfils `{}`", shown(when.source())),
                Err(error) => format!("cannot be judged by `{}` ({error})", shown(when.source())),
            }),
            Leaf::Resource(p) => {
                if let Some(pattern) = p.matching(&self.effect.resource) {
                    self.weak.push(format!("matches `{}`", shown(pattern)));
                }
            }
            Leaf::Environment(_) => self.weak.push(format!("is in {}", self.effect.environment.as_str())),
            Leaf::Category(_) => self.weak.push(format!("is a {} action", self.effect.category.as_str())),
            Leaf::Agent(_) => self.weak.push(format!("comes from {}", shown(&action.agent))),
            Leaf::Tool(_) => {
                if let Some(tool) = &action.tool {
                    self.weak.push(format!("uses the tool {}", shown(tool)));
                }
            }
            // The action is the subject of the sentence; what does not hold says little.
            Leaf::Action(_) | Leaf::Not(_) => {}
            Leaf::AllOf(list) => list.iter().for_each(|c| self.condition(c)),
            Leaf::AnyOf(list) => {
                let truth = |c: &&Condition| c.truth(self.case, self.effect);
                let certain = list.iter().find(|c| truth(c) == Truth::True);
                if let Some(c) = certain.or_else(|| list.iter().find(|c| truth(c) != Truth::False)) {
                    self.condition(c);
                }
            }
        }
    }

    fn domain(&mut self, found: Option<&crate::name::Name>, why: &str) {
        self.strong.push(match found {
            Some(host) => format!("reaches {}{why}", shown(host)),
            None => "reaches an address that could not be understood".into(),
        });
    }
}

fn count(verb: &str, count: Count, thing: &str, limit: u64) -> String {
    match count {
        Count::Known(n) => format!("{verb} {n} {thing}{}, over {limit}", if n == 1 { "" } else { "s" }),
        Count::Unknown => format!("{verb} an unknown number of {thing}s (treated as too many), over {limit}"),
    }
}
