//! Signing in with a provider of OpenID Connect that is not always honest. One that others wrote signs people in, in a
//! browser, in `tests/console/test_single_sign_on.py`.

mod limits;
mod people;
mod provider;
mod tokens;

use crate::common::{Reply, Server, config};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use checkrein_testbed::receivers::scripted::{Act, Reply as Said};
use provider::{Flow, Provider, header, session, visit};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::time::Duration;

/// Nobody came in, and the page says why.
#[track_caller]
fn refused(reply: &Reply, status: u16, why: &str) {
    assert_eq!(reply.status, status, "{why}: {reply:?}");
    assert!(reply.body.contains(why), "{why}: {}", reply.body);
    assert_eq!(session(reply), None, "{reply:?}");
    assert!(reply.body.contains("Your key"), "signing in with a key is offered: {reply:?}");
}

#[tokio::test]
async fn a_person_comes_in_and_leads_on_to_their_page() {
    let provider = Provider::start();
    let server = provider.checkrein("").await;
    let offered = visit(&server, "/sign-in?next=/approvals?state=pending", "").await;
    assert!(offered.body.contains("Sign in with Corp"), "{offered:?}");
    let flow = Flow::begin(&server, "/approvals?state=pending").await;
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", "checkrein"),
        ("redirect_uri", "http://127.0.0.1:7070/sign-in/oidc/callback"),
        ("scope", "openid email profile"),
        ("code_challenge_method", "S256"),
        ("kept", "yes"),
    ] {
        assert_eq!(flow.asked.get(name).map(String::as_str), Some(value), "{name}");
    }
    provider.says(|world| world.id_token = provider.key.token(&provider.claims(&flow)));
    provider.asked();
    let back = flow.back(&server).await;
    assert_eq!((back.status, header(&back, "location")), (303, Some("/approvals?state=pending")), "{back:?}");
    assert!(back.headers.contains("checkrein-sign-in=; "), "the browser forgets the sign-in: {back:?}");
    let asked = provider.receiver.take();
    let exchanged = asked.iter().find(|request| request.path == "/token").unwrap();
    let basic = exchanged.header("authorization").and_then(|value| value.strip_prefix("Basic ")).unwrap();
    let basic = base64::engine::general_purpose::STANDARD.decode(basic).unwrap();
    assert_eq!(basic, b"checkrein:the+client%27s+secret+of+32+bytes%21");
    let form: Vec<_> = url::form_urlencoded::parse(&exchanged.body).into_owned().collect();
    let said =
        |name: &str| form.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str()).unwrap();
    assert_eq!((said("grant_type"), said("code")), ("authorization_code", "c1"));
    assert_eq!(BASE64.encode(Sha256::digest(said("code_verifier"))), flow.asked["code_challenge"]);
    assert!(!exchanged.text().contains("client_secret"), "it is in the header");

    let page = visit(&server, "/", &session(&back).unwrap()).await;
    assert!(page.status == 200 && page.body.contains("oidc:ann@example.com <small>operator"), "{page:?}");
    let again = visit(&server, "/sign-in?next=/agents", &session(&back).unwrap()).await;
    assert_eq!(header(&again, "location"), Some("/agents"), "who is signed in goes on");
    for (next, to) in [("/agents", "/agents"), ("//evil.example/", "/")] {
        let again = visit(&server, &format!("/sign-in/oidc?next={next}"), &session(&back).unwrap()).await;
        assert_eq!(
            (again.status, header(&again, "location")),
            (303, Some(to)),
            "no sign-in begins: {again:?}"
        );
        assert_eq!(header(&again, "set-cookie"), None, "{again:?}");
    }
    let over = visit(&server, "/sign-in/oidc?next=/agents", "checkrein=over").await;
    assert!(header(&over, "location").unwrap().starts_with(&provider.issuer()), "{over:?}");
}

