//! The console's forms, as anybody might send them.

use super::common::{ADMIN, Reply, Server};
use checkrein_core::event::Event;
use serde_json::json;

/// What the console's pages are: the test reads it, so that no form is forgotten.
const ROUTER: &str = include_str!("../../src/console/mod.rs");

/// Every path of the console that takes a form, with something in the place of what is variable.
fn forms() -> Vec<String> {
    let routes =
        ROUTER.lines().filter(|line| line.trim_start().starts_with(".route(\"") && line.contains("post("));
    let path = |line: &str| line.split('"').nth(1).unwrap().replace("{id}", "x_1").replace("{name}", "x");
    routes.map(path).collect()
}

pub(crate) async fn send(server: &Server, method: &str, path: &str, headers: &str, body: &str) -> Reply {
    let text = format!(
        "{method} {path} HTTP/1.1\r\nhost: console.test\r\nconnection: close\r\n{headers}\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    server.raw(text.as_bytes()).await
}

/// Signs in. Returns the header with the cookie.
pub(crate) async fn enter(server: &Server) -> String {
    let entered = send(server, "POST", "/sign-in", "", &format!("key={ADMIN}&next=%2Fgrants")).await;
    assert_eq!(entered.status, 303, "{entered:?}");
    let cookie = entered.headers.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    format!("cookie: {}\r\n", cookie.split(';').next().unwrap())
}

#[tokio::test]
async fn no_other_site_sends_forms_in_somebodys_name() {
    let server = Server::start().await;
    let cookie = enter(&server).await;
    let page = send(&server, "GET", "/grants", &cookie, "").await;
    let token = page.body.split("name=\"token\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
    let own = format!("token={}", token.unwrap_or_else(|| panic!("{page:?}")));
    let head = server.app.store().head();

    let paths = forms();
    assert_eq!(paths.len(), ROUTER.matches("post(").count(), "{paths:?}");
    for known in
        ["/grants", "/grants/x_1", "/silences", "/silences/x_1", "/approvals/x_1", "/breakers", "/sign-out"]
    {
        assert!(paths.iter().any(|path| path == known), "{known} is none of {paths:?}");
    }
    let foreign = format!("{cookie}origin: https://evil.example\r\n");
    let fetched = format!("{cookie}sec-fetch-site: cross-site\r\n");
    for path in &paths {
        let mut refused =
            vec![("another site's", 403, &foreign, own.as_str()), ("another site's", 403, &fetched, &own)];
        let nobody = String::new();
        let wrong = "cookie: checkrein=0123456789abcdef\r\n".to_owned();
        // Signing in is what nobody has a session for.
        if path != "/sign-in" {
            refused.extend([
                ("no token", 403, &cookie, ""),
                ("an empty token", 403, &cookie, "token="),
                ("another token", 403, &cookie, "token=0123456789abcdef"),
                ("no session", 401, &nobody, &own),
                ("a session that is none", 401, &wrong, &own),
            ]);
        }
        for (what, status, headers, body) in refused {
            let answer = send(&server, "POST", path, headers, body).await;
            assert_eq!(answer.status, status, "{what}, {path}: {answer:?}");
            assert!(answer.body.contains("nothing was done"), "{what}, {path}: {answer:?}");
        }
    }
    assert_eq!(server.app.store().head(), head, "nothing of it is on record");
    // What refuses is the token and the origin, not the form: with both right, each is looked at, the sign-out last.
    for path in paths.iter().filter(|path| !["/sign-in", "/sign-out"].contains(&path.as_str())) {
        let answer =
            send(&server, "POST", path, &format!("{cookie}origin: http://console.test\r\n"), &own).await;
        assert!(!answer.body.contains("nothing was done"), "{path}: {answer:?}");
    }
    let left = send(&server, "POST", "/sign-out", &cookie, &own).await;
    assert_eq!(left.status, 303, "{left:?}");
    assert_eq!(send(&server, "POST", "/grants", &cookie, &own).await.status, 401, "the session is over");
    server.stop_and_verify().await;
}

#[tokio::test]
async fn the_plot_of_an_agent_says_where_the_log_is_too_long_for_it() {
    let server = Server::start().await;
    let cookie = enter(&server).await;
    server.check(json!({"agent": "busy", "action": "read", "resource": "shop.users"})).await;
    let drawn = async || {
        let view = server.get("/v1/agents/busy?hours=48").await.json();
        let page = send(&server, "GET", "/agents/busy", &cookie, "").await;
        assert_eq!(page.status, 200, "{page:?}");
        let (_, figure) = page.body.split_once("<figure").unwrap_or_else(|| panic!("{page:?}"));
        (view["hours"].as_array().unwrap().len(), figure.split_once("</figure>").unwrap().0.to_owned())
    };
    let (hours, figure) = drawn().await;
    assert!(
        hours == 48 && figure.contains("expected") && !figure.contains("Fewer than"),
        "{hours}: {figure}"
    );
    // Then much happens, all of it in this hour: where it began cannot be seen any more.
    let store = server.app.store();
    let last = store.entry(store.head().seq).await.unwrap().unwrap().at;
    for _ in 0..100 {
        let small = || Event::ServerStarted { version: "1".to_owned() };
        store.append(std::iter::repeat_with(small).take(1_000).collect(), last).await.unwrap();
    }
    let (hours, figure) = drawn().await;
    let said = "Fewer than 48 hours are shown: only those within the newest 100,000 entries of the log";
    assert!(hours == 0 && figure.contains(said), "{hours}: {figure}");
}

#[tokio::test]
async fn an_approval_names_every_breaker_that_is_in_its_way() {
    let server = Server::with("[drift.groups.workers]\nagents = [\"worker-*\"]").await;
    let cookie = enter(&server).await;
    server
        .policy(json!({"name": "ask", "rule": "require_approval", "condition": {"action": "refund"}}))
        .await;
    let key = server.key("agent", Some("worker-*")).await;
    server.key("agent", Some("other-*")).await;
    let held = json!({"agent": "worker-1", "action": "refund", "resource": "shop.orders"}).to_string();
    let held = server.send("POST", "/v1/checks", &key, &held).await.json();
    let page = format!("/approvals/{}", held["approval_id"].as_str().unwrap_or_else(|| panic!("{held}")));
    let shown = async || {
        let page = send(&server, "GET", &page, &cookie, "").await;
        assert_eq!(page.status, 200, "{page:?}");
        let (_, bar) = page.body.split_once("<div id=\"stopped\"").unwrap();
        bar.split_once("<section").unwrap().0.to_owned()
    };
    assert!(!shown().await.contains("is stopped"), "nothing is in its way");
    for (scope, said, link) in [
        ("all", "every agent is stopped", "/agents"),
        ("group:workers", "the group workers is stopped", "/agents"),
        ("agent:worker-*", "every agent of the key for worker-* is stopped", "/agents/worker-*"),
        ("agent:worker-1", "worker-1 is stopped", "#more"),
        ("agent:worker-2", "", ""),
        ("agent:other-*", "", ""),
    ] {
        let set = async |state: &str| {
            let body = json!({"state": state, "reason": "to see"}).to_string();
            let path = format!("/v1/breakers/{scope}");
            let set = server.send("PUT", &path, ADMIN, &body).await;
            assert_eq!(set.status, 200, "{set:?}");
        };
        set("open").await;
        let bar = shown().await;
        if said.is_empty() {
            assert!(!bar.contains("is stopped"), "{scope} concerns others: {bar}");
        } else {
            let link = format!("href=\"{link}\"");
            assert!(bar.contains(said) && bar.contains(&link), "{scope}: {bar}");
            assert_eq!(bar.matches("is stopped").count(), 1, "{scope}, and no other one: {bar}");
        }
        set("closed").await;
    }
    server.stop_and_verify().await;
}
