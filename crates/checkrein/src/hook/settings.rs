//! Claude Code's settings: one hook goes in or out, and everything else stays as it was written.

use checkrein_core::json::Strict;
use jsonc_parser::{
    ParseOptions,
    cst::{CstArray, CstInputValue, CstNode, CstObject, CstRootNode},
};
use serde_json::{Map, Value};

/// Where the server takes Claude Code's hooks.
pub(super) const PATH: &str = "/v1/hooks/claude-code";
/// What Claude Code asks before a tool runs, and what it tells afterwards.
const EVENTS: [&str; 3] = ["PreToolUse", "PostToolUse", "PostToolUseFailure"];
/// What the hook has. With any other key (`if`, `once`, `async`) it may be asked less, or not be waited for.
const KEYS: [&str; 7] = ["type", "url", "headers", "allowedEnvVars", "timeout", "onFailure", "statusMessage"];
/// Seconds that Claude Code waits for an answer besides the wait for a person.
const PATIENCE: u64 = 30;

/// The hook to be written down.
pub(super) struct New<'a> {
    /// Where the server is, without a slash at the end.
    pub(super) url: &'a str,
    /// The environment variable that holds the key.
    pub(super) key_env: &'a str,
    /// Seconds that a hold is waited for.
    pub(super) wait: u64,
}

/// A hook of Checkrein's for `PreToolUse`, as it was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The server's address.
    pub(super) url: String,
    /// The environment variable that holds the key, if the hook names one as it must.
    pub(super) key_env: Option<String>,
    /// Whether a call is blocked when the hook fails, every tool is meant, and nothing else is said of it.
    pub(super) closed: bool,
}

/// `text` as JSON.
///
/// # Errors
/// With what is wrong with it; Claude Code ignores such a file as a whole.
pub(super) fn read(text: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str::<Strict>(text) {
        Ok(Strict(Value::Object(settings))) => Ok(settings),
        Ok(_) => Err("is no JSON object".to_owned()),
        Err(e) => Err(format!("is not JSON that has one meaning: {e}")),
    }
}

/// `text` with the hook in it, once.
pub(super) fn installed(text: &str, new: &New<'_>) -> Result<String, String> {
    let text = if text.trim().is_empty() { "{}\n" } else { text };
    let settings = read(text)?;
    if settings.get("disableAllHooks") == Some(&Value::Bool(true)) {
        return Err("turns all hooks off: take `disableAllHooks` out first".to_owned());
    }
    let root = without(text)?;
    let hooks = object(&root)?.object_value_or_set("hooks");
    for event in EVENTS {
        hooks.array_value_or_set(event).append(group(event, new));
    }
    let after = root.to_string();
    Ok(if read(&after)? == settings { text.to_owned() } else { after })
}

/// `text` without the hook.
pub(super) fn removed(text: &str) -> Result<String, String> {
    let settings = read(text)?;
    let after = without(text)?.to_string();
    Ok(if read(&after)? == settings { text.to_owned() } else { after })
}

/// The hooks of Checkrein's for `PreToolUse` in `settings`.
pub(super) fn found(settings: &Map<String, Value>) -> Vec<Found> {
    let groups = settings.get("hooks").and_then(|h| h.get("PreToolUse")).and_then(Value::as_array);
    let mut found = Vec::new();
    for group in groups.into_iter().flatten() {
        let every = matches!(group.get("matcher").and_then(Value::as_str), None | Some("" | "*"));
        let every = every && only(group, &["matcher", "hooks"]);
        for hook in group.get("hooks").and_then(Value::as_array).into_iter().flatten() {
            let Some(url) = ours(hook) else { continue };
            let key = hook.pointer("/headers/Authorization").and_then(Value::as_str);
            let key = key.and_then(|text| text.strip_prefix("Bearer $"));
            let allowed = hook.get("allowedEnvVars").and_then(Value::as_array);
            let key_env = key.filter(|name| allowed.is_some_and(|list| list.iter().any(|v| v == name)));
            found.push(Found {
                url: url.to_owned(),
                key_env: key_env.map(str::to_owned),
                closed: every
                    && only(hook, &KEYS)
                    && hook.get("onFailure").and_then(Value::as_str) == Some("block"),
            });
        }
    }
    found
}

