//! What the statements of an execution are, before they run.

use super::{Connected, Error};
use checkrein_api::{ExecutionRequest, StatementRequest};
use checkrein_core::{
    action::{Action, Effect},
    check::{Check, limits},
    classify::Catalogue,
    name::Name,
};
use checkrein_targets::Statement;
use serde_json::{Value, json};

/// Statements in one execution, at most.
const MAX_STATEMENTS: usize = 100;
/// Parameters of one statement, at most: what the wire protocols of databases take.
const MAX_PARAMS: usize = 65_535;

/// What is to be run.
pub(super) struct Statements {
    pub(super) list: Vec<Statement>,
    /// Whether they were sent as a list.
    pub(super) several: bool,
}

impl Statements {
    /// # Errors
    /// When there is none, or more than one execution may have.
    pub(super) fn of(request: &ExecutionRequest) -> Result<Self, Error> {
        let invalid = |why: &str| Err(Error::Invalid(why.to_owned()));
        let one = |sql: &str, params: &Option<Vec<Value>>| Statement {
            sql: sql.to_owned(),
            params: params.clone().unwrap_or_default(),
        };
        let statements = match (&request.statement, &request.statements) {
            (Some(sql), None) => Self { list: vec![one(sql, &request.params)], several: false },
            (None, Some(_)) if request.params.is_some() => {
                return invalid("params: with `statements`, each statement has its own");
            }
            (None, Some(list)) => Self {
                list: list
                    .iter()
                    .map(|StatementRequest { statement, params }| one(statement, params))
                    .collect(),
                several: true,
            },
            _ => return invalid("give exactly one of `statement` and `statements`"),
        };
        if statements.list.is_empty() || statements.list.len() > MAX_STATEMENTS {
            return Err(Error::Invalid(format!("statements: 1 to {MAX_STATEMENTS}")));
        }
        if statements.list.iter().any(|s| s.sql.trim().is_empty()) {
            return invalid("statement: it is empty");
        }
        if statements.list.iter().any(|s| s.sql.contains('\0')) {
            return invalid("statement: it holds a NUL character, which no database takes");
        }
        if statements.list.iter().any(|s| s.params.len() > MAX_PARAMS) {
            return Err(Error::Invalid(format!("params: at most {MAX_PARAMS}")));
        }
        let bytes: usize = statements.list.iter().map(|s| s.sql.len() + 2).sum();
        if bytes > limits::STATEMENT_BYTES {
            return Err(Error::Invalid(format!(
                "statements: at most {} bytes in all",
                limits::STATEMENT_BYTES
            )));
        }
        Ok(statements)
    }
}

/// The execution as a check, and what that is taken for.
///
/// Each statement is read by itself, so that none can hide in a comment of the one before it.
///
/// # Errors
/// When it is no check.
pub(super) fn understand(
    catalogue: &Catalogue,
    target: &Connected,
    request: ExecutionRequest,
    statements: &Statements,
    agent: &Name,
) -> Result<(Check, Action), Error> {
    let mut whole: Option<Action> = None;
    for statement in &statements.list {
        let mut check = Check {
            action: Some("select".to_owned()),
            resource: Some(target.name.to_string()),
            statement: Some(statement.sql.clone()),
            session: request.session.clone(),
            idempotency_key: request.idempotency_key.clone(),
            ..Check::default()
        };
        let read = catalogue.classify(&check, agent.clone())?;
        // The first effect is the one that was just named; the others are the statement's own.
        let own = read.effects.get(1..).unwrap_or_default();
        if let Some((verb, resource)) = gravest(own) {
            check.action = Some(verb);
            check.resource = resource.or(check.resource);
        }
        let action = catalogue.classify(&check, agent.clone())?;
        whole = Some(match whole {
            None => action,
            Some(before) => before.and(action)?,
        });
    }
    let mut action = whole.ok_or_else(|| Error::Invalid("statements: there is none".to_owned()))?;
    action.declared = request.record_count;
    action.declared_ids = false;
    if let (Some(stated), Some(known)) = (request.record_count, action.records.known()) {
        action.records = checkrein_core::action::Count::Known(known.max(stated));
    }
    let params = if statements.several {
        Some(statements.list.iter().map(|s| Value::Array(s.params.clone())).collect())
    } else {
        request.params.map(Value::Array)
    };
    let texts: Vec<&str> = statements.list.iter().map(|s| s.sql.as_str()).collect();
    let check = Check {
        agent: request.agent,
        session: request.session,
        action: Some(action.action.to_string()),
        resource: Some(action.resource.to_string()),
        payload: request.record_count.map(|n| json!({ "record_count": n })),
        statement: Some(texts.join(";\n")),
        params,
        idempotency_key: request.idempotency_key,
        timestamp: request.timestamp,
        traceparent: request.traceparent,
        ..Check::default()
    };
    Ok((check, action))
}

/// The verb of the gravest effect, and its resource where that is one table.
fn gravest(effects: &[Effect]) -> Option<(String, Option<String>)> {
    let most = effects.iter().map(|e| e.category).max()?;
    let effect = effects.iter().find(|e| e.category == most)?;
    let table = Some(effect.resource.to_string()).filter(|r| !r.contains('*'));
    Some((effect.names.first()?.to_string(), table))
}
