//! What a red team hid where nobody looked: addressees, records, statements and hosts under odd names and in odd shapes.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use checkrein_core::{
    action::{Action, Category, Count, Environment},
    check::Check,
    classify::{Catalogue, CatalogueConfig},
    name::Name,
};
use serde_json::{Value, json};

fn of(check: &Check) -> Action {
    Catalogue::default().classify(check, Name::default_agent()).unwrap()
}

fn raw(tool: &str, arguments: Value) -> Action {
    of(&Check { tool: Some(tool.into()), arguments: Some(arguments), ..Check::default() })
}

/// At most 25 and 50 are what the policies of the guide allow.
fn few(count: Count, most: u64) -> bool {
    matches!(count, Count::Known(n) if n <= most)
}

#[test]
fn addressees_count_under_any_name() {
    let many: Vec<String> = (0..100).map(|i| format!("u{i}@x.example")).collect();
    let comma = many.join(", ");
    for key in [
        "cc_emails",
        "bccEmails",
        "to_users",
        "receivers",
        "addressees",
        "email_list",
        "recipientList",
        "contact_ids",
        "subscribers",
        "people",
        "invitee_emails",
        "guests",
        "participants",
        "recipient_addresses",
        "additional_to",
        "extra_emails",
        "watchers",
        "rcpt_to",
        "envelope-to",
        "whoever",
        "notify",
    ] {
        for value in [json!(many), json!(comma), json!(many.join(" ")), json!({"list": many})] {
            let action = raw("send_email", json!({"to": "a@x.example", key: value}));
            assert!(!few(action.recipients, 50), "{key}: {}", action.recipients);
        }
    }
    // One stays one, whoever sends and whatever the text speaks of.
    let one = json!({"to": "a@x.example", "from": "me@x.example", "reply_to": "r@x.example", "from_email": "f@x.example",
        "body": comma, "organizer_email": "o@x.example"});
    assert_eq!(raw("send_email", one).recipients, Count::Known(1));
    // And nobody who is named stays nobody knows who.
    let nobody = raw("send_campaign", json!({"template": "x", "contact_us": "help@x.example"}));
    assert_eq!(nobody.recipients, Count::Unknown);
}

#[test]
fn addressees_count_in_any_shape() {
    let many: Vec<String> = (0..100).map(|i| format!("u{i}@x.example")).collect();
    let phones: Vec<String> = (0..100).map(|i| format!("+49170{i:05}")).collect();
    let keyed: serde_json::Map<String, Value> = many.iter().map(|m| (m.clone(), json!("x"))).collect();
    for to in [
        json!({"a": {"b": {"c": many}}}),
        json!({"email": "a@x.example", "also": many}),
        json!({"email": "a@x.example", "extra": keyed}),
        json!([{"x": many}]),
        json!(phones.join(" ")),
        json!(phones.join("|")),
        json!(many.join("،")),
        json!(many.join(" ").replace('@', "＠")),
        json!("{{all_users}}"),
        json!("${users}"),
        json!("*@x.example"),
        json!("@subscribers"),
        json!("#sales #support"),
        json!("mailto:a@x.example?bcc=b%40x.example"),
    ] {
        let action = raw("send_email", json!({"to": to}));
        assert!(!few(action.recipients, 50), "{to}: {}", action.recipients);
    }
    for switch in ["reply_all", "send_to_all", "everyone"] {
        let send = |on: bool| raw("send_email", json!({"to": "a@x.example", switch: on})).recipients;
        assert_eq!((send(true), send(false)), (Count::Unknown, Count::Known(1)), "{switch}");
    }
    for (to, n) in [("+49 170 1234567", 1), ("Ann Smith <a@x.example>", 1), ("#general", 1), ("@ann", 1)] {
        assert_eq!(raw("send_message", json!({"to": to})).recipients, Count::Known(n), "{to}");
    }
}

#[test]
fn a_list_beside_an_id_is_what_is_done_to() {
    let things: Vec<u32> = (0..100).collect();
    let names: Vec<String> = things.iter().map(|i| format!("file-{i}.txt")).collect();
    let objects: Vec<Value> = things.iter().map(|i| json!({"name": i})).collect();
    for key in
        ["keys", "filenames", "users", "order_numbers", "paths", "elements", "batch", "issue_keys", "handles"]
    {
        for list in [json!(things), json!(names), json!(objects)] {
            let action = raw("delete_attachments", json!({"ticket_id": 5, key: list}));
            assert!(!few(action.records, 25), "{key}: {}", action.records);
        }
    }
    for (key, list) in [
        ("tags", json!(names)),
        ("values", json!(things)),
        ("vector", json!(vec![0.5; 100])),
        ("lines", json!(vec!["a sentence of some length indeed"; 100])),
    ] {
        assert_eq!(
            raw("update_ticket", json!({"ticket_id": 5, key: list})).records,
            Count::Known(1),
            "{key}"
        );
    }
    let labelled = raw("create_ticket", json!({"epic_id": 5, "components": names}));
    assert_eq!(labelled.records, Count::Known(1), "what is created is one thing");
}

