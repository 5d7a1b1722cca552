//! Whether an action stays within what somebody named beforehand.

use super::{
    condition::{Leaf, Truth},
    matcher::Patterns,
    schema::Spelling,
    set::{Case, Facts},
};
use crate::name::{Name, Pattern};

/// Whether everything that an action does is done by `agent`, is called `action` and is on `resource`, beyond
/// doubt: what lets an action pass is compared as an `allow` policy is.
pub fn within(agent: &Name, action: &Pattern, resource: &Pattern, facts: &Facts<'_>) -> bool {
    if facts.action.agent != *agent {
        return false;
    }
    let one = |pattern: &Pattern| Patterns::new(vec![pattern.clone()]);
    let parts = [Leaf::Action(one(action)), Leaf::Resource(one(resource))];
    let case = Case::new(facts);
    let certain = |effect| parts.iter().all(|p| p.truth(&case, effect, Spelling::Written) == Truth::True);
    case.effects().iter().all(certain)
}