fn only(value: &Value, keys: &[&str]) -> bool {
    value.as_object().is_some_and(|fields| fields.keys().all(|key| keys.contains(&key.as_str())))
}

/// The server's address, if it is a hook of Checkrein's.
fn ours(hook: &Value) -> Option<&str> {
    let url = hook.get("url").and_then(Value::as_str)?;
    let url = url.split(['?', '#']).next().unwrap_or_default();
    url.strip_suffix(PATH).filter(|_| hook.get("type").and_then(Value::as_str) == Some("http"))
}

/// In the order in which a person reads it.
fn group(event: &str, new: &New<'_>) -> CstInputValue {
    let before = event == "PreToolUse";
    let wait = if before && new.wait > 0 { format!("?wait={}s", new.wait) } else { String::new() };
    let object = |fields: Vec<(&str, CstInputValue)>| {
        CstInputValue::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    };
    let list = |item: CstInputValue| CstInputValue::Array(vec![item]);
    let seconds = if before { new.wait + PATIENCE } else { PATIENCE };
    let mut hook = vec![
        ("type", "http".into()),
        ("url", format!("{}{PATH}{wait}", new.url).into()),
        ("headers", object(vec![("Authorization", format!("Bearer ${}", new.key_env).into())])),
        ("allowedEnvVars", list(new.key_env.into())),
        ("timeout", CstInputValue::Number(seconds.to_string())),
    ];
    if before {
        hook.push(("onFailure", "block".into()));
        hook.push(("statusMessage", "Checkrein looks whether this may run".into()));
    }
    object(vec![("matcher", "*".into()), ("hooks", list(object(hook)))])
}

