//! Conditions: what a policy asks of an action, and the three-valued answer.

use super::{
    cel::When,
    matcher::{Hosts, Patterns},
    schema::Spelling,
    set::{Case, Facts},
};
use crate::action::{Category, Count, Effect, Environment};

/// The answer of a condition. What nobody can know is `Unknown`; what could not be computed is `Error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Truth {
    False,
    Unknown,
    Error,
    True,
}

impl Truth {
    /// Both. One that is false settles it, whatever the other is.
    pub(super) const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::False, _) | (_, Self::False) => Self::False,
            (Self::True, t) | (t, Self::True) => t,
            (Self::Error, _) | (_, Self::Error) => Self::Error,
            (Self::Unknown, Self::Unknown) => Self::Unknown,
        }
    }

    /// Either. One that is true settles it.
    pub(super) const fn or(self, other: Self) -> Self {
        self.not().and(other.not()).not()
    }

    pub(super) const fn not(self) -> Self {
        match self {
            Self::False => Self::True,
            Self::True => Self::False,
            open => open,
        }
    }
}

impl From<bool> for Truth {
    fn from(b: bool) -> Self {
        if b { Self::True } else { Self::False }
    }
}

/// A condition of a policy: all of its parts must hold. One without parts holds of every action.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// Cheapest first, so that the dear ones are seldom asked.
    pub(super) leaves: Box<[Leaf]>,
    /// Only in the outermost condition.
    pub(super) rate: Option<Rate>,
}

/// More than `count` of an agent's actions within `period_seconds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) count: u32,
    pub(super) period_seconds: u32,
}

/// One part of a condition. In order of cost.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Leaf {
    Category(Box<[Category]>),
    Environment(Box<[Environment]>),
    Records(u64),
    Systems(u64),
    Recipients(u64),
    PayloadBytes(u64),
    Drift(f64),
    Agent(Patterns),
    Tool(Patterns),
    Action(Patterns),
    Resource(Patterns),
    DomainIn(Hosts),
    DomainNotIn(Hosts),
    Not(Box<Condition>),
    AllOf(Box<[Condition]>),
    AnyOf(Box<[Condition]>),
    When(When),
}

impl Condition {
    pub(super) fn new(mut leaves: Vec<Leaf>, rate: Option<Rate>) -> Self {
        leaves.sort_by_key(Leaf::cost);
        Self { leaves: leaves.into(), rate }
    }

    /// Whether everything but the rate holds of `effect`.
    pub(super) fn truth(&self, case: &Case<'_>, effect: &Effect, spelling: Spelling) -> Truth {
        let mut all = Truth::True;
        for leaf in &self.leaves {
            all = all.and(leaf.truth(case, effect, spelling));
            if all == Truth::False {
                break;
            }
        }
        all
    }

    /// Every part, those of nested conditions too.
    pub(super) fn each_leaf<'a>(&'a self, visit: &mut impl FnMut(&'a Leaf)) {
        for leaf in &self.leaves {
            visit(leaf);
            match leaf {
                Leaf::Not(c) => c.each_leaf(visit),
                Leaf::AllOf(list) | Leaf::AnyOf(list) => list.iter().for_each(|c| c.each_leaf(visit)),
                _ => {}
            }
        }
    }

    /// The parts that must hold whatever else does: those here and in `all_of`.
    pub(super) fn each_required<'a>(&'a self, visit: &mut impl FnMut(&'a Leaf)) {
        for leaf in &self.leaves {
            match leaf {
                Leaf::AllOf(list) => list.iter().for_each(|c| c.each_required(visit)),
                leaf => visit(leaf),
            }
        }
    }
}

