mod again;
mod kept;
mod many;
mod model;
mod one_key;

use crate::{
    app::{App, Caller},
    config::{Config, Overrides},
};
use checkrein_api::{BreakerRequest, BreakerWanted, OutcomeReport};
use checkrein_core::{check::Check, event::OutcomeStatus};
use checkrein_store::{Options, Store};
use serde_json::{Value, json};
use std::sync::Arc;

const ADMIN: &str = "ck_admin_0123456789abcdef0123456789abcdef";

/// An application on a folder; the first of a restart or of a crash.
struct World {
    dir: tempfile::TempDir,
    toml: String,
    app: Arc<App>,
    admin: Arc<Caller>,
    checks: u64,
}

impl World {
    async fn new(toml: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (app, admin) = open(&dir, toml).await;
        Self { dir, toml: toml.to_owned(), app, admin, checks: 0 }
    }

    /// Starts again; after a crash without what was only in memory.
    async fn restart(&mut self, crash: bool) {
        let ahead = self.app.clock.now();
        if crash {
            self.app.store.close().await;
        } else {
            self.app.close().await;
        }
        (self.app, self.admin) = open(&self.dir, &self.toml).await;
        // Time goes on where it stood.
        self.app.clock.jump((ahead.as_micros() - self.app.clock.now().as_micros()).max(0) / 1_000_000);
    }

    async fn ask(&self, check: Value) -> Value {
        let check: Check = serde_json::from_value(check).unwrap();
        let answer = self.app.check(&self.admin, check).await.unwrap();
        serde_json::from_str(&answer.json).unwrap()
    }

    /// Something new each time, that nothing objects to.
    async fn act(&mut self, agent: &str, action: &str) -> Value {
        self.checks += 1;
        let n = self.checks;
        self.ask(json!({"agent": agent, "action": action, "resource": format!("t/{n}"),
            "payload": {"record_count": 1}}))
            .await
    }

    async fn ended(&self, id: &Value, status: OutcomeStatus, records: u64) {
        let report = OutcomeReport { status, records: Some(records), error: None };
        self.app.report_outcome(&self.admin, id.as_str().unwrap(), report).await.unwrap();
    }

    async fn set(&self, scope: &str, state: BreakerWanted) {
        let scope = self.app.breaker_scope(scope).unwrap();
        let request = BreakerRequest { state, reason: "a test".to_owned() };
        self.app.set_breaker(&self.admin, &scope, request).await.unwrap();
    }
}

async fn open(dir: &tempfile::TempDir, toml: &str) -> (Arc<App>, Arc<Caller>) {
    let file = dir.path().join("checkrein.toml");
    std::fs::write(&file, toml).unwrap();
    let data = Some(dir.path().join("data"));
    let overrides = Overrides { config: Some(file), data, ..Default::default() };
    let config = Config::load(&overrides, &|_| None).unwrap_or_else(|e| panic!("{e}"));
    let store = loop {
        // The lock of the one before goes with its last thread.
        match Store::open(Options::new(&config.data)) {
            Ok(store) => break store,
            Err(checkrein_store::StoreError::InUse { .. }) => tokio::task::yield_now().await,
            Err(e) => panic!("{e}"),
        }
    };
    let app = Arc::new(App::on(store, &config).await.unwrap());
    app.ensure_admin_key(Some(ADMIN)).await.unwrap();
    let admin = app.caller(ADMIN).unwrap();
    (app, admin)
}
