//! How long the console's pages take on a long log, against a short one.
//!
//! ```text
//! cargo bench -p checkrein-server --bench console -- [actions]
//! ```
//! Two stores are filled through the store itself, one with 3,000 actions and one with 1,000,000 (or as many as are
//! asked for); one action in fifty is held, another one in fifty has a snapshot, a third one uses a grant. Each page,
//! with each of its filters, is then asked for in turn from both servers, in this process and without a network, so that
//! a machine that is busy is busy for both. Medians, and their ratio.

#![expect(clippy::print_stdout, reason = "a benchmark prints")]

#[path = "../../store/tests/it/common.rs"]
#[expect(dead_code, reason = "shared with the tests of the store; this uses a part of it")]
mod common;

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use checkrein_api::RebuildRequest;
use checkrein_core::{
    approval::Answer,
    event::Event,
    grant::{self, Grant},
    snapshot::SnapshotRecord,
};
use checkrein_server::{
    app::App,
    config::{Config, Overrides},
    http,
};
use checkrein_store::{Options, Store};
use http_body_util::BodyExt as _;
use std::{error::Error, path::Path, sync::Arc, time::Instant};

type Res<T> = Result<T, Box<dyn Error>>;

const KEY: &str = "ck_admin_0123456789abcdef0123456789abcdef";
const ROUNDS: usize = 15;
/// Actions on the short log.
const SHORT: u64 = 3_000;
/// Seconds between two actions.
const EVERY: i64 = 5;
/// How often the agent acts that acts seldom.
const SELDOM: u64 = 10;

fn agent(n: u64, actions: u64) -> String {
    if n % (actions / SELDOM) == 7 { "rare-bot".to_owned() } else { format!("bot-{}", n % 40) }
}

fn with_body(events: &mut Vec<(Event, String)>, more: Vec<Event>) -> Res<()> {
    for event in more {
        let body = event.body()?;
        events.push((event, body));
    }
    Ok(())
}

fn snapshot(n: u64, agent: &str) -> Event {
    let check = format!("chk_{n:024x}");
    let record = common::snapshot(&format!("snp_{n:024x}"), agent, Some(&check));
    Event::SnapshotTaken(Box::new(SnapshotRecord { sealed: true, ..record }))
}

/// One that is given and, all but the last ones, used up.
fn grant(n: u64, agent: &str) -> Vec<Event> {
    let id = format!("grt_{n:024x}");
    let given =
        Grant { agent: common::name(agent), ..common::grant(&id, 1, common::at(n.cast_signed() * EVERY)) };
    let used = grant::Transition::Use { check_id: format!("chk_{n:024x}"), records: 1 };
    vec![Event::GrantGiven(Box::new(given)), Event::GrantChanged { id, transition: used }]
}

/// Fills the store in `dir`.
async fn fill(dir: &Path, actions: u64) -> Res<()> {
    let store = Store::open(Options::new(dir))?;
    let template = common::checked("chk_template", "agent-template", None);
    let body = Event::Check(Box::new(template.clone())).body()?;
    let then = template.decision.logged_at.to_string();
    let began = Instant::now();
    for first in (0..actions).step_by(500) {
        let mut events = Vec::with_capacity(560);
        let at = common::at(first.cast_signed() * EVERY).to_string();
        for n in first..(first + 500).min(actions) {
            let (id, agent) = (format!("chk_{n:024x}"), agent(n, actions));
            let body =
                body.replace("chk_template", &id).replace("agent-template", &agent).replace(&then, &at);
            let mut checked = template.clone();
            checked.decision.id = id;
            checked.action.agent = common::name(&agent);
            events.push((Event::Check(Box::new(checked)), body));
            if n % 50 == 11 {
                with_body(&mut events, vec![snapshot(n, &agent)])?;
            }
            if n % 50 == 13 {
                with_body(&mut events, grant(n, &agent))?;
            }
            if n % 50 == 7 {
                let mut approval = common::approval(&format!("apr_{n:024x}"), &format!("chk_{n:024x}"));
                approval.action.agent = common::name(&agent);
                approval.requested_at = common::at(n.cast_signed() * EVERY);
                approval.expires_at = approval.requested_at.plus_seconds(86_400);
                let id = approval.id.clone();
                let asked = Event::ApprovalRequested(Box::new(approval));
                let answered = common::decided(&id, Answer::Deny);
                with_body(
                    &mut events,
                    std::iter::once(asked).chain((n + 100 < actions).then_some(answered)).collect(),
                )?;
            }
        }
        store.append_written(events, common::at(first.cast_signed() * EVERY)).await?;
        if first % 100_000 == 0 && first > 0 {
            println!("  {first} of {actions} actions after {} s", began.elapsed().as_secs());
        }
    }
    store.close().await;
    Ok(())
}

