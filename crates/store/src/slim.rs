//! What a filter of checks looks at: a few fields of each check's body, read without copying.

use crate::read::CheckFilter;
use checkrein_core::{action::Category, decision::Verdict, name::Pattern};
use serde::Deserialize;
use std::borrow::Cow;

/// As much of a check's body as filters look at; see `checkrein_core::recorded` for what is left out.
#[derive(Deserialize)]
struct Slim<'a> {
    #[serde(borrow)]
    check: SlimCheck<'a>,
    #[serde(borrow)]
    action: SlimAction<'a>,
    decision: SlimDecision,
}

#[derive(Deserialize)]
struct SlimCheck<'a> {
    #[serde(borrow)]
    action: Option<Text<'a>>,
    #[serde(borrow)]
    tool: Option<Text<'a>>,
    #[serde(borrow)]
    resource: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct SlimAction<'a> {
    #[serde(borrow)]
    action: Option<Text<'a>>,
    #[serde(borrow)]
    resource: Option<Text<'a>>,
    #[serde(borrow)]
    effects: Option<Vec<SlimEffect<'a>>>,
}

#[derive(Default, Deserialize)]
struct SlimEffect<'a> {
    #[serde(borrow)]
    names: Option<Vec<Text<'a>>>,
    #[serde(borrow)]
    resource: Option<Text<'a>>,
}

/// Borrowed where the JSON has no escapes; `Cow` alone, inside a list, never borrows.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct SlimDecision {
    verdict: Verdict,
    category: Category,
}

impl Slim<'_> {
    /// Whether an effect has such a name.
    fn does(&self, action: &Pattern) -> bool {
        let own = self.action.action.as_ref().or(self.check.action.as_ref()).or(self.check.tool.as_ref());
        self.any_effect(|effect| match &effect.names {
            Some(names) => names.iter().any(|name| action.matches(&name.0)),
            None => own.is_some_and(|name| action.matches(&name.0)),
        })
    }

    /// Whether an effect is on such a resource.
    fn touches(&self, resource: &Pattern) -> bool {
        let own = self.action.resource.as_ref().or(self.check.resource.as_ref());
        self.any_effect(|effect| effect.resource.as_ref().or(own).is_some_and(|r| resource.matches(&r.0)))
    }

    fn any_effect(&self, is: impl Fn(&SlimEffect<'_>) -> bool) -> bool {
        match &self.action.effects {
            Some(effects) => effects.iter().any(is),
            None => is(&SlimEffect::default()),
        }
    }
}

impl CheckFilter {
    fn reads_body(&self) -> bool {
        self.verdict.is_some() || self.category.is_some() || self.action.is_some() || self.resource.is_some()
    }

    pub(crate) fn passes(&self, body: &str) -> Result<bool, serde_json::Error> {
        if !self.reads_body() {
            return Ok(true);
        }
        let slim: Slim<'_> = serde_json::from_str(body)?;
        Ok(self.verdict.is_none_or(|v| v == slim.decision.verdict)
            && self.category.is_none_or(|c| c == slim.decision.category)
            && self.action.as_ref().is_none_or(|p| slim.does(p))
            && self.resource.as_ref().is_none_or(|p| slim.touches(p)))
    }
}
