//! Some of the records that a held action would touch, for the person who is asked about it.
//!
//! They are read from the target when somebody looks and kept nowhere: the log never forgets, and records are
//! often about people. For the same reason it is on record who looked, and at how many.

use super::{App, Caller, Connected, Error, Rules, counts, shelf};
use checkrein_api::{SampleView, SampledResource};
use checkrein_core::{
    approval::Approval,
    event::{Checked, Event},
    key::Role,
    redact::{REDACTED, Redactor},
};
use checkrein_targets::{SAMPLE_CHARS, Sampled, Selection, Statement};
use serde_json::{Map, Value};
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// Records that are shown of one resource.
const ROWS: usize = 10;
/// Resources that are shown.
const RESOURCES: usize = 10;
/// Characters of a value that are shown.
const CHARS: usize = 200;
/// Bytes of all values together, beyond which no further record is shown.
const BYTES: usize = 64 << 10;
/// Samples that are read at once, of all targets: people look, they do not work through them.
const AT_ONCE: usize = 4;

/// What it takes to show records.
pub(super) struct Samples {
    turns: Semaphore,
    redactor: Arc<Redactor>,
}

impl Samples {
    pub(super) const fn new(redactor: Arc<Redactor>) -> Self {
        Self { turns: Semaphore::const_new(AT_ONCE), redactor }
    }
}

impl App {
    /// Some of the records that the action of an open approval would touch if it ran now, without secrets.
    /// Waits no longer than `patience`, nor than a count may take.
    ///
    /// # Errors
    /// When the caller is an agent, nobody is asked any more, its records cannot be told or are not to be shown,
    /// when the target does not answer in time, and when the look cannot be put on record.
    pub async fn sample_approval(
        &self,
        caller: &Caller,
        id: &str,
        patience: Duration,
    ) -> Result<SampleView, Error> {
        caller.require(Role::Operator)?;
        caller.within_limit()?;
        let approval = self.store.approval(id).await?;
        let approval = approval.ok_or_else(|| Error::NotFound("approval", id.chars().take(64).collect()))?;
        if !approval.open() || self.clock.now() >= approval.expires_at {
            return Err(Error::Conflict("nobody is asked about this action any more".to_owned()));
        }
        let checked = self.store.check(&approval.check_id).await?.map(|row| row.checked);
        let (target, what) = self.meant(&self.rules(), &approval, checked.as_ref())?;
        if !target.sample {
            return Err(Error::Unsupported(format!(
                "the records of {} are shown to nobody here: it is configured with `sample = false`",
                target.name
            )));
        }
        let read = async {
            // First its own, so that those who wait for a slow target keep nobody from another.
            let _own = target.sampling.acquire().await.map_err(|_| Error::Stopping)?;
            let _turn = self.samples.turns.acquire().await.map_err(|_| Error::Stopping)?;
            target.target.sample(&what, ROWS).await.map_err(Error::of_target)
        };
        let limits = target.limits();
        let bound = patience.min(limits.connect.saturating_add(limits.count).saturating_add(limits.lock));
        let samples = tokio::time::timeout(bound, read).await.map_err(|_| {
            Error::Target(format!("{} took longer than {} ms", target.name, bound.as_millis()))
        })??;
        let read_at = self.clock.now();
        let resources = shown(&target, samples, &self.samples.redactor);
        let records = resources.iter().fold(0, |sum: u64, one| sum.saturating_add(one.rows.len() as u64));
        // On record before anybody sees them.
        self.append(vec![Event::ApprovalSampled {
            id: approval.id.clone(),
            target: target.name.to_string(),
            records,
            by: caller.actor(),
        }])
        .await?;
        Ok(SampleView { approval_id: approval.id, read_at, resources })
    }

    /// Which records the action means, and where they are.
    fn meant(
        &self,
        rules: &Rules,
        approval: &Approval,
        checked: Option<&Checked>,
    ) -> Result<(Arc<Connected>, Selection), Error> {
        let none = || Error::Unsupported("it names no records of a connected target".to_owned());
        let agent = approval.action.agent.clone();
        let understood = rules.catalogue.understand(&approval.check, agent)?;
        if let Some(execution) = checked.and_then(|checked| checked.execution.as_ref()) {
            let target = rules.targets.get(&execution.target).ok_or_else(none)?;
            let statements = statements(&understood.sql, approval.check.params.as_ref()).ok_or_else(none)?;
            return Ok((Arc::clone(target), Selection::Statements(statements)));
        }
        let question = counts::question(rules, &understood, &approval.check).ok_or_else(none)?;
        let what = question.what.map_err(|why| Error::Unsupported(why.to_owned()))?;
        Ok((question.target, what))
    }
}

