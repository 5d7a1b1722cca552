//! A webhook of Microsoft Teams' Workflows, as strict as the documentation of Adaptive Cards and of its limits.

#![expect(clippy::indexing_slicing, reason = "what JSON does not have is null")]

use super::scripted::{Receiver, Reply};
use serde_json::Value;

/// The address's path and signature.
pub const PATH: &str =
    "/workflows/0123456789abcdef/triggers/manual/paths/invoke?api-version=1&sig=SECRET-SIGNATURE";

/// Starts one.
pub fn start() -> Receiver {
    Receiver::start(|request| {
        if request.path != PATH {
            return Reply::new(401, "{\"error\":{\"code\":\"DirectApiAuthorizationRequired\"}}");
        }
        if request.body.len() > 28 * 1024 {
            return Reply::new(413, "Request Entity Too Large");
        }
        match card(&request.body) {
            Ok(()) => Reply::new(202, ""),
            Err(why) => {
                Reply::new(400, format!("{{\"error\":{{\"code\":\"BadRequest\",\"message\":\"{why}\"}}}}"))
            }
        }
    })
}

fn card(body: &[u8]) -> Result<(), String> {
    let message: Value = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    let attachments = message["attachments"].as_array().filter(|a| a.len() == 1).ok_or("attachments")?;
    let attachment = attachments.first().ok_or("attachments")?;
    if message["type"] != "message"
        || attachment["contentType"] != "application/vnd.microsoft.card.adaptive"
        || attachment["content"]["type"] != "AdaptiveCard"
    {
        return Err("no adaptive card".to_owned());
    }
    let card = &attachment["content"];
    if !["1.2", "1.3", "1.4", "1.5"].iter().any(|version| card["version"] == *version) {
        return Err("version".to_owned());
    }
    card["body"].as_array().filter(|body| !body.is_empty()).ok_or("body")?.iter().try_for_each(element)?;
    for action in card["actions"].as_array().into_iter().flatten() {
        let opens = action["type"] == "Action.OpenUrl"
            && action["url"].as_str().is_some_and(|u| u.starts_with("http"));
        if !opens || action["title"].as_str().is_none_or(str::is_empty) {
            return Err("action".to_owned());
        }
    }
    Ok(())
}

fn element(element: &Value) -> Result<(), String> {
    match element["type"].as_str() {
        Some("TextBlock") if element["text"].as_str().is_some_and(|text| !text.is_empty()) => Ok(()),
        Some("RichTextBlock") => {
            let runs = element["inlines"].as_array().filter(|runs| !runs.is_empty()).ok_or("inlines")?;
            let whole =
                |run: &Value| run["type"] == "TextRun" && run["text"].as_str().is_some_and(|t| !t.is_empty());
            if runs.iter().all(whole) { Ok(()) } else { Err("run".to_owned()) }
        }
        other => Err(format!("element {other:?}")),
    }
}
