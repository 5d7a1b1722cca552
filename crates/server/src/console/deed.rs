//! An action as pages show it: what the agent wants, what that touches, and what exactly it said.

use super::text::{self, Cut};
use checkrein_core::{
    action::{Category, Count, Environment},
    check::Check,
    decision::{Basis, BlastRadius},
    touched::How,
};

/// What an action is and what it touches.
pub(super) struct Deed {
    pub(super) agent: String,
    pub(super) action: String,
    pub(super) resource: String,
    pub(super) category: &'static str,
    pub(super) environment: &'static str,
    /// `10,000 records`.
    pub(super) records: String,
    /// How that number is known.
    pub(super) basis: &'static str,
    /// What the agent said that it would be, where that is another number: `the agent said 12`.
    pub(super) declared: Option<String>,
    pub(super) understated: bool,
    /// Other counts that say something.
    pub(super) besides: Vec<String>,
    pub(super) by_resource: Vec<Share>,
}

/// A resource's share.
pub(super) struct Share {
    pub(super) resource: String,
    pub(super) records: String,
    pub(super) how: &'static str,
}

impl Deed {
    pub(super) fn new(
        (agent, action, resource): (&str, &str, &str),
        category: Category,
        environment: Environment,
        blast: &BlastRadius,
    ) -> Self {
        let declared = blast.declared.filter(|n| blast.records != Count::Known(*n));
        let mut besides = Vec::new();
        match blast.systems {
            Count::Known(0 | 1) => {}
            Count::Known(n) => besides.push(format!("{} systems", text::number(n))),
            Count::Unknown => besides.push("an unknown number of systems".to_owned()),
        }
        match blast.recipients {
            Count::Known(0) => {}
            Count::Known(1) => besides.push("1 recipient".to_owned()),
            Count::Known(n) => besides.push(format!("{} recipients", text::number(n))),
            Count::Unknown => besides.push("an unknown number of recipients".to_owned()),
        }
        // What follows from it comes after what it does itself.
        let mut shares: Vec<_> = blast.by_resource.iter().collect();
        shares.sort_by_key(|share| matches!(share.how, Some(How::Cascade | How::Unlink)));
        Self {
            agent: agent.to_owned(),
            action: action.to_owned(),
            resource: resource.to_owned(),
            category: category.as_str(),
            environment: environment.as_str(),
            records: text::records(blast.records),
            basis: match blast.basis {
                Basis::Declared => "as the agent says; nobody counted",
                Basis::Counted => "counted in the target, cascades included",
                Basis::Measured => "measured in the transaction",
            },
            declared: declared.map(text::number).map(|n| match blast.declared_ids {
                true => format!("the agent named {n}"),
                false => format!("the agent said {n}"),
            }),
            understated: blast.understated,
            besides,
            by_resource: shares
                .into_iter()
                .map(|share| Share {
                    resource: share.resource.to_string(),
                    records: text::count(share.records),
                    how: share.how.map_or("", |how| how.as_str()),
                })
                .collect(),
        }
    }
}

/// A part of what was asked.
pub(super) struct Part {
    pub(super) label: &'static str,
    pub(super) content: Cut,
}

/// The beginning of a statement, for where there is room for two lines. All of it is further down.
pub(super) fn gist(statement: &str) -> String {
    const MAX: usize = 160;
    let mut whole = statement.trim().chars();
    let gist: String = whole.by_ref().take(MAX).collect();
    if whole.next().is_some() { format!("{gist}… (more below)") } else { gist }
}

/// What was asked, part by part, as it was sent.
pub(super) fn parts(check: &Check) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut add = |label, content| parts.push(Part { label, content });
    if let Some(statement) = &check.statement {
        add("Statement", Cut::of(statement.clone()));
    }
    for (label, value) in
        [("Parameters", &check.params), ("Payload", &check.payload), ("Arguments", &check.arguments)]
    {
        if let Some(value) = value {
            add(label, Cut::json(value));
        }
    }
    if let Some(filter) = &check.filter {
        add("Where", Cut::json(&serde_json::Value::Object(filter.clone())));
    }
    if let Some(ids) = &check.record_ids {
        let list = ids.iter().map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned));
        add("Records", Cut::of(list.collect::<Vec<_>>().join(", ")));
    }
    parts
}
