//! Signed links: a page that asks, one answer, in the name of one person.

use super::{
    approvals::{ask_for, refund, text},
    common::{ADMIN, Reply, Server},
};
use serde_json::{Value, json};

impl Server {
    pub(crate) async fn link(&self, key: &str, approval: &str, body: Value) -> Reply {
        self.send("POST", &format!("/v1/approvals/{approval}/links"), key, &body.to_string()).await
    }

    /// As a browser sends the form.
    pub(crate) async fn fill_in(&self, path: &str, form: &str) -> Reply {
        self.send("POST", path, "", form).await
    }
}

#[tokio::test]
async fn looking_decides_nothing_and_one_answer_counts() {
    let server = Server::with("[server]\npublic_url = \"https://checkrein.example.com\"").await;
    ask_for(&server, 1).await;
    let agent = server.key("agent", Some("shop-bot")).await;
    let ann = server.operator("ann").await;
    let mut hostile = refund();
    hostile["payload"]["note"] = json!("<script>alert(1)</script>\u{202e}gpj.exe</pre>");
    let held = server.ask(&agent, &hostile).await;
    let id = text(&held["approval_id"]);
    let made = server.link(&ann, id, json!({"for": "Alice <alice@example.com>"})).await;
    assert_eq!(made.status, 201, "{made:?}");
    let made = made.json();
    let path = text(&made["path"]).to_owned();
    assert_eq!(made["url"], format!("https://checkrein.example.com{path}"));

    for method in ["GET", "GET", "HEAD"] {
        let page = server.send(method, &path, "", "").await;
        assert_eq!(page.status, 200, "{page:?}");
        let headers = page.headers.to_lowercase();
        for header in [
            "content-security-policy: default-src 'none'",
            "referrer-policy: no-referrer",
            "cache-control: no-store",
        ] {
            assert!(headers.contains(header), "{header}: {headers}");
        }
        assert!(!page.body.contains("<script") && !page.body.contains('\u{202e}'), "{page:?}");
        assert!(method == "HEAD" || page.body.contains("Alice &lt;alice@example.com&gt;"), "{page:?}");
    }
    assert_eq!(server.approval(id).await["state"], "pending", "a scanner of mails has looked");

    for bad in [
        "",
        "decision=maybe",
        "decision=approve&decision=deny",
        "decision=approve&by=boss",
        "comment=x",
        "decision=approve&comment=%E2%80%AE",
    ] {
        let refused = server.fill_in(&path, bad).await;
        assert_eq!(refused.status, 400, "{bad}: {refused:?}");
    }
    assert_eq!(server.fill_in(&path, &"x".repeat(70_000)).await.status, 413);
    assert_eq!(server.approval(id).await["state"], "pending");

    let clicks = (0..50).map(|n| {
        let form = if n % 2 == 0 { "decision=approve&comment=on+it" } else { "decision=deny&comment=" };
        server.fill_in(&path, form)
    });
    let clicks = futures_util::future::join_all(clicks).await;
    assert_eq!(clicks.iter().filter(|r| r.status == 303).count(), 1);
    assert_eq!(clicks.iter().filter(|r| r.status == 409).count(), 49);
    let decided = server.approval(id).await;
    assert_eq!(
        (&decided["decided_by"]["name"], &decided["decided_by"]["via"]),
        (&json!("Alice <alice@example.com>"), &json!("link")),
    );
    let page = server.send("GET", &path, "", "").await;
    assert!(page.body.contains("by Alice") && !page.body.contains("<form"), "{page:?}");
    assert_eq!(server.link(&ann, id, json!({"for": "bob"})).await.status, 409, "it waits for nobody");
    let made = server.logged("approval.changed").await;
    let link = made.iter().find(|e| e["transition"] == "link").unwrap();
    assert_eq!((&link["person"], &link["by"]["name"]), (&json!("Alice <alice@example.com>"), &json!("ann")));
    server.stop_and_verify().await;
}