struct Site {
    api: http::Api,
    cookie: String,
    actions: u64,
    app: Arc<App>,
}

impl Site {
    async fn open(dir: &Path, actions: u64) -> Res<Self> {
        let data = dir.join("data");
        fill(&data, actions).await?;
        std::fs::write(dir.join("checkrein.toml"), "")?;
        let overrides =
            Overrides { config: Some(dir.join("checkrein.toml")), data: Some(data), ..Default::default() };
        let config = Config::load(&overrides, &|_: &str| None)?;
        let app = Arc::new(App::open(&config).await?);
        app.ensure_admin_key(Some(KEY)).await?;
        // What each agent normally does, as it would be known had the actions been checked one by one.
        app.rebuild(&*app.caller(KEY)?, RebuildRequest::default()).await?;
        let api = http::Api::new(Arc::clone(&app));
        let form = Request::post("/sign-in").body(Body::from(format!("key={KEY}")))?;
        let answer = api.clone().answer(form).await;
        let cookie = answer.headers().get(header::SET_COOKIE).ok_or("nobody is signed in")?.to_str()?;
        let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
        Ok(Self { api, cookie, actions, app })
    }

    /// The pages, those of one thing for one in the middle of the log.
    fn pages(&self) -> Vec<(&'static str, String)> {
        let held = (self.actions / 2 / 50 * 50 + 7).min(self.actions - 1);
        let (check, approval) = (format!("chk_{held:024x}"), format!("apr_{held:024x}"));
        let snapshot = format!("snp_{:024x}", held + 4);
        let middle = self.actions / 2;
        let until = common::at(middle.cast_signed() * EVERY);
        vec![
            ("now", "/".to_owned()),
            ("approval", format!("/approvals/{approval}")),
            ("approvals", "/approvals".to_owned()),
            ("approvals that wait", "/approvals?state=pending".to_owned()),
            ("approvals denied", "/approvals?state=denied".to_owned()),
            ("approvals expired: none", "/approvals?state=expired".to_owned()),
            ("approvals of one agent", "/approvals?agent=rare-bot".to_owned()),
            ("approvals of some agents", "/approvals?agent=rare-*".to_owned()),
            ("approvals of no agent", "/approvals?agent=no*&state=denied".to_owned()),
            ("approvals of one, none", "/approvals?agent=bot-7&state=expired".to_owned()),
            ("approvals of many agents", "/approvals?agent=*7&state=denied".to_owned()),
            ("approvals, the middle", format!("/approvals?cursor={middle}")),
            ("grants", "/grants".to_owned()),
            ("grants that are over", "/grants?all=1".to_owned()),
            ("grants of no agent", "/grants?all=1&agent=no*".to_owned()),
            ("actions", "/actions".to_owned()),
            ("actions, nothing found", "/actions?verdict=hold".to_owned()),
            ("actions of a category", "/actions?category=read".to_owned()),
            ("actions of a kind", "/actions?action=delete*".to_owned()),
            ("actions on a resource", "/actions?resource=nowhere.*".to_owned()),
            ("actions of an agent", "/actions?agent=rare-bot".to_owned()),
            (
                "actions, every filter",
                format!("/actions?agent=b*&verdict=hold&category=write&action=*e&resource=*s&until={until}"),
            ),
            ("actions until a time", format!("/actions?until={until}")),
            ("actions, the middle", format!("/actions?cursor={middle}")),
            ("action", format!("/actions/{check}")),
            ("action with a snapshot", format!("/actions/{}", snapshot.replace("snp_", "chk_"))),
            ("agents", "/agents".to_owned()),
            ("agents of a name", "/agents?agent=*-39".to_owned()),
            ("agent that acts seldom", "/agents/rare-bot".to_owned()),
            ("agent that acts often", "/agents/bot-1".to_owned()),
            ("agent, nothing found", "/agents/bot-1?verdict=hold".to_owned()),
            ("agent that never acted", "/agents/nobody".to_owned()),
            ("policies", "/policies".to_owned()),
            ("snapshots", "/snapshots".to_owned()),
            ("snapshots of an agent", "/snapshots?agent=rare-bot".to_owned()),
            ("snapshots of no agent", "/snapshots?agent=no*".to_owned()),
            ("snapshots of no target", "/snapshots?target=nowhere".to_owned()),
            ("snapshots that are gone", "/snapshots?state=removed".to_owned()),
            ("snapshots, the middle", format!("/snapshots?cursor={middle}")),
            ("snapshot", format!("/snapshots/{snapshot}")),
            ("sinks", "/sinks".to_owned()),
            ("silences", "/silences".to_owned()),
            ("log", "/log".to_owned()),
            ("log of one kind", "/log?kind=approval.changed".to_owned()),
            ("log of checks", "/log?kind=check".to_owned()),
            ("log of a kind: none", "/log?kind=key.revoked".to_owned()),
            ("log, the middle", format!("/log?before={middle}")),
            ("log, a check found", format!("/log?q={check}")),
            ("log, an agent found", "/log?q=rare-bot".to_owned()),
            ("log, nothing found", "/log?q=nobody".to_owned()),
            ("entry", format!("/log/{}", self.actions / 2)),
        ]
    }

