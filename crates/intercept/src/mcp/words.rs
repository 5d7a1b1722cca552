//! What the gateway itself says, to models and to people: results, errors and questions.

use super::message::Id;
use crate::gate::Held;
use checkrein_api::Decision;
use checkrein_core::policy::{Mode, Rule};
use serde_json::{Value, json};

/// The name of the gateway's question among those of one result.
pub(super) const QUESTION: &str = "checkrein";
const ELSEWHERE: &str = "Do not try to reach the same effect in another way.";

/// A call that no policy lets run.
pub(super) fn blocked(decision: &Decision) -> String {
    let mut text = format!("NOT RUN: {} Nothing was changed. ", decision.reason);
    let mut limits: Vec<String> = decision
        .policies
        .iter()
        .filter(|p| p.rule == Rule::Block && p.mode == Mode::Enforce && p.exempted_by.is_none())
        .flat_map(|p| limits(&p.reason))
        .collect();
    limits.sort_unstable();
    limits.dedup();
    for limit in limits {
        text.push_str(&limit);
        text.push(' ');
    }
    text + ELSEWHERE
}

/// What would be allowed, from `touches 400 records, over 25` in a policy's reason.
fn limits(reason: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in reason.split("touches ").skip(1).chain(reason.split("goes to ").skip(1)) {
        let Some((what, rest)) = part.split_once(", over ") else { continue };
        let limit: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let unknown = what.strip_prefix("an unknown number of ");
        let counted = what.split_once(' ').filter(|(n, _)| n.parse::<u64>().is_ok()).map(|(_, thing)| thing);
        let Some(thing) = unknown.or(counted).and_then(|t| t.split([' ', ',']).next()) else { continue };
        let thing = thing.trim_end_matches('s');
        if limit.is_empty() || !thing.bytes().all(|b| b.is_ascii_alphabetic()) {
            continue;
        }
        found.push(format!("At most {limit} {thing}s at a time would be allowed."));
        if unknown.is_some() {
            found.push(format!("Name the {thing}s, so that they can be counted."));
        }
    }
    found
}

/// A call that nobody could judge. Why is for whoever runs the gateway: addresses and settings are in it.
pub(super) fn unasked() -> String {
    format!(
        "NOT RUN: this call could not be checked, and nothing runs unchecked. Nothing was changed. {ELSEWHERE} \
         Say that it could not be done now; whoever runs the gateway finds the cause in its log."
    )
}

/// A call about which nobody has answered in time.
pub(super) fn unanswered(held: &Held) -> String {
    format!(
        "NOT RUN: {} Nobody has approved it yet ({}). Nothing was changed. A person approves it with \
         `checkrein approvals approve {}`; then make exactly the same call again. Any other is a new question.",
        held.reason, held.approval, held.approval
    )
}

/// A call that the client's user did not want to wait for.
pub(super) fn declined(held: &Held) -> String {
    format!("NOT RUN: {} The user declined to wait for {}. Nothing was changed.", held.reason, held.approval)
}

/// A call of a tool that is not what it was, with which nobody has agreed yet.
pub(super) fn changed(tool: &str, parts: &[String]) -> String {
    format!(
        "NOT RUN: the tool `{tool}` is not what it was when it was first seen: its {} changed. A person has to \
         look at it and accept it, with `checkrein mcp --accept` on the gateway's machine. Nothing was changed.",
        parts.join(" and ")
    )
}

/// What the client's user is asked about a hold. Their answer approves nothing: it only goes on waiting.
pub(super) fn question(tool: &str, held: &Held) -> String {
    format!(
        "The call of {tool} waits for approval {}: {} Somebody who may approve it can do so with `checkrein approvals \
         approve {}`. Continue once that is done; decline to give the call up.",
        held.approval, held.reason, held.approval
    )
}

/// The result of a call that did not run.
pub(super) fn result(id: &Id, text: &str, modern: bool) -> String {
    let mut result = json!({"content": [{"type": "text", "text": text}], "isError": true});
    if modern && let Some(result) = result.as_object_mut() {
        result.insert("resultType".to_owned(), "complete".into());
    }
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

/// The result of a call that is to be made again once a person has answered (2026-07-28).
pub(super) fn input_required(id: &Id, question: &str, state: &str) -> String {
    let result = json!({
        "resultType": "input_required",
        "inputRequests": {QUESTION: {"method": "elicitation/create", "params": form(question)}},
        "requestState": state,
    });
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

/// A question to the client's user (before 2026-07-28).
pub(super) fn elicitation(id: &Id, question: &str) -> String {
    let params = form(question);
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"elicitation/create","params":{params}}}"#)
}

fn form(question: &str) -> Value {
    json!({"message": question, "requestedSchema": {"type": "object", "properties": {}}})
}

/// A question to the client's user has become pointless.
pub(super) fn never_mind(id: &Id) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#)
}

/// A JSON-RPC error.
pub(super) fn error(id: Option<&Id>, code: i32, message: &str) -> String {
    let id = id.map_or("null", |id| id.0.as_str());
    let error = json!({"code": code, "message": message});
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_would_be_allowed() {
        let said = |reason: &str| limits(reason).join(" ");
        assert_eq!(
            said("delete on users touches 400 records, over 25, in production"),
            "At most 25 records at a time would be allowed."
        );
        assert_eq!(
            said("x touches an unknown number of records, over 25 and goes to 60 recipients, over 50."),
            "At most 25 records at a time would be allowed. Name the records, so that they can be counted. \
             At most 50 recipients at a time would be allowed."
        );
        assert_eq!(said("delete on users matches `production.*`"), "");
        assert_eq!(said("touches , over touches a b, over goes to 5"), "");
    }
}
