//! Slack, against a receiver as strict as its documentation.

use crate::common::{
    ATTACKS, fails_well, hostile, http, is_documented, is_fit_to_print, message, resolved, saying, secret,
};
use checkrein_core::signal::Notification;
use checkrein_signals::{
    Retry, Sink as _,
    sinks::slack::{Slack, SlackConfig},
};
use checkrein_testbed::receivers::{
    scripted::{Receiver, Reply},
    slack,
};
use serde_json::Value;
use std::time::Duration;

fn webhook(receiver: &Receiver, buttons: bool) -> Slack {
    let webhook_url = Some(secret(&format!("{}{}", receiver.url(), slack::WEBHOOK)));
    Slack::new(&SlackConfig { webhook_url, buttons, ..SlackConfig::default() }, http()).unwrap()
}

fn bot(receiver: &Receiver) -> Slack {
    let config = SlackConfig {
        token: Some(secret(slack::TOKEN)),
        channel: Some("#oncall".to_owned()),
        url: Some(receiver.url()),
        ..SlackConfig::default()
    };
    Slack::new(&config, http()).unwrap()
}

async fn sent(message: &Notification) -> Value {
    let receiver = slack::start();
    webhook(&receiver, true).notify(message).await.unwrap();
    receiver.take()[0].json()
}