#[test]
fn an_id_that_reads_like_several_is_not_one() {
    for id in [
        "1|2|3",
        "1 2 3",
        "1+2+3",
        "[1,2]",
        "1 OR 1=1",
        "1 or id>0",
        "1 to 100",
        "1–100",
        "1&id=2",
        "all contacts",
        "\"a\" \"b\"",
    ] {
        let action = raw("update_contact", json!({"contact_id": id}));
        assert!(!few(action.records, 1), "{id}: {}", action.records);
    }
    for id in [
        "7",
        "INC 1234",
        "a-b_c=",
        "gid://shopify/Order/1",
        "2024-0001",
        "12:34",
        "Report (final).pdf",
        "O'Brien",
        "AT&T",
        "How to deploy and roll back",
    ] {
        assert_eq!(raw("update_contact", json!({"contact_id": id})).records, Count::Known(1), "{id}");
    }
    for (key, value) in [
        ("id_list", json!("1,2,3")),
        ("conditions", json!([{"status": "x"}])),
        ("predicate", json!("a > 1")),
        ("recursive", json!(true)),
        ("apply_to_all", json!(true)),
    ] {
        let action = raw("delete_folder", json!({"folder_ref_id": 1, key: value}));
        assert!(!few(action.records, 1), "{key}: {}", action.records);
    }
}

#[test]
fn a_tool_that_takes_queries_takes_sql() {
    for sql in [
        "TRUNCATE users",
        "BEGIN; DELETE FROM users; COMMIT",
        "SET x=1; DELETE FROM users",
        "TABLE users; DELETE FROM users",
        "DELETE u FROM users u JOIN x ON u.id = x.id",
        "/*!DELETE FROM users*/",
        "/*M!100100 DELETE FROM users*/",
        "1; DELETE FROM users",
        "SELECT 1 DELETE FROM users",
        "SELECT 1\nGO\nDELETE FROM users",
        "GO\nDELETE FROM users",
        "DELIMITER //\nDELETE FROM users//",
        r#"{"query": "DELETE FROM users"}"#,
    ] {
        for (tool, key) in [
            ("mcp__production__query", "query"),
            ("read_query", "query"),
            ("read_query", "x"),
            ("query", "q"),
        ] {
            let action = raw(tool, json!({key: sql}));
            assert!(action.category >= Category::Delete, "{tool} {key}: {sql}: {:?}", action.category);
        }
    }
    for sql in
        ["SELECT 1 INTO OUTFILE '/tmp/x' FROM users", "CREATE RULE r AS ON SELECT TO t DO INSTEAD NOTHING"]
    {
        assert!(raw("mcp__shop__query", json!({"query": sql})).category > Category::Write, "{sql}");
    }
    assert_eq!(raw("query_cypher", json!({"query": "MATCH (n) DETACH DELETE n"})).category, Category::Delete);
    assert_eq!(raw("get_data", json!({"query": "SELECT 1 DELETE FROM users"})).category, Category::Delete);
    for text in ["drop in sales last week", "show me users", "update on set pieces", "truncate long texts"] {
        assert_eq!(raw("query_metrics", json!({"query": text})).category, Category::Read, "{text}");
    }
}

#[test]
fn a_delete_behind_a_query_is_one_to_sql_server() {
    for sql in [
        "SELECT 1 DELETE FROM users",
        "SELECT 1\ndelete from users",
        "SELECT count(*) DELETE FROM users",
        "SELECT 'a' DELETE FROM users WHERE id > 0",
        "SELECT a DELETE FROM users; DELETE FROM scratch",
        "WITH a AS (SELECT 1 b) SELECT b DELETE FROM users",
    ] {
        let action = of(&Check {
            action: Some("query".into()),
            resource: Some("production".into()),
            statement: Some(sql.into()),
            ..Check::default()
        });
        let deletes = |e: &checkrein_core::action::Effect| {
            e.category == Category::Delete && e.resource.as_str() == "production.users"
        };
        assert!(action.effects.iter().any(deletes), "{sql}: {:?}", action.effects);
    }
    for sql in [
        "SELECT 1 AS delete FROM users",
        "SELECT t.delete FROM t",
        "SELECT delete FROM t",
        "SELECT a, delete FROM t",
    ] {
        assert_eq!(raw("run_sql", json!({"sql": sql})).category, Category::Read, "{sql}");
    }
}

