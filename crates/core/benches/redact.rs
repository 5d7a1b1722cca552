//! That looking for secrets takes time in proportion to the text, whatever it is made of:
//! `cargo bench -p checkrein-core --bench redact`.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people at a terminal")]

use checkrein_core::redact::{MAX_TEXT, Redactor};
use std::{hint::black_box, time::Instant};

/// Each is nearly a secret, many times over: what a search could look far ahead for in vain.
const PIECES: &[&str] = &[
    "billing-bot was blocked: delete on production.users touches 62310 records. ",
    "{\"verdict\":\"allow\",\"id\":\"chk_0192f0c1d2e3740480a1b2c3d4e5f607\"},",
    "eyJaaaaaaaaaaa-AKIAAAAAAAAAAAAAAA-",
    "a@",
    "a.b@c.d",
    "4111 1111 ",
    "4",
    "http://a:b",
    "password=\"",
    "-----BEGIN PRIVATE KEY-----",
    "bearer aaaaaaaaaaaa",
    "\\\"",
    "--token ",
    "sk-",
    "SG.aaaaaaaaaaaaaaaa.",
];

fn main() {
    let redactor = Redactor::new(&[], true).unwrap();
    let small = MAX_TEXT / 64;
    println!("{:<40} {:>10} {:>18}", "made of", "MiB/s", "64 times the text");
    for piece in PIECES {
        let seconds = |size: usize| {
            let text = piece.repeat(size / piece.len());
            let round = || {
                let start = Instant::now();
                black_box(redactor.text(black_box(&text)));
                start.elapsed().as_secs_f64()
            };
            (0..9).map(|_| round()).fold(f64::MAX, f64::min)
        };
        let (small, large) = (seconds(small), seconds(MAX_TEXT));
        let rate = 0.25 / large;
        println!(
            "{:<40} {rate:>10.0} {:>12.0} times",
            piece.chars().take(38).collect::<String>(),
            large / small
        );
    }
}