/// Every text object of a message.
fn texts(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(members) if members["type"] == "mrkdwn" || members["type"] == "plain_text" => {
            vec![value]
        }
        Value::Object(members) => members.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn a_webhook_gets_the_message_that_the_documentation_shows() {
    is_documented("slack", &sent(&message()).await);
}

#[tokio::test]
async fn nothing_an_agent_says_is_more_than_text() {
    for attack in ATTACKS {
        let body = sent(&saying(attack)).await;
        let fallback = body["text"].as_str().unwrap();
        assert!(!fallback.contains(['<', '>', '\u{202e}', '\u{1b}']), "{fallback}");
        for object in texts(&body["blocks"]) {
            let text = object["text"].as_str().unwrap();
            assert!(!text.chars().any(|c| c != '\n' && checkrein_core::name::is_invisible(c)), "{text:?}");
            if object["type"] == "plain_text" {
                assert_eq!(object["emoji"], object["emoji"].as_bool().map_or(Value::Null, |_| false.into()));
                continue;
            }
            assert_eq!(object["verbatim"], true, "{text}");
            // Between our own backticks nothing ends them, and outside of them there is nothing of theirs.
            for (at, part) in text.split('`').enumerate() {
                let theirs = at % 2 == 1;
                assert!(!theirs || !part.contains(['<', '>', '\n']), "{text}");
                assert!(theirs || !part.contains("evil") && !part.contains("channel"), "{text}");
            }
            assert_eq!(text.matches('`').count() % 2, 0, "{text}");
        }
    }
}

#[tokio::test]
async fn whatever_agents_say_stays_within_slacks_limits() {
    let receiver = slack::start();
    let (webhook, bot) = (webhook(&receiver, true), bot(&receiver));
    for message in hostile() {
        webhook.notify(&message).await.unwrap();
        bot.notify(&message).await.unwrap();
    }
    let empty = Notification { signals: Vec::new(), link: None, count: 0, ..message() };
    webhook.notify(&empty).await.unwrap();
    let largest = receiver.take().iter().map(|request| request.body.len()).max().unwrap();
    assert!(largest < 40_000, "{largest}");
}

#[tokio::test]
async fn a_link_cannot_be_broken_out_of() {
    let link = |link: &str| Notification { link: Some(link.to_owned()), ..message() };
    for bad in
        ["https://x.example/a|Approve>", "https://x.example/?a=<!channel>", "https://x.example/\n<!here>"]
    {
        let body = sent(&link(bad)).await;
        let text = texts(&body["blocks"]).into_iter().find_map(|text| {
            let text = text["text"].as_str()?;
            text.ends_with("|Open in Checkrein>").then(|| text.to_owned())
        });
        let text = text.unwrap();
        assert!(!text.contains("<!") && text.matches(['<', '>', '|']).count() == 3, "{text}");
    }
    for none in ["javascript:alert(1)", "rubbish", &format!("https://x.example/{}", "x".repeat(5000))] {
        let body = sent(&link(none)).await.to_string();
        assert!(!body.contains("Open in Checkrein"));
    }
}

#[tokio::test]
async fn only_a_hold_that_waits_has_buttons_and_only_if_they_are_wanted() {
    let receiver = slack::start();
    let (with, without) = (webhook(&receiver, true), webhook(&receiver, false));
    let mut held = message();
    held.signals[0].kind = "action.held".to_owned();
    held.signals[0].approval_id = Some("apr_1".to_owned());
    with.notify(&held).await.unwrap();
    let body = receiver.take()[0].json();
    let actions: Vec<_> =
        body["blocks"].as_array().unwrap().iter().filter(|b| b["type"] == "actions").collect();
    let buttons: Vec<_> =
        actions[0]["elements"].as_array().unwrap().iter().map(|b| (&b["action_id"], &b["value"])).collect();
    assert_eq!(
        serde_json::to_string(&buttons).unwrap(),
        r#"[["checkrein_approve","apr_1"],["checkrein_deny","apr_1"]]"#
    );
    without.notify(&held).await.unwrap();
    with.notify(&message()).await.unwrap();
    let over = Notification { status: checkrein_core::signal::Status::Resolved, ..held.clone() };
    with.notify(&over).await.unwrap();
    held.signals[0].approval_id = None;
    with.notify(&held).await.unwrap();
    assert!(receiver.take().iter().all(|request| !request.text().contains("checkrein_approve")));
}

#[tokio::test]
async fn a_receiver_that_fails_is_tried_again_or_not_and_no_secret_is_shown() {
    let receiver = slack::start();
    fails_well(
        &webhook(&receiver, false),
        &receiver,
        &[slack::WEBHOOK, slack::WEBHOOK.trim_start_matches('/')],
    )
    .await;
    fails_well(&bot(&receiver), &receiver, &[slack::TOKEN]).await;
    receiver.answers([Reply::new(200, "<html>please sign in</html>")]);
    let failure = webhook(&receiver, false).notify(&message()).await.unwrap_err();
    assert_eq!(failure.retry, Retry::Later, "{failure}");
}

#[tokio::test]
async fn errors_of_the_api_are_told_apart() {
    let receiver = slack::start();
    let bot = bot(&receiver);
    let after = Retry::After(Duration::from_secs(30));
    for (said, retry, step) in [
        (r#"{"ok":false,"error":"ratelimited"}"#, after, "again"),
        (r#"{"ok":false,"error":"internal_error"}"#, after, "again"),
        (r#"{"ok":false,"error":"not_in_channel"}"#, Retry::Refused, "/invite"),
        (r#"{"ok":false,"error":"missing_scope","needed":"chat:write"}"#, Retry::Refused, "chat:write"),
        (r#"{"ok":false,"error":"token_revoked"}"#, Retry::Refused, "`token`"),
        (r#"{"ok":false,"error":"something_new"}"#, Retry::Never, "docs.slack.dev"),
        (r#"{"ok":"yes"}"#, Retry::Later, "`url`"),
        ("[]", Retry::Later, "`url`"),
        ("ok", Retry::Later, "`url`"),
        ("", Retry::Later, "`url`"),
    ] {
        receiver.answers([Reply::new(200, said).header("retry-after", "30")]);
        let failure = bot.notify(&message()).await.unwrap_err();
        assert_eq!(failure.retry, retry, "{failure}");
        assert!(failure.reason.contains(step), "{failure}");
        is_fit_to_print(&failure, &[slack::TOKEN]);
    }
}

#[tokio::test]
async fn with_a_token_the_message_itself_says_that_it_is_over() {
    let receiver = slack::start();
    let bot = bot(&receiver);
    let paths = || receiver.take().iter().map(|request| request.path.clone()).collect::<Vec<_>>();
    let (post, update) = ("/api/chat.postMessage", "/api/chat.update");
    // Nothing is remembered of it.
    bot.notify(&resolved()).await.unwrap();
    assert_eq!(paths(), [post]);
    bot.notify(&message()).await.unwrap();
    let first = receiver.take()[0].json();
    assert_eq!((&first["channel"], &first["ts"]), (&"#oncall".into(), &Value::Null));
    bot.notify(&resolved()).await.unwrap();
    let over = receiver.take();
    assert_eq!(over[0].path, update);
    let over = over[0].json();
    assert_eq!((&over["channel"], over["ts"].is_string()), (&"C024BE91L".into(), true));
    assert!(over["text"].as_str().unwrap().contains("Resolved: action.blocked"));
    // It was deleted meanwhile.
    receiver.answers([Reply::new(200, r#"{"ok":false,"error":"message_not_found"}"#)]);
    bot.notify(&resolved()).await.unwrap();
    assert_eq!(paths(), [update, post]);
    // Slack is down: neither lost nor posted twice.
    receiver.answers([Reply::new(503, "")]);
    assert_eq!(bot.notify(&resolved()).await.unwrap_err().retry, Retry::Later);
    assert_eq!(paths(), [update]);
}

#[test]
fn a_configuration_that_cannot_work_is_refused_with_the_field() {
    let config = |webhook_url: Option<&str>, token: Option<&str>, channel: Option<&str>| SlackConfig {
        webhook_url: webhook_url.map(secret),
        token: token.map(secret),
        channel: channel.map(str::to_owned),
        ..SlackConfig::default()
    };
    for (config, field) in [
        (config(None, None, None), "webhook_url"),
        (config(Some("https://hooks.slack.com/services/x"), Some("t"), Some("#c")), "webhook_url"),
        (config(Some("hooks.slack.com/SECRET"), None, None), "webhook_url"),
        (config(None, Some("xoxb"), None), "channel"),
        (config(None, None, Some("#c")), "token"),
        (config(None, Some(" "), Some("#c")), "token"),
        (config(None, Some("a\nSECRET"), Some("#c")), "token"),
        (config(None, Some("xoxb"), Some("my channel")), "channel"),
    ] {
        let error = Slack::new(&config, http()).err().unwrap();
        assert!(error.contains(&format!("`{field}`")) && !error.contains("SECRET"), "{error}");
    }
}
