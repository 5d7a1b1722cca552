//! Scores `checkrein drift score`'s detector on a folder laid out like the Numenta benchmark (`data/`,
//! `labels/combined_windows.json`), by the scoring function of its paper, in its three profiles:
//! `cargo bench -p checkrein-core --bench series -- FOLDER`. With the name of a detector behind it, what that
//! left in `results/` is scored instead, which shows that the scoring is the published one.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a program for developers"
)]

use checkrein_core::drift::series::Series;
use std::{collections::BTreeMap, fs, path::Path, time::Instant};

/// What a false alarm and a miss cost.
const PROFILES: [(&str, f64, f64); 3] =
    [("standard", 0.11, 1.0), ("reward low FP rate", 0.22, 1.0), ("reward low FN rate", 0.11, 2.0)];

fn sigmoid(position: f64) -> f64 {
    if position > 3.0 { -1.0 } else { 2.0 / (1.0 + (5.0 * position).exp()) - 1.0 }
}

struct Row {
    score: f64,
    /// What an alarm here gains, or costs where a false alarm costs 1.
    gain: f64,
    window: Option<usize>,
}

struct File {
    name: String,
    length: usize,
    /// Those that count: from the end of probation.
    rows: Vec<Row>,
    windows: usize,
}

impl File {
    fn category(&self) -> &str {
        let name = self.name.split('/').next().unwrap();
        if name.starts_with("artificial") { "artificial" } else { name }
    }

    /// What an alarm at each row from `threshold` on brings: by false alarms, in each window, how many false.
    fn parts(&self, threshold: f64, (_, false_alarm, miss): (&str, f64, f64)) -> (f64, Vec<f64>, usize) {
        let (mut cost, mut false_alarms) = (0.0, 0);
        let mut windows = vec![-miss; self.windows];
        for row in self.rows.iter().filter(|row| row.score >= threshold) {
            if let Some(w) = row.window {
                windows[w] = row.gain.max(windows[w]);
            } else {
                cost += false_alarm * row.gain;
                false_alarms += 1;
            }
        }
        // A window that ends before anything counts is neither found nor missed.
        for (w, part) in windows.iter_mut().enumerate() {
            if !self.rows.iter().any(|row| row.window == Some(w)) {
                *part = 0.0;
            }
        }
        (cost, windows, false_alarms)
    }
}

fn windows_of(files: &[&File]) -> f64 {
    files.iter().map(|file| file.windows).sum::<usize>() as f64
}

/// What is lost of the best that could be.
fn lost(files: &[&File], threshold: f64, profile: (&str, f64, f64)) -> f64 {
    let gained = |file: &&File| {
        let (cost, windows, _) = file.parts(threshold, profile);
        cost + windows.iter().sum::<f64>()
    };
    windows_of(files) - files.iter().map(gained).sum::<f64>()
}

