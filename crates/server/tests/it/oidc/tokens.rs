//! Tokens that must not let anybody in, and people who may not come in.

use super::{
    provider::{Flow, Key, Provider, SECRET, now, session, visit},
    refused,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ring::hmac;
use serde_json::{Value, json};

#[tokio::test]
async fn a_token_that_says_something_else_lets_nobody_in() {
    let provider = Provider::start();
    let server = provider.checkrein("").await;
    assert!(session(&provider.sign_in(&server, |_| ()).await).is_some(), "a good one does");
    for (claim, value, why) in [
        ("iss", json!("https://evil.example"), "comes from another provider"),
        ("iss", json!([provider.issuer()]), "comes from another provider"),
        ("iss", Value::Null, "lacks one of"),
        ("aud", json!("another"), "made for somebody else"),
        ("aud", json!(["another"]), "made for somebody else"),
        ("aud", json!(["checkrein", "another"]), "somebody else (`azp`)"),
        ("aud", Value::Null, "lacks one of"),
        ("azp", json!("another"), "somebody else (`azp`)"),
        ("exp", json!(now() - 120), "is over"),
        ("exp", json!("9999999999"), "lacks one of"),
        ("exp", Value::Null, "lacks one of"),
        ("nbf", json!(now() + 600), "does not hold yet"),
        ("iat", json!(now() + 600), "in the future"),
        ("iat", Value::Null, "does not say when it was made"),
        ("nonce", json!("0".repeat(64)), "belongs to another sign-in"),
        ("nonce", Value::Null, "does not say which sign-in"),
        ("sub", Value::Null, "lacks one of"),
    ] {
        let reply = provider.sign_in(&server, |claims| claims[claim] = value.clone()).await;
        refused(&reply, 502, why);
    }
    let leeway = provider.sign_in(&server, |claims| claims["exp"] = json!(now() - 20)).await;
    assert!(session(&leeway).is_some(), "clocks may differ by a little: {leeway:?}");
    let several = |claims: &mut Value| {
        claims["aud"] = json!(["checkrein", "another"]);
        claims["azp"] = json!("checkrein");
    };
    assert!(session(&provider.sign_in(&server, several).await).is_some());
}

#[tokio::test]
async fn a_token_that_the_provider_did_not_sign_lets_nobody_in() {
    let provider = Provider::start();
    let (first, encrypts) = (provider.key.clone(), Key::new("encrypts"));
    let mut jwk = encrypts.jwk();
    jwk["use"] = json!("enc");
    let shared = json!({"kty": "oct", "alg": "HS256", "kid": "shared", "k": BASE64.encode("x")});
    provider.says(|world| world.keys.extend([jwk, shared, json!({"kty": "new"}), json!(7)]));
    let server = provider.checkrein("").await;
    let hs256 = |kid: &str, secret: &[u8], claims: &Value| {
        let header = json!({"alg": "HS256", "kid": kid});
        let said = [&header, claims].map(|part| BASE64.encode(part.to_string())).join(".");
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), said.as_bytes());
        format!("{said}.{}", BASE64.encode(mac))
    };
    type Forge<'a> = Box<dyn Fn(&Value) -> String + 'a>;
    let header = json!({"alg": "ES256", "kid": "first"});
    let forged: Vec<(&str, Forge<'_>)> = vec![
        (
            "not signed in a way",
            Box::new(|claims| {
                let part = |value: &Value| BASE64.encode(value.to_string());
                format!("{}.{}.", part(&json!({"alg": "none"})), part(claims))
            }),
        ),
        ("shared secret", Box::new(|claims| hs256("first", first.public(), claims))),
        ("shared secret", Box::new(|claims| hs256("first", SECRET.as_bytes(), claims))),
        ("shared secret", Box::new(|claims| hs256("shared", b"x", claims))),
        ("none of its keys", Box::new(|claims| Key::new("first").token(claims))),
        ("none of its keys", Box::new(|claims| Key::new("elsewhere").token(claims))),
        ("none of its keys", Box::new(|claims| encrypts.token(claims))),
        ("none of its keys", Box::new(|claims| first.sign(&json!({"alg": "ES384", "kid": "first"}), claims))),
        ("none of its keys", Box::new(|claims| first.sign(&json!({"alg": "RS256", "kid": "first"}), claims))),
        (
            "demands what is not known",
            Box::new(|claims| first.sign(&json!({"alg": "ES256", "kid": "first", "crit": ["exp"]}), claims)),
        ),
        (
            "none of its keys",
            Box::new(|claims| {
                let token = first.sign(&header, claims);
                let mut parts: Vec<_> = token.split('.').collect();
                let mut more = claims.clone();
                more["groups"] = json!(["admins"]);
                let more = BASE64.encode(more.to_string());
                parts[1] = &more;
                parts.join(".")
            }),
        ),
        (
            "none of its keys",
            Box::new(|claims| first.sign(&header, claims).rsplit_once('.').unwrap().0.to_owned() + "."),
        ),
    ];
    for (number, (why, forge)) in forged.iter().enumerate() {
        let flow = Flow::begin(&server, "/").await;
        let token = forge(&provider.claims(&flow));
        provider.says(|world| world.id_token = token);
        let reply = flow.back(&server).await;
        assert!(reply.body.contains(why), "forged token {number}: {reply:?}");
        refused(&reply, 502, why);
    }
    assert!(session(&provider.sign_in(&server, |_| ()).await).is_some());
}

