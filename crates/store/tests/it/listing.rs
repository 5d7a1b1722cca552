//! Lists of approvals, grants and snapshots: what a filter lets through is found, page by page, and nothing else.

use crate::common::*;
use checkrein_core::{
    approval::{Answer, Approval, State},
    event::Event,
    grant::{self, Grant},
    name::Pattern,
    snapshot::SnapshotRecord,
};
use checkrein_store::{ApprovalFilter, GrantFilter, SnapshotFilter, Store};

const AGENTS: [&str; 5] = ["a", "a-1", "a-10", "b-1", "\u{e9}-1"];
const PATTERNS: [&str; 9] = ["*", "a", "a*", "a-1", "a-1*", "*1", "*-1", "no*", "\u{e9}*"];

/// One after the other of each kind, of changing agents, each standing otherwise.
async fn filled(store: &Store) {
    for (n, seconds) in (0..60_usize).zip(0..) {
        let agent = AGENTS[(n * 7 + n / 9) % AGENTS.len()];
        let (check, id) = (format!("chk_{n}"), format!("apr_{n}"));
        let mut asked = approval(&id, &check);
        asked.action.agent = name(agent);
        let fingerprint = asked.fingerprint.clone();
        let mut events = vec![Event::ApprovalRequested(Box::new(asked))];
        match n % 4 {
            0 => {}
            1 => events.push(decided(&id, Answer::Deny)),
            _ => events.push(decided(&id, Answer::Approve)),
        }
        if n % 4 == 3 {
            let used = checkrein_core::approval::Transition::Use { check_id: check.clone(), fingerprint };
            events.push(changed(&id, used));
        }
        let given = Grant { agent: name(agent), ..grant(&format!("grt_{n}"), 1, at(0)) };
        events.push(Event::GrantGiven(Box::new(given)));
        if n % 3 != 0 {
            let transition = grant::Transition::Use { check_id: check.clone(), records: 1 };
            events.push(Event::GrantChanged { id: format!("grt_{n}"), transition });
        }
        let target = ["shop", "crm"][n % 2].to_owned();
        let taken = SnapshotRecord { target, ..snapshot(&format!("snp_{n}"), agent, None) };
        events.push(Event::SnapshotTaken(Box::new(taken)));
        if n % 5 == 0 {
            events.push(Event::SnapshotRemoved { id: format!("snp_{n}"), reason: "it was old".into() });
        }
        store.append(events, at(seconds)).await.unwrap();
    }
}

/// The ids of all pages of so many rows, and that only the last of them ends.
macro_rules! paged {
    ($store:ident.$list:ident($filter:expr), $limit:expr, $id:expr) => {{
        let (mut ids, mut before) = (Vec::new(), None);
        loop {
            let page = $store.$list($filter.clone(), before, $limit).await.unwrap();
            assert!(page.next.is_none() || page.rows.len() == $limit, "{:?}", $filter);
            ids.extend(page.rows.into_iter().map($id));
            before = page.next;
            if before.is_none() {
                break ids;
            }
        }
    }};
}

fn agents() -> impl Iterator<Item = Option<Pattern>> {
    std::iter::once(None).chain(PATTERNS.map(|pattern| Some(Pattern::new(pattern).unwrap())))
}

fn fits<T: PartialEq>(wanted: &Option<T>, is: &T) -> bool {
    wanted.as_ref().is_none_or(|wanted| wanted == is)
}

