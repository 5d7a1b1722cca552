//! What people look up: by agent, by kind, by what it is about; on a log on which most is something else.

use crate::common::*;
use checkrein_core::{approval::Answer, approval::State, event::Event, name::Pattern};
use checkrein_store::{ApprovalFilter, CheckFilter, EntryFilter, Store};

fn kinds(kinds: &[&str]) -> EntryFilter {
    EntryFilter { kinds: kinds.iter().map(|k| (*k).to_owned()).collect(), ..EntryFilter::default() }
}

async fn seqs(store: &Store, before: u64, limit: usize, filter: EntryFilter) -> Vec<u64> {
    store.entries_before(before, limit, filter).await.unwrap().iter().map(|e| e.seq).collect()
}

/// Nine checks (1, 2, 4, 5, 7, 8, … are of `bot-0` and `bot-1` in turn), with something else after every second.
async fn filled(store: &Store) {
    for n in 0..9 {
        let check = Event::Check(Box::new(checked(&format!("chk_{n}"), &format!("bot-{}", n % 2), None)));
        store.append(vec![check], at(n)).await.unwrap();
        if n % 2 == 1 {
            store.append(vec![outcome(&format!("chk_{n}"))], at(n)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn entries_are_read_backwards_page_by_page() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert!(store.entries_before(u64::MAX, 9, EntryFilter::default()).await.unwrap().is_empty());
    filled(&store).await;
    let all = seqs(&store, u64::MAX, 100, EntryFilter::default()).await;
    assert_eq!(all, (1..=13).rev().collect::<Vec<_>>());
    let (mut before, mut paged) = (u64::MAX, Vec::new());
    loop {
        let page = seqs(&store, before, 4, EntryFilter::default()).await;
        let Some(last) = page.last() else { break };
        before = *last;
        paged.extend(page);
    }
    assert_eq!(paged, all);
    assert_eq!(seqs(&store, u64::MAX, 100, kinds(&["outcome"])).await, [12, 9, 6, 3]);
    assert_eq!(seqs(&store, 9, 1, kinds(&["outcome"])).await, [6]);
    assert_eq!(seqs(&store, u64::MAX, 3, kinds(&["outcome", "check"])).await, [13, 12, 11]);
    assert!(seqs(&store, u64::MAX, 3, kinds(&["nothing"])).await.is_empty());
}

#[tokio::test]
async fn what_is_on_record_about_something_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    filled(&store).await;
    let about = store.entries_about("chk_3", 10).await.unwrap();
    assert_eq!(about.iter().map(|e| (e.seq, e.kind.as_str())).collect::<Vec<_>>(), [(6, "outcome")]);
    assert!(store.entries_about("chk_0", 10).await.unwrap().is_empty());
    assert!(store.entries_about("", 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_agents_checks_are_paged_without_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    filled(&store).await;
    let of =
        |agent: &str| CheckFilter { agent: Some(Pattern::new(agent).unwrap()), ..CheckFilter::default() };
    let ids = |page: &checkrein_store::CheckPage| -> Vec<String> {
        page.rows.iter().map(|row| row.checked.decision.id.clone()).collect()
    };
    let first = store.checks(of("bot-1"), None, 3).await.unwrap();
    assert_eq!(ids(&first), ["chk_7", "chk_5", "chk_3"]);
    let second = store.checks(of("bot-1"), first.next, 3).await.unwrap();
    assert_eq!((ids(&second), second.next), (vec!["chk_1".to_owned()], None));
    assert_eq!(store.checks(of("bot-*"), None, 99).await.unwrap().rows.len(), 9);
    let none = store.checks(of("bot-2"), None, 3).await.unwrap();
    assert_eq!((none.rows.len(), none.next), (0, None));
    let since = CheckFilter { since: Some(at(4)), until: Some(at(8)), ..of("bot-1") };
    assert_eq!(ids(&store.checks(since, None, 9).await.unwrap()), ["chk_7", "chk_5"]);
}

#[tokio::test]
async fn what_waits_is_found_among_what_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in 0..6 {
        let (check, approval) = (format!("chk_{n}"), format!("apr_{n}"));
        store.append(vec![super::common::check(&check), requested(&approval, &check)], at(n)).await.unwrap();
        if n % 3 != 0 {
            store.append(vec![decided(&approval, Answer::Deny)], at(n)).await.unwrap();
        }
    }
    let page = |filter: ApprovalFilter| store.approvals(filter, None, 10);
    let open = ApprovalFilter { open: Some(true), ..ApprovalFilter::default() };
    let found = page(open.clone()).await.unwrap();
    assert_eq!(found.rows.iter().map(|a| a.id.as_str()).collect::<Vec<_>>(), ["apr_3", "apr_0"]);
    let pending = ApprovalFilter { state: Some(State::Pending), ..open.clone() };
    assert_eq!(page(pending).await.unwrap().rows.len(), 2);
    let denied = ApprovalFilter { state: Some(State::Denied), ..open.clone() };
    assert!(page(denied).await.unwrap().rows.is_empty(), "nothing can come of it");
    let first = store.approvals(open.clone(), None, 1).await.unwrap();
    let second = store.approvals(open, first.next, 1).await.unwrap();
    assert_eq!((second.rows.first().unwrap().id.as_str(), second.next), ("apr_0", None));
    let of = |agent: &str| ApprovalFilter {
        agent: Some(Pattern::new(agent).unwrap()),
        ..ApprovalFilter::default()
    };
    assert_eq!(page(of("billing-bot")).await.unwrap().rows.len(), 6);
    assert_eq!(page(of("billing-*")).await.unwrap().rows.len(), 6);
    assert!(page(of("another")).await.unwrap().rows.is_empty());
    let open_of = ApprovalFilter { open: Some(true), ..of("billing-bot") };
    assert_eq!(page(open_of).await.unwrap().rows.len(), 2);
    let pending = ApprovalFilter { state: Some(State::Pending), ..ApprovalFilter::default() };
    assert_eq!(page(pending).await.unwrap().rows.len(), 2);
    let denied = ApprovalFilter { state: Some(State::Denied), ..ApprovalFilter::default() };
    assert_eq!(page(denied.clone()).await.unwrap().rows.len(), 4);
    let of_one = ApprovalFilter { state: denied.state, ..of("billing-bot") };
    assert_eq!(page(of_one).await.unwrap().rows.len(), 4);
    let over = ApprovalFilter { open: Some(false), ..ApprovalFilter::default() };
    assert_eq!(page(over).await.unwrap().rows.len(), 4);
}

#[tokio::test]
async fn checks_are_counted_by_the_hour_within_the_newest_entries() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    // At the hours 0, 0, 1, 1, … 4 after a first one, the second of each by somebody else.
    let begin = at(0).as_micros().div_euclid(3_600_000_000) + 1;
    let hour = |n: i64| checkrein_core::time::Timestamp::from_micros((begin + n) * 3_600_000_000);
    for n in 0..9_i64 {
        let check = Event::Check(Box::new(checked(&format!("chk_{n}"), &format!("bot-{}", n % 2), None)));
        store.append(vec![check], hour(n / 2)).await.unwrap();
    }
    let counted = async |since: i64, most: u64| {
        let found = store.checks_by_hour(&Pattern::from(name("bot-0")), hour(since), most).await.unwrap();
        let hours: Vec<_> = found.hours.iter().map(|(at, n)| (at - begin, *n)).collect();
        (found.whole_from - begin, hours)
    };
    let all = vec![(0, 1), (1, 1), (2, 1), (3, 1), (4, 1)];
    assert_eq!(counted(0, 100).await, (0, all.clone()));
    assert_eq!(counted(0, 9).await, (0, all.clone()), "exactly all");
    assert_eq!(counted(-20, 100).await, (-20, all), "nothing was before");
    assert_eq!(counted(3, 100).await, (3, vec![(3, 1), (4, 1)]));
    // Entries 5 to 9: both of hour 2, both of hour 3, one of hour 4.
    assert_eq!(counted(0, 5).await, (2, vec![(2, 1), (3, 1), (4, 1)]));
    // The first of hour 2 is left out, and with it what that hour had.
    assert_eq!(counted(0, 4).await, (3, vec![(3, 1), (4, 1)]));
    assert_eq!(counted(3, 5).await.0, 3, "more than enough");
    assert_eq!(counted(0, 0).await, (5, vec![]), "not even the hour that goes on");
}

#[tokio::test]
async fn a_pattern_counts_all_that_fit_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for (n, agent) in ["a-1", "a-[x]?", "b-1", "a-2"].into_iter().enumerate() {
        let check = Event::Check(Box::new(checked(&format!("chk_{n}"), agent, None)));
        store.append(vec![check], at(1)).await.unwrap();
    }
    for (pattern, fit) in
        [("a-*", 3), ("*", 4), ("*-1", 2), ("a-[x]?", 1), ("a-[*", 1), ("*?", 1), ("[ab]-*", 0)]
    {
        let pattern = Pattern::new(pattern).unwrap();
        let found = store.checks_by_hour(&pattern, at(0), 100).await.unwrap();
        assert_eq!(found.hours.iter().map(|(_, n)| n).sum::<u64>(), fit, "{pattern}");
    }
}