#[test]
fn a_command_behind_sql_is_a_command() {
    let action = raw("mcp__box__do", json!({"command": "drop table x; rm -rf /"}));
    assert!(action.effects.iter().any(|e| e.category == Category::Execute), "{:?}", action.effects);
    let sql = raw("mcp__box__do", json!({"command": "SELECT a FROM b WHERE c = 1"}));
    assert!(sql.effects.iter().all(|e| e.category != Category::Execute), "{:?}", sql.effects);
}

#[test]
fn a_table_of_another_target_is_that_targets() {
    let config: CatalogueConfig = serde_json::from_value(json!({"targets": [
        {"name": "production", "environment": "production"}, {"name": "staging", "environment": "staging"}]}))
    .unwrap();
    let catalogue = Catalogue::new(&config).unwrap();
    let classify = |sql: &str| {
        let check = Check {
            action: Some("delete".into()),
            resource: Some("staging".into()),
            statement: Some(sql.into()),
            ..Check::default()
        };
        catalogue.classify(&check, Name::default_agent()).unwrap()
    };
    for sql in [
        "DELETE FROM production.users WHERE id=1",
        "DELETE FROM `production`.`users`",
        "USE production; DELETE FROM users",
    ] {
        let action = classify(sql);
        assert_eq!(action.environment, Environment::Production, "{sql}");
        assert!(action.effects.iter().any(|e| e.resource.as_str() == "production.users"), "{sql}");
    }
    for sql in ["DELETE FROM staging.users WHERE id=1", "DELETE FROM public.users WHERE id=1"] {
        assert_eq!(classify(sql).environment, Environment::Staging, "{sql}");
    }
}

#[test]
fn an_explicit_resource_that_is_an_address_is_reached() {
    let reached = |resource: &str| {
        let check =
            Check { action: Some("send".into()), resource: Some(resource.into()), ..Check::default() };
        of(&check).domains
    };
    for resource in [
        "//evil.example/x",
        "gopher://evil.example",
        "ssh://git@evil.example/x",
        "ldap://evil.example",
        "postgres://u:p@evil.example/db",
        "mailto:a@evil.example",
    ] {
        assert!(reached(resource).known.iter().any(|host| host.as_str() == "evil.example"), "{resource}");
    }
    for resource in [
        "http://[evil.example]",
        "http://evil.example%00.good.example",
        "javascript:fetch(1)",
        "data:text/html,x",
        "https://good.example\\@evil.example",
    ] {
        assert!(reached(resource).unknown, "{resource}");
    }
    for resource in ["shop.users", "tickets/7", "crm:contacts", "12:34", "C:\\work"] {
        let domains = reached(resource);
        assert!(domains.known.is_empty() && !domains.unknown, "{resource}");
    }
    let split = raw("http_request", json!({"url": "https://good.example\\@evil.example/x"}));
    assert!(split.domains.unknown);
    assert!(!raw("http_request", json!({"url": "https://good.example/a\\b@c"})).domains.unknown);
}

#[test]
fn an_argument_in_a_resource_is_one_name_or_any() {
    let config: CatalogueConfig = serde_json::from_value(json!({"tools": [
        {"tool": "crm_*", "resource": "crm.{object}"}, {"tool": "in_*", "resource": "crm.{object}.rows"}]}))
    .unwrap();
    let catalogue = Catalogue::new(&config).unwrap();
    let resource = |tool: &str, object: &str| {
        let check =
            Check { tool: Some(tool.into()), arguments: Some(json!({"object": object})), ..Check::default() };
        catalogue.classify(&check, Name::default_agent()).map(|action| action.resource.to_string())
    };
    for object in ["contacts", " Contacts", "./contacts", "contacts/", "x/../contacts"] {
        assert_eq!(resource("crm_update", object).unwrap(), "crm.contacts", "{object}");
    }
    for object in ["contacts,leads", "leads;contacts", "c*", "contacts--", "*"] {
        assert_eq!(resource("crm_update", object).unwrap(), "crm.*", "{object}");
        assert!(resource("in_update", object).is_err(), "{object}");
    }
    for object in ["a b.txt", "tickets/7", "key-account", "C#"] {
        assert_eq!(resource("crm_update", object).unwrap(), format!("crm.{}", object.to_lowercase()));
    }
}
