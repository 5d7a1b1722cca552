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
fn functions_that_act_are_no_reads() {
    for sql in [
        "SELECT * FROM crosstab('delete from users returning 1,2,3') AS t(a int)",
        "SELECT * FROM connectby('users', 'a', 'b', 'c', 0)",
        "SELECT * FROM cypher('g', $$ MATCH (n) DELETE n $$) AS (a agtype)",
        "SELECT http(('DELETE', 'https://evil.example', NULL, NULL, NULL)::http_request)",
        "SELECT app.purge_all_users()",
        "SELECT delete_user(1)",
        "SELECT drop_everything()",
    ] {
        assert!(raw("run_sql", json!({"sql": sql})).category >= Category::Execute, "{sql}");
    }
    for sql in [
        "SELECT replace(a, 'b', 'c'), truncate(x, 2), json_remove(j, '$.a'), array_remove(b, 1) FROM t",
        "SELECT sender, deleted_at, dropped FROM t WHERE execution_time(id) > 5",
    ] {
        assert_eq!(raw("run_sql", json!({"sql": sql})).category, Category::Read, "{sql}");
    }
}

#[test]
fn a_default_schema_hides_no_table() {
    for schema in ["public", "dbo", "main", "\"public\"", "PUBLIC"] {
        let check = Check {
            action: Some("run".into()),
            resource: Some("production".into()),
            statement: Some(format!("UPDATE {schema}.users SET a = 1")),
            ..Check::default()
        };
        let action = Catalogue::default().classify(&check, Name::default_agent()).unwrap();
        let updated = |table: &str| {
            action
                .effects
                .iter()
                .any(|e| e.resource.as_str() == table && e.names.iter().any(|n| n.as_str() == "update"))
        };
        assert!(updated("production.users"), "{action:?}");
        assert!(
            updated(&format!("production.{}.users", schema.trim_matches('"').to_lowercase())),
            "{action:?}"
        );
        assert_eq!(action.systems, Count::Known(1));
    }
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
