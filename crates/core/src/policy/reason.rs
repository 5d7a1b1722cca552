//! What is said to a person about a judgement.

use super::{
    Mode, Policy, Rule,
    condition::{Condition, Leaf, Truth},
    matcher::shown,
    schema::Spelling,
    set::Case,
    write::period_text,
};
use crate::{
    action::{Count, Effect},
    decision::Matched,
};
use std::fmt::{self, Write as _};

pub(super) const NOTHING_OBJECTS: &str = "Allowed; no policy objects to it.";
/// What a new server says.
pub(super) const NO_POLICIES: &str =
    "Allowed; no policies are in force yet. Put some into force with `checkrein policy apply FILE`.";

/// Phrases that one sentence holds at most.
const PHRASES: usize = 4;

/// Why `policy` matched on the effect at place `at`.
pub(super) fn of_policy(policy: &Policy, case: &Case<'_>, at: usize) -> String {
    let Some(effect) = case.effects().get(at) else { return String::new() };
    // The action under its own name, unless it does several things.
    let verb = match (case.effects(), effect.names.first()) {
        ([_, _, ..], Some(name)) => name,
        _ => &case.facts.action.action,
    };
    let mut text = String::with_capacity(128);
    for part in [&*shown(verb), " on ", &*shown(&effect.resource)] {
        text.push_str(part);
    }
    let spelling = if policy.rule == Rule::Allow { Spelling::Written } else { Spelling::Any };
    let mut sentence = Sentence { case, effect, spelling, placing: false, text, phrases: 0 };
    sentence.condition(&policy.condition);
    if let Some(rate) = policy.condition.rate {
        let period = period_text(rate.period_seconds);
        sentence.add(format_args!("is one more than {} within {period}", rate.count));
    }
    if sentence.phrases == 0 {
        sentence.placing = true;
        sentence.condition(&policy.condition);
    }
    if sentence.phrases == 0 {
        sentence.add(format_args!("is covered by this policy"));
    }
    sentence.text
}

/// The sentence of the whole judgement, from the policies that matched, the deciding one first.
pub(super) fn of_judgement(matched: &[Matched], unlisted: usize, approvals: u8) -> String {
    let counting = |m: &&Matched| m.mode == Mode::Enforce && m.exempted_by.is_none() && m.rule != Rule::Allow;
    let mut text = if let Some(Matched { name, rule, reason, .. }) = matched.iter().find(counting) {
        let people;
        let (before, after) = match rule {
            Rule::Block => ("Blocked by ", "."),
            Rule::RequireApproval if approvals > 1 => {
                people = format!(". {approvals} people must approve it.");
                ("Held by ", people.as_str())
            }
            Rule::RequireApproval => ("Held by ", ". A person must approve it."),
            Rule::Alert | Rule::Allow => ("Allowed with an alert from ", "."),
        };
        [before, name, ": ", reason, after].concat()
    } else if let Some((name, by)) = matched
        .iter()
        .filter(|m| m.mode == Mode::Enforce)
        .find_map(|m| Some((&m.name, m.exempted_by.as_ref()?)))
    {
        ["Allowed; ", by, " exempts it from ", name, "."].concat()
    } else {
        NOTHING_OBJECTS.to_owned()
    };
    if unlisted > 0 {
        let _infallible = write!(text, " {unlisted} more matching policies are not listed.");
    }
    text
}

struct Sentence<'a> {
    case: &'a Case<'a>,
    effect: &'a Effect,
    spelling: Spelling,
    /// Whether to say what merely places the action, which is done when nothing stronger could be said.
    placing: bool,
    text: String,
    phrases: usize,
}