#[tokio::test]
async fn every_filter_finds_what_it_lets_through_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    filled(&store).await;
    let approvals = store.approvals(ApprovalFilter::default(), None, 100).await.unwrap().rows;
    let grants = store.grants(GrantFilter::default(), None, 100).await.unwrap().rows;
    let snapshots = store.snapshots(SnapshotFilter::default(), None, 100).await.unwrap().rows;
    assert_eq!((approvals.len(), grants.len(), snapshots.len()), (60, 60, 60));
    let is_of = |pattern: &Option<Pattern>, agent: &str| pattern.as_ref().is_none_or(|p| p.matches(agent));
    let mut passed = 0;
    for (agent, limit) in agents().flat_map(|agent| [1, 7, 100].map(|limit| (agent.clone(), limit))) {
        for open in [None, Some(true), Some(false)] {
            let states = [State::Pending, State::Approved, State::Denied, State::Expired];
            for state in std::iter::once(None).chain(states.map(Some)) {
                let filter = ApprovalFilter { state, open, agent: agent.clone() };
                let wanted = |a: &&Approval| {
                    is_of(&agent, &a.action.agent) && fits(&state, &a.state) && fits(&open, &a.open())
                };
                let wanted: Vec<String> = approvals.iter().filter(wanted).map(|a| a.id.clone()).collect();
                passed += wanted.len();
                assert_eq!(paged!(store.approvals(filter), limit, |a| a.id), wanted, "{filter:?}");
            }
            let filter = GrantFilter { agent: agent.clone(), open };
            let wanted =
                |g: &&Grant| is_of(&agent, &g.agent) && fits(&open, &(g.state == grant::State::Open));
            let wanted: Vec<String> = grants.iter().filter(wanted).map(|g| g.id.clone()).collect();
            assert_eq!(paged!(store.grants(filter), limit, |g| g.id), wanted, "{filter:?}");
            for target in [None, Some("shop".to_owned()), Some("nowhere".to_owned())] {
                let filter = SnapshotFilter { agent: agent.clone(), target: target.clone(), live: open };
                let wanted = snapshots.iter().filter(|s| {
                    is_of(&agent, &s.record.agent)
                        && fits(&target, &s.record.target)
                        && fits(&open, &s.live())
                });
                let wanted: Vec<String> = wanted.map(|s| s.record.id.clone()).collect();
                assert_eq!(paged!(store.snapshots(filter), limit, |s| s.record.id), wanted, "{filter:?}");
            }
        }
    }
    assert!(passed > 1_000, "{passed}");
    store.close().await;
    verified(dir.path());
}

#[tokio::test]
async fn among_very_many_agents_a_filter_that_few_pass_is_a_bounded_search() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let taken = |n: u32, target: &str, agent: &str| {
        let record = SnapshotRecord { target: target.into(), ..snapshot(&format!("snp_{n}"), agent, None) };
        Event::SnapshotTaken(Box::new(record))
    };
    let gone = Event::SnapshotRemoved { id: "snp_0".into(), reason: "it was old".into() };
    store.append(vec![taken(0, "rare", "z-seldom"), gone], at(0)).await.unwrap();
    for first in (1..=3_000).step_by(500) {
        let events = (first..first + 500).map(|n| taken(n, "shop", &format!("busy-{}", n % 1_200)));
        store.append(events.collect(), at(1)).await.unwrap();
    }
    let few = [
        SnapshotFilter { target: Some("rare".into()), ..SnapshotFilter::default() },
        SnapshotFilter { agent: Some(Pattern::new("*seldom").unwrap()), ..SnapshotFilter::default() },
        SnapshotFilter { live: Some(false), ..SnapshotFilter::default() },
    ];
    for filter in few {
        let page = store.snapshots(filter.clone(), None, 10).await.unwrap();
        assert!(page.rows.is_empty(), "{filter:?}");
        let page = store.snapshots(filter.clone(), page.next, 10).await.unwrap();
        assert_eq!(page.rows.len(), 1, "where it was left: {filter:?}");
        assert_eq!((page.rows[0].record.id.as_str(), page.next), ("snp_0", None));
    }
    let one = SnapshotFilter { agent: Some(Pattern::new("z-*").unwrap()), ..SnapshotFilter::default() };
    let page = store.snapshots(one, None, 10).await.unwrap();
    assert_eq!((page.rows.len(), page.next), (1, None), "its name says where to look");
    let live = SnapshotFilter { live: Some(true), ..SnapshotFilter::default() };
    let mut seen = 0;
    let mut before = None;
    loop {
        let page = store.snapshots(live.clone(), before, 999).await.unwrap();
        seen += page.rows.len();
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(seen, 3_000, "none twice, none left out");
    store.close().await;
}