fn without(text: &str) -> Result<CstRootNode, String> {
    let strictly = ParseOptions {
        allow_comments: false,
        allow_loose_object_property_names: false,
        allow_trailing_commas: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    let root = CstRootNode::parse(text, &strictly).map_err(|e| format!("is not JSON: {e}"))?;
    let settings = object(&root)?;
    let Some(property) = settings.get("hooks") else { return Ok(root) };
    let hooks = property.object_value().ok_or("`hooks` is no object")?;
    for event in EVENTS {
        let Some(property) = hooks.get(event) else { continue };
        let groups = property.array_value().ok_or_else(|| format!("`hooks.{event}` is no list"))?;
        for group in groups.elements() {
            let inner = group.as_object().and_then(|group| group.array_value("hooks"));
            let inner =
                inner.ok_or_else(|| format!("`hooks.{event}` holds something that has no `hooks`"))?;
            if take_ours(&inner)? && inner.elements().is_empty() {
                group.remove();
            }
        }
        if groups.elements().is_empty() {
            property.remove();
        }
    }
    if hooks.properties().is_empty() {
        property.remove();
    }
    Ok(root)
}

/// Whether there was one.
fn take_ours(hooks: &CstArray) -> Result<bool, String> {
    let mut any = false;
    for hook in hooks.elements() {
        if is_ours(&hook)? {
            hook.remove();
            any = true;
        }
    }
    Ok(any)
}

fn is_ours(hook: &CstNode) -> Result<bool, String> {
    let value: Value = serde_json::from_str(&hook.to_string()).map_err(|e| format!("is not JSON: {e}"))?;
    Ok(ours(&value).is_some())
}

fn object(root: &CstRootNode) -> Result<CstObject, String> {
    root.object_value().ok_or_else(|| "is no JSON object".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: New<'_> = New { url: "http://127.0.0.1:7070", key_env: "CHECKREIN_API_KEY", wait: 60 };

    #[test]
    fn a_hook_goes_in_and_all_else_stays() {
        let text = "{\n    \"model\": \"opus\",\n    \"n\": 1.50,\n    \"hooks\": {\n        \"PreToolUse\": [\n            {\"matcher\": \"Bash\", \"hooks\": [{\"type\": \"command\", \"command\": \"./x\"}]}\n        ],\n        \"Stop\": []\n    }\n}\n";
        let after = installed(text, &NEW).unwrap();
        for kept in [
            "{\n    \"model\": \"opus\",\n    \"n\": 1.50,\n    \"hooks\": {\n        \"PreToolUse\": [\n            {\"matcher\": \"Bash\", \"hooks\": [{\"type\": \"command\", \"command\": \"./x\"}]},\n",
            "\"Stop\": []",
        ] {
            assert!(after.contains(kept), "{after}");
        }
        assert_eq!(installed(&after, &NEW).unwrap(), after, "once more changes nothing");
        let hook = read(&after).unwrap();
        assert_eq!(
            found(&hook),
            [Found { url: NEW.url.into(), key_env: Some("CHECKREIN_API_KEY".into()), closed: true }]
        );
        assert_eq!(hook["hooks"]["PreToolUse"][1]["hooks"][0]["timeout"], 90);
        assert!(!after.contains("ck_"), "the key itself is not in it");
        assert_eq!(removed(&after).unwrap(), text);

        let other = New { url: "https://checkrein.example", key_env: "KEY", wait: 0 };
        let moved = installed(&after, &other).unwrap();
        assert_eq!(found(&read(&moved).unwrap()).len(), 1, "{moved}");
        assert!(moved.contains("\"https://checkrein.example/v1/hooks/claude-code\""), "{moved}");
    }

    #[test]
    fn a_file_that_is_new_or_empty_gets_one() {
        for text in ["", "\n", "{}", "{\"hooks\": {}}", "{\"hooks\":{\"PreToolUse\":[]}}"] {
            let after = installed(text, &NEW).unwrap();
            assert_eq!(read(&after).unwrap().len(), 1, "{after}");
            assert_eq!(found(&read(&after).unwrap()).len(), 1, "{after}");
            assert!(after.lines().count() > 20, "{after}");
            assert_eq!(read(&removed(&after).unwrap()).unwrap(), Map::new());
        }
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for text in [
            "[]",
            "{",
            "{\"a\":1,}",
            "// x\n{}",
            "{\"a\":1,\"a\":2}",
            "{\"hooks\":[]}",
            "{\"hooks\":{\"PreToolUse\":{}}}",
            "{\"hooks\":{\"PreToolUse\":[7]}}",
            "{\"hooks\":{\"PreToolUse\":[{\"hooks\":{}}]}}",
            "{\"disableAllHooks\": true}",
        ] {
            assert!(installed(text, &NEW).is_err(), "{text}");
        }
        assert!(removed("{").is_err());
    }

    #[test]
    fn a_hook_that_fails_open_is_seen() {
        let good = installed("", &NEW).unwrap();
        for (from, to) in [
            ("\"block\"", "\"continue\""),
            ("\"*\"", "\"Bash\""),
            ("\"onFailure\": \"block\",", ""),
            ("\"onFailure\"", "\"if\": \"Bash(ls)\", \"onFailure\""),
            ("\"onFailure\"", "\"async\": true, \"onFailure\""),
            ("\"matcher\"", "\"if\": \"x\", \"matcher\""),
        ] {
            let open = good.replacen(from, to, 1);
            assert!(found(&read(&open).unwrap()).iter().all(|hook| !hook.closed), "{open}");
        }
        let unnamed = good.replacen("[\"CHECKREIN_API_KEY\"]", "[]", 1);
        assert_ne!(unnamed, good);
        assert_eq!(found(&read(&unnamed).unwrap())[0].key_env, None);
        let other = good.replace("\"http\"", "\"command\"");
        assert!(found(&read(&other).unwrap()).is_empty());
    }
}