/// The threshold at which least is lost.
fn sweep(files: &[&File], profile: (&str, f64, f64)) -> f64 {
    let (_, false_alarm, miss) = profile;
    let mut order: Vec<(f64, usize, usize)> = Vec::new();
    for (f, file) in files.iter().enumerate() {
        order.extend(file.rows.iter().enumerate().map(|(r, row)| (row.score, f, r)));
    }
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut windows: Vec<Vec<f64>> = files.iter().map(|file| vec![-miss; file.windows]).collect();
    let (mut sum, mut best, mut threshold, mut last) = (0.0, f64::MIN, 1.1, 1.1);
    for (score, f, r) in order {
        if score != last {
            if sum > best {
                (best, threshold) = (sum, last);
            }
            last = score;
        }
        let row = &files[f].rows[r];
        match row.window {
            Some(w) => {
                let before = windows[f][w];
                windows[f][w] = row.gain.max(before);
                sum += windows[f][w] - before;
            }
            None => sum += false_alarm * row.gain,
        }
    }
    if sum > best { last } else { threshold }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let Some(folder) = args.first().map(Path::new) else {
        println!("name a folder with data/ and labels/combined_windows.json");
        return;
    };
    let text = fs::read_to_string(folder.join("labels/combined_windows.json")).unwrap();
    let labels: BTreeMap<String, Vec<[String; 2]>> = serde_json::from_str(&text).unwrap();
    let begun = Instant::now();
    let files: Vec<File> =
        labels.iter().map(|(name, windows)| read(folder, args.get(1), name, windows)).collect();
    let all: Vec<&File> = files.iter().collect();
    let rows: usize = files.iter().map(|file| file.length).sum();
    println!(
        "{:.1} µs a row by the clock, reading included",
        begun.elapsed().as_secs_f64() * 1e6 / rows as f64
    );
    let score = |lost: f64, miss: f64| 100.0 - 100.0 * lost / ((1.0 + miss) * windows_of(&all));

    for profile in PROFILES {
        let threshold = sweep(&all, profile);
        let score = score(lost(&all, threshold, profile), profile.2);
        println!("{}: {score:.2} at threshold {threshold:.6}", profile.0);
    }
    let standard = PROFILES[0];
    let threshold = sweep(&all, standard);
    for file in &files {
        let (cost, windows, false_alarms) = file.parts(threshold, standard);
        let found: Vec<String> = windows.iter().map(|part| format!("{part:.2}")).collect();
        println!("  {:60} false {false_alarms:3} {cost:6.2}  windows {}", file.name, found.join(" "));
    }
    let mut categories: BTreeMap<&str, Vec<&File>> = BTreeMap::new();
    for file in &files {
        categories.entry(file.category()).or_default().push(file);
    }
    let mut others = 0.0;
    for (name, own) in &categories {
        let rest: Vec<&File> = files.iter().filter(|file| file.category() != *name).collect();
        let held_out = lost(own, sweep(&rest, standard), standard);
        others += held_out;
        println!(
            "{name:24} lost {:6.2} of {:3}; {held_out:6.2} at the others' threshold",
            lost(own, threshold, standard),
            2.0 * windows_of(own)
        );
    }
    if categories.len() > 1 {
        println!("standard, each category at the threshold of the others: {:.2}", score(others, 1.0));
    }
}

fn read(folder: &Path, detector: Option<&String>, name: &str, labelled: &[[String; 2]]) -> File {
    let text = fs::read_to_string(folder.join("data").join(name)).unwrap();
    let lines: Vec<(&str, &str)> = text.lines().skip(1).map(|line| line.split_once(',').unwrap()).collect();
    let scores = match detector {
        Some(detector) => published(folder, detector, name),
        None => {
            let mut series = Series::new();
            lines.iter().map(|(_, value)| series.score(value.parse().ok())).collect()
        }
    };
    let place = |t: &str| lines.iter().position(|(at, _)| *at == t.split('.').next().unwrap()).unwrap();
    let spans: Vec<(usize, usize)> = labelled.iter().map(|[from, to]| (place(from), place(to))).collect();
    let probation = (0.15 * lines.len() as f64).floor().min(750.0) as usize;
    let row = |(i, score): (usize, f64)| {
        let window = spans.iter().position(|(from, to)| (*from..=*to).contains(&i));
        let gain = match window.map(|w| spans[w]) {
            Some((from, to)) => sigmoid(-((to - i + 1) as f64) / (to - from + 1) as f64) / sigmoid(-1.0),
            None => match spans.iter().rfind(|(_, to)| *to < i) {
                Some((from, to)) => sigmoid((i - to) as f64 / (to - from) as f64),
                None => -1.0,
            },
        };
        Row { score, gain, window }
    };
    let rows = scores.into_iter().enumerate().skip(probation).map(row).collect();
    File { name: name.to_owned(), length: lines.len(), rows, windows: spans.len() }
}

/// The scores that a detector left.
fn published(folder: &Path, detector: &str, name: &str) -> Vec<f64> {
    let (category, file) = name.split_once('/').unwrap();
    let path = folder.join("results").join(detector).join(category).join(format!("{detector}_{file}"));
    let text = fs::read_to_string(path).unwrap();
    let column = text.lines().next().unwrap().split(',').position(|name| name == "anomaly_score").unwrap();
    text.lines().skip(1).map(|line| line.split(',').nth(column).unwrap().parse().unwrap()).collect()
}
