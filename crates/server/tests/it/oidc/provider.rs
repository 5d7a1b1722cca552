//! A provider of OpenID Connect that says what a test wants it to, and a browser that signs in with it.

use crate::common::{Reply, Server};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use checkrein_testbed::receivers::scripted::{Receiver, Reply as Said, Request};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

pub(super) const SECRET: &str = "the client's secret of 32 bytes!";

/// What signs, and what it is called.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) kid: String,
    pair: Arc<EcdsaKeyPair>,
}

impl Key {
    pub(super) fn new(kid: &str) -> Self {
        let (curve, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let der = EcdsaKeyPair::generate_pkcs8(curve, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(curve, der.as_ref(), &random).unwrap();
        Self { kid: kid.to_owned(), pair: Arc::new(pair) }
    }

    pub(super) fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    pub(super) fn jwk(&self) -> Value {
        let (x, y) = (BASE64.encode(&self.public()[1..33]), BASE64.encode(&self.public()[33..]));
        json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.kid, "x": x, "y": y})
    }

    /// A token with this header and these claims, signed.
    pub(super) fn sign(&self, header: &Value, claims: &Value) -> String {
        let said = [header, claims].map(|part| BASE64.encode(part.to_string())).join(".");
        let signature = self.pair.sign(&SystemRandom::new(), said.as_bytes()).unwrap();
        format!("{said}.{}", BASE64.encode(signature))
    }

    pub(super) fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"alg": "ES256", "typ": "JWT", "kid": self.kid}), claims)
    }
}

/// What it says. A test changes it.
#[derive(Clone, Default)]
pub(super) struct World {
    /// Its description differs in these.
    pub(super) description: Value,
    pub(super) keys: Vec<Value>,
    pub(super) id_token: String,
    pub(super) userinfo: Value,
}

pub(super) struct Provider {
    pub(super) receiver: Receiver,
    pub(super) world: Arc<Mutex<World>>,
    pub(super) key: Key,
}

impl Provider {
    pub(super) fn start() -> Self {
        let key = Key::new("first");
        let world = World { keys: vec![key.jwk()], ..World::default() };
        let world = Arc::new(Mutex::new(world));
        let contract = Arc::clone(&world);
        let receiver = Receiver::start(move |request| answer(&contract.lock().unwrap(), request));
        Self { receiver, world, key }
    }

    pub(super) fn issuer(&self) -> String {
        self.receiver.url()
    }

    pub(super) fn says(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.world.lock().unwrap());
    }

    /// Checkrein with this provider; `more` are further lines of its section.
    pub(super) async fn checkrein(&self, more: &str) -> Server {
        Server::on(self.folder(), &self.toml("http://127.0.0.1:7070", more)).await
    }

    pub(super) fn folder(&self) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secret"), SECRET).unwrap();
        dir
    }

    pub(super) fn toml(&self, public_url: &str, more: &str) -> String {
        format!(
            "[server]\npublic_url = \"{public_url}\"\n[console.oidc]\nissuer = \"{}\"\nclient_id = \"checkrein\"\n\
             client_secret = {{ file = \"secret\" }}\nname = \"Corp\"\nallow_private = true\nroles_claim = \"groups\"\n\
             roles = {{ ops = \"operator\", admins = \"admin\" }}\n{more}\n",
            self.issuer()
        )
    }

    /// Good claims for this sign-in.
    pub(super) fn claims(&self, flow: &Flow) -> Value {
        json!({
            "iss": self.issuer(), "aud": "checkrein", "sub": "user-1", "nonce": flow.nonce, "iat": now(),
            "exp": now() + 300, "email": "ann@example.com", "email_verified": true, "groups": ["staff", "ops"],
        })
    }

    /// Somebody signs in; `change` is what is odd about the claims.
    pub(super) async fn sign_in(&self, server: &Server, change: impl FnOnce(&mut Value)) -> Reply {
        let flow = Flow::begin(server, "/approvals").await;
        let mut claims = self.claims(&flow);
        change(&mut claims);
        self.says(|world| world.id_token = self.key.token(&claims));
        flow.back(server).await
    }

    /// The paths that were asked for since the last call.
    pub(super) fn asked(&self) -> Vec<String> {
        self.receiver.take().into_iter().map(|request| request.path).collect()
    }
}

