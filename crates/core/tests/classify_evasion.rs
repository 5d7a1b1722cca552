//! Arguments that make an action look smaller or more harmless than what the system behind it will do.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use checkrein_core::{
    action::{Action, Category, Count},
    check::Check,
    classify::Catalogue,
    name::Name,
};
use serde_json::{Value, json};

fn raw(tool: &str, arguments: Value) -> Action {
    let check = Check { tool: Some(tool.into()), arguments: Some(arguments), ..Check::default() };
    Catalogue::default().classify(&check, Name::default_agent()).unwrap()
}

#[test]
fn many_recipients_are_not_written_as_one() {
    let addresses: Vec<String> = (0..60).map(|i| format!("u{i}@x.example")).collect();
    for separator in ["\t", "|", "/", "、", " / ", "\u{a0}", ", "] {
        let to = addresses.join(separator);
        assert_eq!(raw("send_email", json!({"to": to})).recipients, Count::Known(60), "{separator:?}");
    }
    for to in [format!("<{}>", addresses.join(",")), format!("\"{}\"", addresses.join(","))] {
        assert_eq!(raw("send_email", json!({"to": to})).recipients, Count::Known(60), "{to}");
    }
    let keyed: Value =
        addresses.iter().map(|a| (a.clone(), json!("Ann"))).collect::<serde_json::Map<_, _>>().into();
    assert_eq!(raw("send_email", json!({"to": keyed})).recipients, Count::Known(60));
    for key in ["additional_recipients", "hiddenRecipients", "email_bcc", "blind_copy", "send_to"] {
        let action = raw("send_email", json!({"to": "a@x.example", key: addresses}));
        assert_eq!(action.recipients, Count::Known(61), "{key}");
    }
    let one =
        raw("send_email", json!({"to": "\"Ann, of Sales\" <ann@x.example>", "reply_to": "b@x.example"}));
    assert_eq!(one.recipients, Count::Known(1));
}