    async fn time(&self, path: &str) -> Res<f64> {
        let request = Request::get(path).header(header::COOKIE, &self.cookie).body(Body::empty())?;
        let began = Instant::now();
        let answer = self.api.clone().answer(request).await;
        let status = answer.status();
        answer.into_body().collect().await?;
        let took = began.elapsed().as_secs_f64() * 1000.0;
        if status == StatusCode::OK || (status == StatusCode::SEE_OTHER && path.starts_with("/log?q=")) {
            Ok(took)
        } else {
            Err(format!("{path}: {status}").into())
        }
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

#[tokio::main]
async fn main() -> Res<()> {
    let actions = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(1_000_000).max(SHORT);
    let folder = tempfile::tempdir()?;
    let (short_dir, long_dir) = (folder.path().join("short"), folder.path().join("long"));
    std::fs::create_dir_all(&short_dir)?;
    std::fs::create_dir_all(&long_dir)?;
    println!("filling two stores, of {SHORT} and {actions} actions");
    let (short, long) = (Site::open(&short_dir, SHORT).await?, Site::open(&long_dir, actions).await?);
    println!("{:<26}{:>12}{:>12}{:>8}", "page (ms, median)", SHORT, actions, "ratio");
    // Once only: later looks read what came since.
    let (a, b) = (short.time("/agents/bot-3").await?, long.time("/agents/bot-3").await?);
    println!("{:<26}{a:>12.1}{b:>12.1}{:>8.2}", "agent, the first look", b / a);
    for ((name, on_short), (_, on_long)) in short.pages().iter().zip(&long.pages()) {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            a.push(short.time(on_short).await?);
            b.push(long.time(on_long).await?);
        }
        let (a, b) = (median(a), median(b));
        println!("{name:<26}{a:>12.1}{b:>12.1}{:>8.2}", b / a);
    }
    for site in [short, long] {
        site.app.stop_waiting();
        site.app.close().await;
    }
    Ok(())
}