impl Sentence<'_> {
    fn add(&mut self, phrase: fmt::Arguments<'_>) {
        if self.phrases < PHRASES {
            self.text.push_str(if self.phrases == 0 { " " } else { " and " });
            self.phrases += 1;
            let _infallible = self.text.write_fmt(phrase);
        }
    }

    fn condition(&mut self, condition: &Condition) {
        for leaf in &condition.leaves {
            let wanted = match leaf {
                Leaf::AllOf(_) | Leaf::AnyOf(_) => true,
                leaf => places(leaf) == self.placing,
            };
            // Enough is known to be said at some point; do not spend time on the rest.
            if wanted
                && self.phrases < PHRASES
                && leaf.truth(self.case, self.effect, self.spelling) != Truth::False
            {
                self.leaf(leaf);
            }
        }
    }

    fn leaf(&mut self, leaf: &Leaf) {
        let facts = self.case.facts;
        let action = facts.action;
        match leaf {
            Leaf::Records(limit) => self.count("touches", facts.records, "record", *limit),
            Leaf::Systems(limit) => self.count("touches", facts.systems, "system", *limit),
            Leaf::Recipients(limit) => self.count("goes to", facts.recipients, "recipient", *limit),
            Leaf::PayloadBytes(limit) => {
                self.add(format_args!("carries {} bytes, over {limit}", action.payload_bytes));
            }
            Leaf::Drift(least) => match facts.drift {
                Some(score) => {
                    self.add(format_args!("has a drift score of {score:.1}, at least {least}"));
                }
                None => self.add(format_args!("has an unknown drift score")),
            },
            Leaf::DomainIn(hosts) => {
                self.domain(action.domains.known.iter().find(|d| hosts.contains(d)), "");
            }
            Leaf::DomainNotIn(hosts) => {
                self.domain(
                    action.domains.known.iter().find(|d| !hosts.contains(d)),
                    ", which is not in the list",
                );
            }
            Leaf::When(when) => match (when.run(self.case), shown(when.source())) {
                (Ok(_), source) => self.add(format_args!("fulfils `{source}`")),
                (Err(error), source) => {
                    self.add(format_args!("cannot be judged by `{source}` ({error})"));
                }
            },
            Leaf::Resource(p) => {
                let resource = &self.effect.resource;
                if let Some(pattern) = p.matching_resource(resource, self.spelling) {
                    self.add(format_args!("matches `{}`", shown(pattern)));
                } else if let Some(pattern) = p.open_match(resource) {
                    self.add(format_args!("may touch `{}`", shown(pattern)));
                }
            }
            Leaf::Environment(_) => self.add(format_args!("is in {}", self.effect.environment.as_str())),
            Leaf::Category(_) => self.add(format_args!("is a {} action", self.effect.category.as_str())),
            Leaf::Agent(_) => self.add(format_args!("comes from {}", shown(&action.agent))),
            Leaf::Tool(_) => {
                if let Some(tool) = &action.tool {
                    self.add(format_args!("uses the tool {}", shown(tool)));
                }
            }
            // The action is the subject of the sentence; what does not hold says little.
            Leaf::Action(_) | Leaf::Not(_) => {}
            Leaf::AllOf(list) => list.iter().for_each(|c| self.condition(c)),
            Leaf::AnyOf(list) => {
                let truth = |c: &&Condition| c.truth(self.case, self.effect, self.spelling);
                let certain = list.iter().find(|c| truth(c) == Truth::True);
                if let Some(c) = certain.or_else(|| list.iter().find(|c| truth(c) != Truth::False)) {
                    self.condition(c);
                }
            }
        }
    }

    fn domain(&mut self, found: Option<&crate::name::Name>, why: &str) {
        match found {
            Some(host) => self.add(format_args!("reaches {}{why}", shown(host))),
            None => self.add(format_args!("reaches an address that could not be understood")),
        }
    }

    fn count(&mut self, verb: &str, count: Count, thing: &str, limit: u64) {
        match count {
            Count::Known(n) => {
                let plural = if n == 1 { "" } else { "s" };
                self.add(format_args!("{verb} {n} {thing}{plural}, over {limit}"));
            }
            Count::Unknown => self.add(format_args!(
                "{verb} an unknown number of {thing}s (treated as too many), over {limit}"
            )),
        }
    }
}

/// Whether a part says where and by whom, rather than what is too much.
const fn places(leaf: &Leaf) -> bool {
    matches!(
        leaf,
        Leaf::Category(_)
            | Leaf::Environment(_)
            | Leaf::Agent(_)
            | Leaf::Tool(_)
            | Leaf::Action(_)
            | Leaf::Resource(_)
            | Leaf::Not(_)
    )
}
