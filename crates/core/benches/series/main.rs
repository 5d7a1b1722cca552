//! Scores `checkrein drift score`'s detector on a folder laid out like the Numenta benchmark (`data/`,
//! `labels/combined_windows.json`), by the scoring function of its paper, standard profile:
//! `cargo bench -p checkrein-core --bench series -- FOLDER`.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a program for developers"
)]

use checkrein_core::drift::series::Series;
use std::{collections::BTreeMap, fs, path::Path};

/// What a false alarm costs.
const FALSE_ALARM: f64 = 0.11;

fn sigmoid(position: f64) -> f64 {
    if position > 3.0 { -1.0 } else { 2.0 / (1.0 + (5.0 * position).exp()) - 1.0 }
}

struct Row {
    score: f64,
    /// What an alarm here gains or costs.
    gain: f64,
    window: Option<usize>,
}

struct File {
    name: String,
    rows: Vec<Row>,
    windows: Vec<usize>,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let Some(folder) = args.first().map(Path::new) else {
        println!("name a folder with data/ and labels/combined_windows.json");
        return;
    };
    let text = fs::read_to_string(folder.join("labels/combined_windows.json")).unwrap();
    let labels: BTreeMap<String, Vec<[String; 2]>> = serde_json::from_str(&text).unwrap();
    let mut windows = 0;
    let files: Vec<File> = labels
        .iter()
        .map(|(name, labelled)| read(&folder.join("data").join(name), name, labelled, &mut windows))
        .collect();
    let mut order: Vec<(f64, usize, usize)> = Vec::new();
    for (f, file) in files.iter().enumerate() {
        order.extend(file.rows.iter().enumerate().map(|(r, row)| (row.score, f, r)));
    }
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut best_of = vec![-1.0_f64; windows];
    let (mut sum, mut best, mut threshold) = (-(windows as f64), f64::MIN, 1.1);
    let scored: std::collections::BTreeSet<usize> =
        files.iter().flat_map(|f| f.rows.iter().filter_map(|r| r.window)).collect();
    sum += (windows - scored.len()) as f64;
    let mut last = 1.1;
    for (score, f, r) in order {
        if score != last {
            if sum > best {
                (best, threshold) = (sum, last);
            }
            last = score;
        }
        let row = &files[f].rows[r];
        match row.window {
            Some(w) if row.gain > best_of[w] => {
                sum += row.gain - best_of[w];
                best_of[w] = row.gain;
            }
            Some(_) => {}
            None => sum += row.gain,
        }
    }
    let total = windows as f64;
    println!("standard profile: {:.2} at threshold {threshold:.6}", 100.0 * (best + total) / (2.0 * total));
    let mut groups: BTreeMap<&str, (f64, f64, usize)> = BTreeMap::new();
    for file in &files {
        let mut parts: BTreeMap<usize, f64> = file.windows.iter().map(|w| (*w, -1.0)).collect();
        let (mut cost, mut alarms) = (0.0, 0);
        for row in file.rows.iter().filter(|row| row.score >= threshold) {
            match row.window {
                Some(w) => {
                    let best = parts.get_mut(&w).unwrap();
                    *best = best.max(row.gain);
                }
                None => {
                    cost += row.gain;
                    alarms += 1;
                }
            }
        }
        let found: Vec<String> = parts.values().map(|v| format!("{v:.2}")).collect();
        println!("  {:60} false {alarms:3} {cost:6.2}  windows {}", file.name, found.join(" "));
        let group = groups.entry(file.name.split('/').next().unwrap()).or_default();
        group.0 += cost + parts.values().sum::<f64>();
        group.1 += cost;
        group.2 += parts.len();
    }
    for (name, (sum, cost, n)) in groups {
        println!(
            "{name:24} lost {:6.2} of {:3}, by false alarms {cost:6.2}",
            2.0 * n as f64 - (sum + n as f64),
            2 * n
        );
    }
}

fn read(path: &Path, name: &str, labelled: &[[String; 2]], windows: &mut usize) -> File {
    let text = fs::read_to_string(path).unwrap();
    let lines: Vec<(&str, &str)> = text.lines().skip(1).map(|line| line.split_once(',').unwrap()).collect();
    let mut series = Series::new();
    let place = |t: &str| lines.iter().position(|(at, _)| *at == t.split('.').next().unwrap()).unwrap();
    let spans: Vec<(usize, usize, usize)> = labelled
        .iter()
        .map(|[from, to]| {
            *windows += 1;
            (place(from), place(to), *windows - 1)
        })
        .collect();
    let probation = (0.15 * lines.len() as f64).floor().min(750.0) as usize;
    let mut rows = Vec::new();
    for (i, (_, value)) in lines.iter().enumerate() {
        let score = series.score(value.parse().ok());
        if i < probation {
            continue;
        }
        let inside = spans.iter().find(|(from, to, _)| (*from..=*to).contains(&i));
        let gain = match inside {
            Some((from, to, _)) => sigmoid(-((to - i + 1) as f64) / (to - from + 1) as f64) / sigmoid(-1.0),
            None => match spans.iter().rfind(|(_, to, _)| *to < i) {
                Some((from, to, _)) => sigmoid((i - to) as f64 / (to - from) as f64) * FALSE_ALARM,
                None => -FALSE_ALARM,
            },
        };
        rows.push(Row { score, gain, window: inside.map(|(_, _, w)| *w) });
    }
    File { name: name.to_owned(), rows, windows: spans.iter().map(|(_, _, w)| *w).collect() }
}
