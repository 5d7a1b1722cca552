use super::{super::*, assert_one, folder, load, load_with, wrong};
use checkrein_core::key::Role;

const GOOD: &str = "[server]
public_url = 'https://checkrein.example.com'
[console.oidc]
issuer = 'https://accounts.example.com/realms/corp'
client_id = 'checkrein'
roles_claim = 'groups'
roles = { sre = 'operator', platform = 'admin' }
";

#[test]
fn every_key_is_read() {
    let more = "client_secret = { env = 'OIDC' }\nname = 'Corp'\nscopes = ['openid', 'groups']\nperson_claim = '/who/name'\n\
                session_ends_after = '30m'\ntimeout = '3s'\nallow_private = true\nproxy = { env = 'PROXY' }\n";
    let dir = folder(&[("checkrein.toml", &[GOOD, more].concat())]);
    let env = [("OIDC", "s3cret"), ("PROXY", "http://proxy.example:3128")];
    let oidc = load_with(&dir, Overrides::default(), &env).unwrap().oidc.unwrap();
    assert_eq!(
        (oidc.name.as_str(), oidc.person_claim.as_str(), oidc.roles_claim.as_str()),
        ("Corp", "/who/name", "groups")
    );
    assert_eq!(oidc.scopes, ["openid", "groups"]);
    assert_eq!((oidc.roles["sre"], oidc.roles["platform"]), (Role::Operator, Role::Admin));
    assert_eq!(oidc.session_ends_after, Duration::from_secs(1800));
    assert_eq!(oidc.redirect.as_str(), "https://checkrein.example.com/sign-in/oidc/callback");
    assert!(!format!("{oidc:?}").contains("s3cret"));
    let plain = load(GOOD).unwrap().oidc.unwrap();
    assert_eq!((plain.name.as_str(), plain.person_claim.as_str()), ("accounts.example.com", "email"));
    assert_eq!((plain.scopes.join(" "), plain.session_ends_after), ("openid email profile".to_owned(), HOUR));
    assert!(plain == load(GOOD).unwrap().oidc.unwrap() && plain != oidc);
}

#[test]
fn what_would_let_in_nobody_or_anybody_is_refused() {
    for (line, other, says) in [
        ("client_id = 'checkrein'\n", "", "client_id: is missing"),
        ("roles_claim = 'groups'\n", "", "roles_claim: is missing"),
        ("sre = 'operator', platform = 'admin'", "", "roles: names nobody"),
        ("'operator'", "'agent'", "`agent` is no role of people"),
        ("'operator'", "'Admin'", "`Admin` is no role of people"),
        ("'https://accounts", "'http://accounts", "issuer: http://accounts.example.com is without TLS"),
        ("accounts.example.com", "127.0.0.1", "is not a public address"),
        ("'https://accounts.example.com/realms/corp'", "'corp'", "issuer: \"corp\" is no URL"),
        ("/realms/corp", "/.well-known/openid-configuration", "leave /.well-known"),
        ("/realms/corp", "/?x=1", "is no issuer"),
        ("public_url = 'https://checkrein.example.com'\n", "", "needs [server] public_url"),
        ("'https://checkrein.example.com'", "'http://checkrein.example.com'", "must begin with https://"),
        ("client_id = ", "client_secret = 'x'\nclient_id = ", "is not written into"),
        ("client_id = ", "client_secret = { env = 'NONE' }\nclient_id = ", "NONE is not set"),
        ("client_id = ", "scopes = ['email']\nclient_id = ", "must have \"openid\""),
        ("client_id = ", "session_ends_after = '9h'\nclient_id = ", "is outside 1m to 8h"),
        ("client_id = ", "rolesclaim = 'x'\nclient_id = ", "did you mean `roles_claim`?"),
        ("[console.oidc]", "[console.oidc2]", "did you mean `oidc`?"),
    ] {
        let text = GOOD.replacen(line, other, 1);
        assert_ne!(text, GOOD, "{line}");
        let problems = wrong(&text);
        assert!(problems.len() == 1 && problems[0].contains(says), "{says}: {problems:#?}");
    }
    assert_one(
        &GOOD.replace("'https://checkrein.example.com'", "'http://10.0.0.1'"),
        "3: ",
        "must begin with https://",
    );
    for here in ["http://127.0.0.1:7070", "http://localhost:7070", "http://[::1]:7070"] {
        assert!(load(&GOOD.replace("https://checkrein.example.com", here)).is_ok(), "{here}");
    }
}