#[tokio::test]
async fn a_link_ends_with_its_key_its_time_and_is_not_forged() {
    let server = Server::start().await;
    ask_for(&server, 1).await;
    let held = server.check(refund()).await;
    let id = text(&held["approval_id"]);
    let made = server.post("/v1/keys", json!({"role": "operator", "name": "ann"})).await.json();
    let (key_id, ann) = (text(&made["id"]), text(&made["key"]));
    let path = text(&server.link(ann, id, json!({"for": "alice"})).await.json()["path"]).to_owned();
    let brief = server.link(ann, id, json!({"for": "alice", "lasting": "1s"})).await.json();
    let brief = text(&brief["path"]).to_owned();

    let server = Server::on(server.stop().await, "").await;
    assert_eq!(server.send("GET", &path, "", "").await.status, 200, "good after a restart");
    let mut flipped = path.clone().into_bytes();
    let last = flipped.len() - 2;
    flipped[last] = if flipped[last] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    for forged in [flipped.as_str(), "/approve/x", "/approve/a.b", "/approve/%00", "/approve/..%2f..%2fv1"] {
        assert_eq!(server.send("GET", forged, "", "").await.status, 404, "{forged}");
        assert_eq!(server.fill_in(forged, "decision=approve").await.status, 404, "{forged}");
    }
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert_eq!(server.fill_in(&brief, "decision=approve").await.status, 410);
    assert_eq!(server.send("DELETE", &format!("/v1/keys/{key_id}"), ADMIN, "").await.status, 204);
    let dead = server.fill_in(&path, "decision=approve").await;
    assert_eq!(dead.status, 410, "{dead:?}");
    assert_eq!(server.approval(id).await["state"], "pending");
}

#[tokio::test]
async fn whoever_makes_two_links_is_still_one_person() {
    let server = Server::start().await;
    ask_for(&server, 2).await;
    let agent = server.key("agent", Some("shop-bot")).await;
    let (ann, bob) = (server.operator("ann").await, server.operator("bob").await);
    let held = server.ask(&agent, &refund()).await;
    let id = text(&held["approval_id"]);
    let path = async |key: &str, who: &str| {
        let made = server.link(key, id, json!({"for": who})).await.json();
        text(&made["path"]).to_owned()
    };
    let (cid, dora, eve) = (path(&ann, "cid").await, path(&ann, "dora").await, path(&bob, "eve").await);
    assert_eq!(server.fill_in(&cid, "decision=approve").await.status, 303);
    assert_eq!(server.fill_in(&dora, "decision=approve").await.status, 409, "ann could have opened both");
    assert_eq!(server.decide(id, &ann, "approve").await.status, 409);
    let page = server.send("GET", &eve, "", "").await;
    assert!(page.body.contains("1 of 2 people"), "{page:?}");
    assert_eq!(server.fill_in(&eve, "decision=approve").await.status, 303);
    assert_eq!(server.approval(id).await["state"], "approved");
}

#[tokio::test]
async fn links_are_made_by_operators_and_make_sense() {
    let server = Server::start().await;
    ask_for(&server, 1).await;
    let agent = server.key("agent", Some("shop-bot")).await;
    let held = server.ask(&agent, &refund()).await;
    let id = text(&held["approval_id"]);
    assert_eq!(server.link(&agent, id, json!({"for": "alice"})).await.status, 403);
    assert_eq!(server.link("", id, json!({"for": "alice"})).await.status, 401);
    assert_eq!(server.link(ADMIN, "apr_none", json!({"for": "alice"})).await.status, 404);
    for bad in [
        json!({}),
        json!({"for": ""}),
        json!({"for": "a\nb"}),
        json!({"for": "a\u{202e}b"}),
        json!({"for": "x".repeat(129)}),
        json!({"for": 7}),
        json!({"for": "alice", "lasting": "0s"}),
        json!({"for": "alice", "lasting": "soon"}),
        json!({"for": "alice", "role": "admin"}),
    ] {
        assert_eq!(server.link(ADMIN, id, bad.clone()).await.status, 400, "{bad:.60}");
    }
}