fn answer(world: &World, request: &Request) -> Said {
    let base = format!("http://{}", request.header("host").unwrap());
    let said = match request.path.as_str() {
        "/.well-known/openid-configuration" => {
            let mut described = json!({
                "issuer": base, "authorization_endpoint": format!("{base}/auth?kept=yes"),
                "token_endpoint": format!("{base}/token"), "jwks_uri": format!("{base}/jwks"),
                "userinfo_endpoint": format!("{base}/me"), "response_types_supported": ["code"],
            });
            for (name, value) in world.description.as_object().into_iter().flatten() {
                described[name] = value.clone();
            }
            described
        }
        "/jwks" => json!({ "keys": world.keys }),
        "/token" => {
            json!({"id_token": world.id_token, "access_token": "at-1234567890", "token_type": "Bearer"})
        }
        "/me" if request.header("authorization") == Some("Bearer at-1234567890") => world.userinfo.clone(),
        _ => return Said::new(404, "no"),
    };
    Said::new(200, said.to_string())
}

pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A sign-in that a browser has begun.
pub(super) struct Flow {
    /// What the provider was asked with.
    pub(super) asked: HashMap<String, String>,
    pub(super) state: String,
    pub(super) nonce: String,
    /// `name=value`
    pub(super) cookie: String,
}

impl Flow {
    pub(super) async fn begin(server: &Server, next: &str) -> Self {
        let reply = visit(server, &format!("/sign-in/oidc?next={next}"), "").await;
        assert_eq!(reply.status, 303, "{reply:?}");
        let to = url::Url::parse(header(&reply, "location").unwrap()).unwrap();
        let asked: HashMap<_, _> = to.query_pairs().into_owned().collect();
        let cookie = header(&reply, "set-cookie").unwrap().split(';').next().unwrap().to_owned();
        Self { state: asked["state"].clone(), nonce: asked["nonce"].clone(), asked, cookie }
    }

    /// The provider sends the browser back.
    pub(super) async fn back(&self, server: &Server) -> Reply {
        visit(server, &format!("/sign-in/oidc/callback?code=c1&state={}", self.state), &self.cookie).await
    }
}

pub(super) async fn visit(server: &Server, path: &str, cookie: &str) -> Reply {
    let cookie = if cookie.is_empty() { String::new() } else { format!("cookie: {cookie}\r\n") };
    let text = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1:7070\r\nconnection: close\r\n{cookie}\r\n");
    server.raw(text.as_bytes()).await
}

/// Whoever has this session sends a form of the page `on` to `path`, with these further `fields`.
pub(super) async fn submit(server: &Server, on: &str, path: &str, cookie: &str, fields: &str) -> Reply {
    let page = visit(server, on, cookie).await;
    let (_, token) = page.body.split_once("name=\"token\" value=\"").unwrap_or_else(|| panic!("{page:?}"));
    let form = format!("token={}{fields}", token.split('"').next().unwrap());
    let text = format!(
        "POST {path} HTTP/1.1\r\nhost: 127.0.0.1:7070\r\nconnection: close\r\ncookie: {cookie}\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    );
    server.raw(text.as_bytes()).await
}

pub(super) fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    let lines = reply.headers.lines().filter_map(|line| line.split_once(": "));
    lines.into_iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// The cookie of the session that an answer opens, as `name=value`.
pub(super) fn session(reply: &Reply) -> Option<String> {
    let set = reply.headers.lines().filter_map(|line| line.split_once(": "));
    let set = set.filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie")).map(|(_, value)| value);
    let pairs = set.filter_map(|value| value.split(';').next()).map(str::to_owned);
    pairs.into_iter().find(|pair| {
        pair.split_once('=').is_some_and(|(name, value)| name.ends_with("checkrein") && !value.is_empty())
    })
}
