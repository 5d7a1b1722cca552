//! Asks a target what an action would touch, before it is judged.

use super::{App, Connected, Rules};
use checkrein_core::{
    action::{Action, Category, Count},
    check::Check,
    classify::{Refused, Understood},
    decision::{Basis, BlastRadius},
    policy::Facts,
    time::Timestamp,
    touched::{Found, How, Touched},
};
use checkrein_targets::{Affected, Counted, Error, Kind, Selection, Statement};
use serde_json::Value;
use std::{fmt::Write as _, sync::Arc, time::Instant};

/// Characters of a target's own words that are repeated.
const MAX_WORDS: usize = 300;
/// Sentences of one sort that are repeated.
const MAX_SENTENCES: usize = 3;

/// An action as it is judged, after the target was asked where one can be.
pub(super) struct Known {
    pub(super) action: Action,
    pub(super) blast_radius: BlastRadius,
    /// What a person should know about the count: sentences, each after a blank.
    pub(super) notes: String,
    /// What of it a snapshot could be taken of.
    pub(super) undoable: Option<Undoable>,
}

/// Records on a connected target that an action changes or removes.
#[derive(Clone)]
pub(super) struct Undoable {
    pub(super) target: Arc<Connected>,
    pub(super) selection: Selection,
    /// How many, cascades included, where that could be counted.
    pub(super) records: Option<u64>,
}

/// What can be asked about an action, and whom.
pub(super) struct Question {
    pub(super) target: Arc<Connected>,
    /// Why it cannot be asked in the end, where it should be.
    pub(super) what: Result<Selection, &'static str>,
}

impl App {
    /// Counts what an action on a connected target would touch, if it changes something there or a policy
    /// turns on the number. Without an answer the number is unknown.
    ///
    /// # Errors
    /// When it touches more tables than can be judged.
    pub(super) async fn known(
        &self,
        rules: &Rules,
        understood: Understood<'_>,
        check: &Check,
    ) -> Result<Known, Refused> {
        let question = if rules.targets.is_empty() { None } else { question(rules, &understood, check) };
        let Understood { mut action, countable, .. } = understood;
        let Some(Question { target, what }) = question else {
            let blast_radius = BlastRadius::of(&action, None);
            return Ok(Known { action, blast_radius, notes: String::new(), undoable: None });
        };
        let answer = match &what {
            Ok(what) => self.count(&target, what).await,
            Err(why) => Err((*why).to_owned()),
        };
        // Records that are named by their keys are only looked at by an action that only looks.
        let only_read = action.category == Category::Read && !matches!(what, Ok(Selection::Statements(_)));
        let answer = answer.and_then(|counted| found(&target, counted, only_read, countable));
        let (found, notes) = match answer {
            Ok((found, notes)) => {
                action.affect(&found)?;
                (Some(found), notes)
            }
            Err(why) => {
                // Nor is it known what would go or change with them.
                action.affect_unknown(&target.name, target.environment)?;
                (None, format!(" Its records could not be counted: {why}."))
            }
        };
        if action.records == Count::Unknown {
            self.metrics().counts_unknown.inc();
        }
        let blast_radius = BlastRadius::of(&action, found.as_ref());
        let notes = match found.as_ref().and_then(|found| blast_radius.comparison(found)) {
            Some(said) => format!(" {said}{notes}"),
            None => notes,
        };
        let changes = matches!(action.category, Category::Write | Category::Delete);
        let records = found.as_ref().filter(|found| found.whole).map(Found::records);
        let undoable = what.ok().filter(|_| changes).map(|selection| Undoable { target, selection, records });
        Ok(Known { action, blast_radius, notes, undoable })
    }