impl Leaf {
    /// Rank in cost; also the canonical order, so each key has its own.
    const fn cost(&self) -> u8 {
        match self {
            Self::Category(_) => 0,
            Self::Environment(_) => 1,
            Self::Records(_) => 2,
            Self::Systems(_) => 3,
            Self::Recipients(_) => 4,
            Self::PayloadBytes(_) => 5,
            Self::Drift(_) => 6,
            Self::Agent(_) => 7,
            Self::Tool(_) => 8,
            Self::Action(_) => 9,
            Self::Resource(_) => 10,
            Self::DomainIn(_) => 11,
            Self::DomainNotIn(_) => 12,
            Self::Not(_) => 13,
            Self::AllOf(_) => 14,
            Self::AnyOf(_) => 15,
            Self::When(_) => 16,
        }
    }

    pub(super) fn truth(&self, case: &Case<'_>, effect: &Effect, spelling: Spelling) -> Truth {
        let Facts { action, .. } = case.facts;
        match self {
            Self::Category(list) => list.contains(&effect.category).into(),
            Self::Environment(list) => list.contains(&effect.environment).into(),
            Self::Records(limit) => over(case.facts.records, *limit),
            Self::Systems(limit) => over(case.facts.systems, *limit),
            Self::Recipients(limit) => over(case.facts.recipients, *limit),
            Self::PayloadBytes(limit) => (action.payload_bytes > *limit).into(),
            Self::Drift(least) => case.facts.drift.map_or(Truth::Unknown, |score| {
                // A score that is no number says nothing.
                if score.is_nan() { Truth::Unknown } else { (score >= *least).into() }
            }),
            Self::Agent(p) => p.matches(&action.agent).into(),
            Self::Tool(p) => action.tool.as_ref().is_some_and(|t| p.matches(t)).into(),
            Self::Action(p) => effect.names.iter().any(|n| p.matches(n)).into(),
            Self::Resource(p) => match p.matching_resource(&effect.resource, spelling) {
                Some(_) => Truth::True,
                None if p.open_match(&effect.resource).is_some() => Truth::Unknown,
                None => Truth::False,
            },
            Self::DomainIn(hosts) => {
                some_domain(action.domains.known.iter().any(|d| hosts.contains(d)), action.domains.unknown)
            }
            Self::DomainNotIn(hosts) => {
                some_domain(action.domains.known.iter().any(|d| !hosts.contains(d)), action.domains.unknown)
            }
            Self::Not(c) => c.truth(case, effect, spelling.negated()).not(),
            Self::AllOf(list) => list.iter().fold(Truth::True, |t, c| {
                if t == Truth::False { t } else { t.and(c.truth(case, effect, spelling)) }
            }),
            Self::AnyOf(list) => list.iter().fold(Truth::False, |t, c| {
                if t == Truth::True { t } else { t.or(c.truth(case, effect, spelling)) }
            }),
            Self::When(when) => when.truth(case),
        }
    }
}

fn over(count: Count, limit: u64) -> Truth {
    count.known().map_or(Truth::Unknown, |n| (n > limit).into())
}

fn some_domain(found: bool, more_unknown: bool) -> Truth {
    if found {
        Truth::True
    } else if more_unknown {
        Truth::Unknown
    } else {
        Truth::False
    }
}

#[cfg(test)]
mod tests {
    use super::Truth::{self, Error, False, True, Unknown};

    #[test]
    fn three_values_and_error() {
        for (a, b, and, or) in [
            (True, True, True, True),
            (True, False, False, True),
            (False, False, False, False),
            (True, Unknown, Unknown, True),
            (False, Unknown, False, Unknown),
            (Unknown, Unknown, Unknown, Unknown),
            (True, Error, Error, True),
            (False, Error, False, Error),
            (Unknown, Error, Error, Error),
        ] {
            for (a, b) in [(a, b), (b, a)] {
                assert_eq!(a.and(b), and, "{a:?} and {b:?}");
                assert_eq!(a.or(b), or, "{a:?} or {b:?}");
            }
        }
        assert_eq!([True, False, Unknown, Error].map(Truth::not), [False, True, Unknown, Error]);
    }
}