/// The statements of an execution, each with its own parameters.
fn statements(sql: &[&str], params: Option<&Value>) -> Option<Vec<Statement>> {
    let list = |params: &Value| params.as_array().cloned();
    let params: Vec<Vec<Value>> = match (sql, params) {
        (_, None | Some(Value::Null)) => vec![Vec::new(); sql.len()],
        ([_], Some(params)) => vec![list(params)?],
        (_, Some(Value::Array(each))) => each.iter().map(list).collect::<Option<_>>()?,
        _ => return None,
    };
    let fits = !sql.is_empty() && sql.len() == params.len();
    let each = || sql.iter().zip(params).map(|(sql, params)| Statement { sql: (*sql).to_owned(), params });
    fits.then(|| each().collect())
}

fn shown(target: &Connected, samples: Vec<Sampled>, redactor: &Redactor) -> Vec<SampledResource> {
    let mut room = BYTES;
    let mut resources = Vec::new();
    for Sampled { resource, columns, rows } in samples.into_iter().take(RESOURCES) {
        let table = resource.rsplit('.').next().unwrap_or_default();
        let mut kept = Vec::new();
        for row in rows {
            let cells = columns.iter().zip(row).map(|(column, value)| cell(redactor, table, column, value));
            let cells: Vec<Value> = cells.collect();
            let bytes: usize = cells.iter().map(|cell| cell.as_str().map_or(8, str::len)).sum();
            if bytes > room {
                room = 0;
                break;
            }
            room -= bytes;
            kept.push(cells);
        }
        if !kept.is_empty() {
            resources.push(SampledResource {
                resource: shelf::full_name(target, &resource),
                columns,
                rows: kept,
            });
        }
    }
    resources
}

/// A value without secrets, and not too long.
fn cell(redactor: &Redactor, table: &str, column: &str, value: Value) -> Value {
    let cut = value.as_str().is_some_and(|text| text.chars().nth(SAMPLE_CHARS).is_some());
    let before = cut.then(|| value.clone());
    let value = match value.as_str().map(parsed) {
        // A column of JSON comes as text; within it, too, the name of a field may be what makes it a secret.
        Some(Parsed::Whole(inner)) => match redacted(redactor, table, column, inner) {
            Value::String(hidden) => hidden.into(),
            inner => redactor.text(&inner.to_string()).into_owned().into(),
        },
        Some(Parsed::Part) => return REDACTED.into(),
        Some(Parsed::Text) | None => redacted(redactor, table, column, value),
    };
    if before.is_some_and(|before| before != value) {
        // A secret that is cut through might no longer look like one.
        return REDACTED.into();
    }
    match value.as_str().and_then(|text| Some((text, text.char_indices().nth(CHARS)?.0))) {
        Some((text, end)) => format!("{}…", text.get(..end).unwrap_or_default()).into(),
        None => value,
    }
}

/// Where it stands may be what makes it a secret.
fn redacted(redactor: &Redactor, table: &str, column: &str, value: Value) -> Value {
    let record = Map::from_iter([(column.to_owned(), value)]);
    let mut whole = Value::Object(Map::from_iter([(table.to_owned(), Value::Object(record))]));
    redactor.value(&mut whole);
    let inner = |value: Value| match value {
        Value::Object(members) => members.into_iter().next().map_or(Value::Null, |(_, value)| value),
        hidden => hidden,
    };
    inner(inner(whole))
}

/// What a text is.
enum Parsed {
    /// JSON with fields, or a list.
    Whole(Value),
    /// The beginning of something with fields, or something like JSON: which text is of which field cannot be told.
    Part,
    /// Anything else.
    Text,
}

