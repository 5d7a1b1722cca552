//! Many sign-ins at a time, how long one lasts, and how it ends.

use super::{
    provider::{Flow, Provider, header, session, submit, visit},
    refused,
};
use crate::common::config;
use checkrein_testbed::receivers::scripted::Act;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

/// Whoever sends codes that lead nowhere costs nobody else their sign-in.
#[tokio::test]
async fn a_sign_in_waits_for_its_turn_and_is_not_used_up() {
    let provider = Provider::start();
    let server = provider.checkrein("timeout = \"60s\"").await;
    let flow = Flow::begin(&server, "/agents").await;
    provider.says(|world| world.id_token = provider.key.token(&provider.claims(&flow)));
    provider.asked();
    provider.receiver.script((0..64).map(|_| Act::Hang(Duration::from_secs(60))));
    let mut crowd = Vec::new();
    for _ in 0..64 {
        let bogus = Flow::begin(&server, "/").await;
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        let text = format!(
            "GET /sign-in/oidc/callback?code=x&state={} HTTP/1.1\r\nhost: 127.0.0.1:7070\r\ncookie: {}\r\n\r\n",
            bogus.state, bogus.cookie
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        crowd.push(stream);
    }
    let mut asked = 0;
    let deadline = Instant::now() + Duration::from_secs(60);
    while asked < 64 {
        assert!(Instant::now() < deadline, "{asked} of 64 codes reached the provider");
        asked += provider.asked().iter().filter(|path| *path == "/token").count();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let busy = flow.back(&server).await;
    refused(&busy, 503, "too many people sign in at this moment; reload this page");
    assert_eq!(header(&busy, "set-cookie"), None, "the browser keeps what the sign-in needs: {busy:?}");
    let reloads = flow.back(&server);
    let others_go = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        drop(crowd);
    };
    let (done, ()) = tokio::join!(reloads, others_go);
    assert!(session(&done).is_some(), "{done:?}");
    assert_eq!(header(&done, "location"), Some("/agents"));
}

#[tokio::test]
async fn a_session_ends_when_the_configuration_says() {
    let provider = Provider::start();
    let server = provider.checkrein("").await;
    let mut config = config(server.dir.path(), &provider.toml("http://127.0.0.1:7070", ""));
    // Shorter than a file may say, so that a test can wait for it.
    let life = Duration::from_secs(2);
    config.oidc.as_mut().unwrap().session_ends_after = life;
    server.app.reload(&config).await.unwrap();
    let began = Instant::now();
    let cookie = session(&provider.sign_in(&server, |_| ()).await).unwrap();
    // It ends although somebody uses it all the time.
    while visit(&server, "/", &cookie).await.status == 200 {
        assert!(began.elapsed() < Duration::from_secs(60), "it does not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(began.elapsed() >= life, "{:?}", began.elapsed());
    let over = visit(&server, "/", &cookie).await;
    assert_eq!((over.status, header(&over, "location")), (303, Some("/sign-in?next=%2F")), "{over:?}");
}

/// RFC 9207: a provider that says that it names itself does so in every answer.
#[tokio::test]
async fn an_answer_without_a_name_is_not_of_a_provider_that_names_itself() {
    let provider = Provider::start();
    provider.says(|world| {
        world.description = json!({"authorization_response_iss_parameter_supported": true});
    });
    let server = provider.checkrein("").await;
    let flow = Flow::begin(&server, "/").await;
    provider.asked();
    refused(&flow.back(&server).await, 502, "does not come from Corp");
    assert!(provider.asked().is_empty(), "the code goes nowhere");
    let flow = Flow::begin(&server, "/").await;
    provider.says(|world| world.id_token = provider.key.token(&provider.claims(&flow)));
    let path = format!("/sign-in/oidc/callback?code=c1&state={}&iss={}", flow.state, provider.issuer());
    assert!(session(&visit(&server, &path, &flow.cookie).await).is_some());
}

#[tokio::test]
async fn signing_out_leads_to_the_provider_if_it_has_a_place_for_that() {
    let provider = Provider::start();
    let there = format!("{}/end?kept=yes", provider.issuer());
    for (end, leads) in [
        (json!(there), true),
        (json!(null), false),
        (json!("javascript:alert(1)"), false),
        (json!("not an address"), false),
    ] {
        provider.says(|world| world.description = json!({ "end_session_endpoint": end }));
        let server = provider.checkrein("").await;
        let cookie = session(&provider.sign_in(&server, |_| ()).await).unwrap();
        let out = submit(&server, "/agents", "/sign-out", &cookie, "").await;
        let over = visit(&server, "/agents", &cookie).await;
        assert_eq!((over.status, header(&over, "location")), (303, Some("/sign-in?next=%2Fagents")), "{end}");
        if !leads {
            assert_eq!((out.status, header(&out, "location")), (303, Some("/sign-in")), "{end}: {out:?}");
            continue;
        }
        let to = header(&out, "refresh").and_then(|value| value.strip_prefix("0; url=")).unwrap();
        let asked: Vec<_> = url::Url::parse(to).unwrap().query_pairs().into_owned().collect();
        let token = provider.world.lock().unwrap().id_token.clone();
        let expected = [("kept", "yes"), ("client_id", "checkrein"), ("id_token_hint", &token)]
            .map(|(n, v)| (n.into(), v.into()));
        assert_eq!((out.status, asked), (200, expected.to_vec()), "{out:?}");
        assert!(to.starts_with(&there) && out.body.contains("Sign out at Corp, too"), "{out:?}");
        // Also without whatever reads that header.
        assert!(out.body.contains(&format!("href=\"{}\"", to.replace('&', "&amp;"))), "{to}: {}", out.body);
    }
    // What is too long for an address stays out of it: the provider asks.
    provider.says(|world| world.description = json!({ "end_session_endpoint": there }));
    let server = provider.checkrein("").await;
    let long = |claims: &mut serde_json::Value| claims["more"] = json!("x".repeat(4096));
    let cookie = session(&provider.sign_in(&server, long).await).unwrap();
    let out = submit(&server, "/agents", "/sign-out", &cookie, "").await;
    assert_eq!(
        header(&out, "refresh"),
        Some(format!("0; url={there}&client_id=checkrein").as_str()),
        "{out:?}"
    );
}
