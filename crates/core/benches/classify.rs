//! How long one classification takes: `cargo bench -p checkrein-core --bench classify`.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people at a terminal")]

use checkrein_core::{check::Check, classify::Catalogue, name::Name};
use std::{hint::black_box, time::Instant};

const ROUNDS: usize = 9;
const PER_ROUND: u32 = 20_000;

fn main() {
    let catalogue = Catalogue::default();
    for body in [
        r#"{"action":"update","resource":"users.accounts","payload":{"record_count":12}}"#,
        r#"{"tool":"mcp__crm__delete_contact","arguments":{"contact_id":"c_1"}}"#,
        r#"{"tool":"send_email","arguments":{"to":["a@x.com","b@x.com"],"subject":"s","body":"b"}}"#,
        r#"{"tool":"fetch_url","arguments":{"url":"https://example.com/a?b=c","method":"GET"}}"#,
        r#"{"tool":"execute_sql","arguments":{"sql":"SELECT id, name FROM users WHERE id = 1"}}"#,
        r#"{"tool":"execute_sql","arguments":{"sql":"UPDATE users SET name = $1 WHERE id = $2"}}"#,
    ] {
        let check: Check = serde_json::from_str(body).unwrap();
        let agent = Name::default_agent();
        let mut rounds: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                let start = Instant::now();
                for _ in 0..PER_ROUND {
                    black_box(catalogue.classify(black_box(&check), agent.clone())).unwrap();
                }
                start.elapsed().as_secs_f64() * 1e9 / f64::from(PER_ROUND)
            })
            .collect();
        rounds.sort_by(f64::total_cmp);
        println!("{:>8.0} ns  {body}", rounds.get(ROUNDS / 2).copied().unwrap_or_default());
    }
}