fn parsed(text: &str) -> Parsed {
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    if !text.starts_with(['{', '[']) {
        return Parsed::Text;
    }
    match serde_json::from_str(text) {
        Ok(value) => Parsed::Whole(value),
        // Without a colon no field is named: an array or a range as PostgreSQL writes it.
        Err(_) if text.contains(':') => Parsed::Part,
        Err(_) => Parsed::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_taken_out_before_a_value_is_cut() {
        let redactor = Redactor::new(&["users.ssn".to_owned()], true).unwrap();
        let shown = |table: &str, column: &str, value: Value| cell(&redactor, table, column, value);
        assert_eq!(shown("users", "id", json!(7)), json!(7));
        assert_eq!(shown("users", "password", json!("x")), json!(REDACTED));
        assert_eq!(shown("users", "ssn", json!("078-05-1120")), json!(REDACTED));
        assert_eq!(shown("orders", "ssn", json!("12")), json!("12"), "another table's");
        assert_eq!(shown("users", "note", json!("write to a@b.example")), json!("write to [redacted]"));
        assert_eq!(shown("users", "note", json!("é".repeat(201))), json!(format!("{}…", "é".repeat(200))));
        assert_eq!(shown("users", "note", json!(null)), json!(null));
        let long = format!("a@b.example {}", "x".repeat(SAMPLE_CHARS));
        assert_eq!(shown("users", "note", json!(long)), json!(REDACTED), "its end was not looked at");
        let plain = "x ".repeat(SAMPLE_CHARS);
        assert_eq!(shown("users", "note", json!(plain)), json!(format!("{}…", "x ".repeat(100))));
    }

    #[test]
    fn fields_of_json_are_taken_out_by_their_names() {
        let redactor = Redactor::new(&["ssn".to_owned(), "users.vault".to_owned()], false).unwrap();
        let shown = |column: &str, text: &str| match cell(&redactor, "users", column, json!(text)) {
            Value::String(text) => text,
            other => panic!("{other}"),
        };
        assert_eq!(shown("profile", r#"{"ssn": "078", "n": 1}"#), r#"{"n":1,"ssn":"[redacted]"}"#);
        assert_eq!(shown("profile", " \n[{\"a\": {\"SSN\": 78}}]"), r#"[{"a":{"SSN":"[redacted]"}}]"#);
        assert_eq!(shown("profile", "\u{feff}{\"ssn\": \"078\"}"), r#"{"ssn":"[redacted]"}"#);
        assert!(!shown("profile", r#"{"a": {"ssn": "078"}, "a": {}}"#).contains("078"), "a field twice");
        assert!(!shown("profile", r#"{"my_token": "abc12"}"#).contains("abc12"), "shapes count, too");
        assert_eq!(shown("profile", r#"{"vault": 1}"#), r#"{"vault":1}"#, "users.profile.vault is another");
        assert_eq!(shown("vault", r#"{"a": 1}"#), REDACTED, "the whole column is one");
        assert_eq!(shown("ssn", "[1, 2]"), REDACTED);
        assert_eq!(shown("profile", "{}"), "{}");

        let long = format!(r#"{{"note": "{}", "ssn": "078"}}"#, "x ".repeat(500));
        assert!(shown("profile", &long).ends_with('…'), "whole, so that it can be told");
        let cut: String = format!(r#"{{"ssn": "078", "note": "{}"}}"#, "x ".repeat(SAMPLE_CHARS))
            .chars()
            .take(SAMPLE_CHARS + 1)
            .collect();
        for unclear in [
            cut.as_str(),
            r#"{"ssn": "078"} "#.trim_end_matches(['}', ' ']),
            "{ssn: 078}",
            r#"{"{\"ssn\":\"078\"}"}"#,
        ] {
            assert_eq!(shown("profile", unclear), REDACTED, "{unclear}");
        }
        for plain in ["{1,2,NULL}", "[1,10)", "[draft] x"] {
            assert_eq!(shown("profile", plain), plain);
        }
        let deep = format!("{}{}", "[".repeat(3000), r#"{"ssn": "078"}"#);
        assert_eq!(shown("profile", &deep), REDACTED);
    }

    #[test]
    fn each_statement_has_its_own_parameters() {
        let of = |sql: &[&str], params: Value| {
            statements(sql, Some(&params)).map(|list| list.into_iter().map(|s| s.params).collect::<Vec<_>>())
        };
        assert_eq!(of(&["a"], json!(null)), Some(vec![vec![]]));
        assert_eq!(of(&["a"], json!([1])), Some(vec![vec![json!(1)]]));
        assert_eq!(of(&["a", "b"], json!([[1], []])), Some(vec![vec![json!(1)], vec![]]));
        assert_eq!(of(&["a", "b"], json!([1, 2])), None);
        assert_eq!(of(&["a", "b"], json!([[1]])), None);
        assert_eq!(of(&[], json!(null)), None);
    }
}