#[tokio::test]
async fn an_answer_belongs_to_one_browser_and_counts_once() {
    let provider = Provider::start();
    let server = provider.checkrein("").await;
    let flow = Flow::begin(&server, "/").await;
    let other = Flow::begin(&server, "/").await;
    provider.says(|world| world.id_token = provider.key.token(&provider.claims(&flow)));
    provider.asked();
    for (query, cookie) in [
        ("code=c1".to_owned(), flow.cookie.as_str()),
        ("code=c1&state=".to_owned(), &flow.cookie),
        (format!("code=c1&state={}", "0".repeat(64)), &flow.cookie),
        (format!("code=c1&state={}", flow.state), ""),
        (format!("code=c1&state={0}&state={0}", flow.state), &flow.cookie),
        (format!("code=c1&state={}", other.state), &flow.cookie),
        (format!("error=x&error_description=%3Cb%3E&state={}", "0".repeat(64)), &flow.cookie),
    ] {
        let reply = visit(&server, &format!("/sign-in/oidc/callback?{query}"), cookie).await;
        refused(&reply, 400, "begin again");
        assert!(!reply.body.contains("&lt;b&gt;"), "nobody else puts words on this page: {reply:?}");
    }
    assert!(provider.asked().is_empty(), "the provider was not asked");
    // Each of those but the ones of another state left this one as it was.
    let done = flow.back(&server).await;
    assert!(session(&done).is_some(), "{done:?}");
    provider.asked();
    refused(&flow.back(&server).await, 400, "was used before");
    assert!(provider.asked().is_empty(), "a code is not sent twice");

    let mixed = Flow::begin(&server, "/").await;
    let path = format!("/sign-in/oidc/callback?code=c1&state={}&iss=https://evil.example", mixed.state);
    refused(&visit(&server, &path, &mixed.cookie).await, 502, "does not come from Corp");
}

#[tokio::test]
async fn what_the_provider_says_instead_of_a_code_is_text() {
    let provider = Provider::start();
    let server = provider.checkrein("").await;
    let flow = Flow::begin(&server, "/").await;
    let path = format!(
        "/sign-in/oidc/callback?error=access_denied&error_description=%3Cscript%3Ealert(1)%3C/script%3E%0A%E2%80%AE{}&state={}",
        "x".repeat(2000),
        flow.state
    );
    let reply = visit(&server, &path, &flow.cookie).await;
    refused(&reply, 403, "access_denied");
    assert!(!reply.body.contains("<script>alert") && reply.body.contains("script"), "{reply:?}");
    assert!(!reply.body.contains(&"x".repeat(400)) && !reply.body.contains('\u{202E}'), "{reply:?}");
}

#[tokio::test]
async fn a_provider_that_does_not_work_lets_nobody_in_and_keys_do() {
    let long = Said::new(200, format!("{{\"issuer\":\"{}\"}}", "x".repeat(100_000)));
    let moved = Said::new(302, "").header("location", "http://127.0.0.1:9/");
    for (act, why) in [
        (Act::Reply(long), "was not read to its end"),
        (Act::Reply(moved), "redirects, which is not followed"),
        (Act::Reply(Said::new(200, "<html>")), "not what OpenID Connect says"),
        (Act::Reply(Said::new(500, "<b>down</b>")), "answered 500: &lt;b&gt;down"),
        (Act::Hang(Duration::from_secs(20)), "did not answer in time"),
        (Act::Slow(Duration::from_millis(300)), "did not answer in time"),
        (Act::Close, "cannot reach"),
    ] {
        let provider = Provider::start();
        let limit = if why.contains("in time") { "timeout = \"500ms\"" } else { "timeout = \"60s\"" };
        let server = provider.checkrein(limit).await;
        provider.receiver.script([act]);
        refused(&visit(&server, "/sign-in/oidc?next=/", "").await, 502, why);
        assert!(session(&with_key(&server).await).is_some(), "{why}");
    }
    for (described, why) in [
        (json!({"issuer": "https://evil.example"}), "calls itself `https://evil.example`"),
        (
            json!({"authorization_endpoint": "javascript:alert(1)"}),
            "authorization_endpoint that cannot be used",
        ),
        (json!({"token_endpoint": "file:///etc/passwd"}), "token_endpoint that cannot be used"),
        (json!({"token_endpoint_auth_methods_supported": ["private_key_jwt"]}), "takes no `client_secret`"),
        (json!({"jwks_uri": null}), "not what OpenID Connect says"),
    ] {
        let provider = Provider::start();
        let server = provider.checkrein("").await;
        provider.says(|world| world.description = described);
        refused(&visit(&server, "/sign-in/oidc?next=/", "").await, 502, why);
    }
}

#[tokio::test]
async fn a_code_that_is_not_exchanged_lets_nobody_in() {
    let provider = Provider::start();
    let server = provider.checkrein("").await;
    let moved = Said::new(307, "").header("location", "/elsewhere");
    let echo =
        Said::new(400, format!("{{\"error\":\"invalid_grant <i>\",\"was\":\"{}\"}}", provider::SECRET));
    for (said, why) in [
        (moved, "redirects, which is not followed"),
        (echo, "invalid_grant &lt;i&gt;"),
        (Said::new(200, "{}"), "not what OpenID Connect says"),
        (Said::new(200, "{\"id_token\":\"x.y.z\"}"), "cannot be read"),
        (Said::new(200, format!("{{\"id_token\":\"{}\"}}", "x".repeat(70_000))), "was not read to its end"),
    ] {
        let flow = Flow::begin(&server, "/").await;
        provider.asked();
        provider.receiver.answers([said]);
        let reply = flow.back(&server).await;
        refused(&reply, 502, why);
        // The page writes `'` otherwise.
        for shown in [provider::SECRET, &provider::SECRET.replace('\'', "&#39;"), "secret of 32 bytes"] {
            assert!(!reply.body.contains(shown), "{reply:?}");
        }
        let asked = provider.asked();
        assert!(
            asked.iter().all(|path| path == "/token" || path == "/jwks"),
            "nothing is followed: {asked:?}"
        );
    }
}