#[tokio::test]
async fn keys_that_have_changed_are_read_again_once_a_sign_in() {
    let provider = Provider::start();
    let server = provider.checkrein("").await;
    assert!(session(&provider.sign_in(&server, |_| ()).await).is_some());
    let second = Key::new("second");
    let sign_in = async || {
        let flow = Flow::begin(&server, "/").await;
        let token = second.token(&provider.claims(&flow));
        provider.says(|world| world.id_token = token);
        provider.asked();
        flow.back(&server).await
    };
    refused(&sign_in().await, 502, "signed with none of its keys");
    assert_eq!(provider.asked(), ["/token", "/jwks"]);
    provider.says(|world| world.keys = vec![second.jwk()]);
    assert!(session(&sign_in().await).is_some(), "read again");
    assert_eq!(provider.asked(), ["/token", "/jwks"]);
    assert!(session(&sign_in().await).is_some());
    assert_eq!(provider.asked(), ["/token"], "and kept");
    refused(&provider.sign_in(&server, |_| ()).await, 502, "signed with none of its keys");
}

#[tokio::test]
async fn only_whom_the_configuration_names_comes_in() {
    let provider = Provider::start();
    let server = provider.checkrein("").await;
    for (claim, value, why) in [
        ("groups", json!(["staff"]), "has no role here"),
        ("groups", json!([]), "has no role here"),
        ("groups", json!({"ops": true}), "has no role here"),
        ("groups", json!(["OPS", ["ops"], null, 7]), "has no role here"),
        ("groups", json!("ops,admins"), "has no role here"),
        ("email_verified", json!(false), "was verified"),
        ("email_verified", json!("true"), "was verified"),
        ("email", json!("ann\u{200B}@example.com"), "what you are called"),
        ("email", json!(" "), "what you are called"),
        ("email", json!(["ann@example.com"]), "what you are called"),
        ("email", json!("a".repeat(300)), "what you are called"),
        ("sub", json!("a\nb"), "who you are"),
    ] {
        refused(&provider.sign_in(&server, |claims| claims[claim] = value.clone()).await, 403, why);
    }
    for (groups, role) in [(json!("ops"), "operator"), (json!(["ops", "admins"]), "admin")] {
        let reply = provider.sign_in(&server, |claims| claims["groups"] = groups).await;
        let page = visit(&server, "/", &session(&reply).unwrap()).await;
        assert!(page.body.contains(&format!("oidc:ann@example.com <small>{role}")), "{page:?}");
    }
}

#[tokio::test]
async fn claims_may_lie_deeper_and_the_provider_is_asked_for_what_is_missing() {
    let provider = Provider::start();
    let more = "person_claim = \"preferred_username\"";
    let server = provider.checkrein(more).await;
    let without = |claims: &mut Value| {
        claims.as_object_mut().unwrap().retain(|name, _| name != "groups" && !name.starts_with("email"));
    };
    provider.says(|world| {
        world.userinfo = json!({"sub": "user-1", "preferred_username": "ann", "groups": ["ops"], "iss": "x"});
    });
    let reply = provider.sign_in(&server, without).await;
    let page = visit(&server, "/", &session(&reply).unwrap()).await;
    assert!(page.body.contains("oidc:ann <small>operator"), "{page:?}");
    for (userinfo, status, why) in [
        (
            json!({"sub": "user-2", "preferred_username": "bob", "groups": ["ops"]}),
            502,
            "answers for somebody else",
        ),
        (json!({"preferred_username": "bob", "groups": ["ops"]}), 502, "answers for somebody else"),
        (json!({"sub": "user-1", "preferred_username": "ann"}), 403, "has no role here"),
        (json!(["sub"]), 502, "not what OpenID Connect says"),
    ] {
        provider.says(|world| world.userinfo = userinfo);
        refused(&provider.sign_in(&server, without).await, status, why);
    }
    let toml = provider.toml("http://127.0.0.1:7070", "").replace("\"groups\"", "\"/realm~1access/roles\"");
    let deep = super::Server::on(provider.folder(), &toml).await;
    let reply = provider.sign_in(&deep, |claims| claims["realm/access"] = json!({"roles": ["admins"]})).await;
    let page = visit(&deep, "/", &session(&reply).unwrap()).await;
    assert!(page.body.contains("<small>admin"), "{page:?}");
}

/// One address does not verify another.
#[tokio::test]
async fn an_address_is_verified_by_whoever_says_it() {
    let provider = Provider::start();
    let server = provider.checkrein("").await;
    let unverified = |claims: &mut Value| drop(claims.as_object_mut().unwrap().remove("email_verified"));
    for (email, comes_in) in [("bob@example.com", false), ("ann@example.com", true)] {
        provider.says(|world| {
            world.userinfo = json!({"sub": "user-1", "email": email, "email_verified": true});
        });
        let reply = provider.sign_in(&server, unverified).await;
        assert_eq!(session(&reply).is_some(), comes_in, "{reply:?}");
    }
}