    async fn count(&self, target: &Connected, what: &Selection) -> Result<Counted, String> {
        let limits = target.limits();
        let started = Instant::now();
        // The target keeps its own limits. This one is for a target that does not.
        let bound = limits.connect.saturating_add(limits.count).saturating_add(limits.lock);
        let counted = match tokio::time::timeout(bound, target.target.count(what)).await {
            Ok(counted) => counted,
            Err(_) => Err(Error::TimedOut { what: "counting", limit: bound }),
        };
        self.metrics().counts.observe(started.elapsed().as_secs_f64());
        counted.map_err(|error| {
            let why = words(&error.to_string());
            // What an agent wrote may be wrong as often as it likes; what is wrong with the target must be known.
            match error {
                Error::Invalid(_) | Error::Statement { .. } | Error::Unmeasurable(_) | Error::TooLarge(_) => {
                    tracing::debug!(on = %target.name, %why, "an action could not be counted");
                }
                _ => tracing::warn!(on = %target.name, %why, "a target could not count"),
            }
            why
        })
    }
}

/// What can be asked about an action, if it concerns a connected target.
pub(super) fn question(rules: &Rules, understood: &Understood<'_>, check: &Check) -> Option<Question> {
    let Understood { action, sql, database, .. } = understood;
    let changes = action.effects.iter().any(|e| !matches!(e.category, Category::Read | Category::Outbound));
    let (target, what) = if sql.is_empty() {
        let (target, path) = rules.targets.of(check.resource.as_deref()?)?;
        // What may do anything may delete, too.
        let deletes = action
            .effects
            .iter()
            .any(|e| matches!(e.category, Category::Delete | Category::Execute | Category::Admin));
        (target, records(check, path, target.kind(), deletes)?)
    } else {
        let (target, path) = rules.targets.of(database.as_deref()?)?;
        if !path.is_empty() {
            return None;
        }
        (target, statements(sql, check.params.as_ref()))
    };
    // What time it is plays no part in whether a number is read.
    let asked =
        changes || rules.policies.turns_on_records(&Facts::of(action, check.details(), Timestamp::default()));
    asked.then(|| Question { target: Arc::clone(target), what })
}

/// The records that the check itself names, if it names any.
fn records(check: &Check, path: &str, kind: Kind, delete: bool) -> Option<Result<Selection, &'static str>> {
    let resource = path.to_owned();
    let selection = match (&check.record_ids, &check.filter) {
        (Some(ids), _) => Selection::Records { resource, ids: ids.clone(), delete },
        (None, Some(filter)) => Selection::Where { resource, filter: filter.clone(), delete },
        (None, None) => return None,
    };
    if path.is_empty() && kind != Kind::Files {
        return Some(Err("its resource names no table of the target"));
    }
    Some(Ok(selection))
}

fn statements(sql: &[&str], params: Option<&Value>) -> Result<Selection, &'static str> {
    let params = match params {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(params)) => params.clone(),
        Some(_) => return Err("`params` is no list; send the statement's parameters as a list, in order"),
    };
    if sql.len() > 1 && !params.is_empty() {
        return Err("it holds several statements, and nothing says whose parameters `params` are");
    }
    Ok(Selection::Statements(
        sql.iter().map(|text| Statement { sql: (*text).to_owned(), params: params.clone() }).collect(),
    ))
}

/// A count in the words of the action, and what else should be said about it.
fn found(
    target: &Connected,
    counted: Counted,
    only_read: bool,
    countable: bool,
) -> Result<(Found, String), String> {
    let touched = counted.affected.into_iter().map(|Affected { resource, how, records }| {
        let resource =
            target.resource(&resource).map_err(|e| format!("a table has a name that is none: {e}"))?;
        Ok(Touched { resource, how: if only_read { How::Read } else { how }, records })
    });
    let found = Found {
        basis: Basis::Counted,
        environment: target.environment,
        touched: touched.collect::<Result<_, String>>()?,
        whole: countable && counted.at_least.is_empty(),
    };
    let mut notes = String::new();
    for (before, sentences) in [
        (" It may be more than was counted: ", &counted.at_least),
        (" The database would refuse it as it stands: ", &counted.refusals),
    ] {
        for sentence in sentences.iter().take(MAX_SENTENCES) {
            let _infallible = write!(notes, "{before}{}.", words(sentence));
        }
    }
    Ok((found, notes))
}

/// A target's words, which may repeat what an agent wrote, as part of a sentence.
pub(super) fn words(text: &str) -> String {
    let mut words: String = text.chars().take(MAX_WORDS).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_WORDS).is_some() {
        words.push('…');
    }
    words.truncate(words.trim_end_matches(['.', ' ']).len());
    words
}