#[tokio::test]
async fn a_secret_goes_where_the_provider_takes_it() {
    let provider = Provider::start();
    provider.says(|world| {
        world.description = json!({"token_endpoint_auth_methods_supported": ["client_secret_post"]});
    });
    let server = provider.checkrein("").await;
    assert!(session(&provider.sign_in(&server, |_| ()).await).is_some());
    let asked = provider.receiver.take();
    let exchanged = asked.iter().find(|request| request.path == "/token").unwrap();
    assert!(exchanged.header("authorization").is_none());
    assert!(exchanged.text().contains("client_secret=the+client"), "{exchanged:?}");
}

/// Whoever came in by what the configuration said has to come in by what it says now.
#[tokio::test]
async fn a_changed_configuration_ends_the_sessions_that_it_let_in() {
    let provider = Provider::start();
    let server = provider.checkrein("").await;
    let cookie = session(&provider.sign_in(&server, |_| ()).await).unwrap();
    let toml = provider.toml("http://127.0.0.1:7070", "");
    let path = server.dir.path().to_owned();
    server.app.reload(&config(&path, &toml)).await.unwrap();
    assert_eq!(visit(&server, "/", &cookie).await.status, 200, "nothing has changed");
    let open = Flow::begin(&server, "/").await;
    let less = toml.replace("ops = \"operator\", ", "");
    server.app.reload(&config(&path, &less)).await.unwrap();
    assert_eq!(visit(&server, "/", &cookie).await.status, 303);
    refused(&open.back(&server).await, 400, "begin again");
    refused(&provider.sign_in(&server, |_| ()).await, 403, "has no role here");
    server.app.reload(&config(&path, "")).await.unwrap();
    assert_eq!(visit(&server, "/sign-in/oidc", "").await.status, 404);
    assert!(!visit(&server, "/sign-in", "").await.body.contains("Corp"));
}

/// Behind a proxy that does TLS, a cookie counts only if the browser took it from this host over TLS.
#[tokio::test]
async fn over_tls_every_cookie_is_bound_to_the_host() {
    let provider = Provider::start();
    let server = Server::on(provider.folder(), &provider.toml("https://127.0.0.1:7070", "")).await;
    let flow = Flow::begin(&server, "/").await;
    assert!(flow.cookie.starts_with("__Host-checkrein-sign-in="), "{}", flow.cookie);
    let plain = flow.cookie.replace("__Host-", "");
    let path = format!("/sign-in/oidc/callback?code=c1&state={}", flow.state);
    refused(&visit(&server, &path, &plain).await, 400, "begin again");
    let cookie = session(&provider.sign_in(&server, |_| ()).await).unwrap();
    assert!(cookie.starts_with("__Host-checkrein="), "{cookie}");
    assert_eq!(visit(&server, "/", &cookie).await.status, 200);
    assert_eq!(visit(&server, "/", &cookie.replace("__Host-", "")).await.status, 303);
}

#[tokio::test]
async fn a_server_that_does_tls_takes_no_other_cookie() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["cert.pem", "key.pem"] {
        std::fs::write(dir.path().join(file), "").unwrap();
    }
    // The test speaks to it without, as a proxy would.
    let server = Server::on(dir, "[server]\ntls = { cert = \"cert.pem\", key = \"key.pem\" }\n").await;
    let cookie = session(&with_key(&server).await).unwrap();
    assert!(cookie.starts_with("__Host-checkrein="), "{cookie}");
    assert_eq!(visit(&server, "/", &cookie).await.status, 200);
    assert_eq!(visit(&server, "/", &cookie.replace("__Host-", "")).await.status, 303);
}

/// Somebody signs in with a key.
async fn with_key(server: &Server) -> Reply {
    let form = format!("key={}&next=/", crate::common::ADMIN);
    let text = format!(
        "POST /sign-in HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         content-length: {}\r\n\r\n{form}",
        form.len()
    );
    server.raw(text.as_bytes()).await
}
