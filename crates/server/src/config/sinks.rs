//! `[sinks.NAME]`: where signals and the stream of all actions go.

mod kinds;

use super::{DAY, Env, HOUR, SECOND, document::Section};
use checkrein_signals::{
    Pace, Sink,
    http::{Http, HttpConfig},
};
use kinds::KINDS;
use std::{sync::Arc, time::Duration};

/// A sink, ready to be used. Nothing was connected to.
#[derive(Clone)]
pub struct SinkSettings {
    /// What it is called.
    pub name: String,
    /// `slack`, `pagerduty`, …
    pub kind: &'static str,
    /// It takes signals.
    pub signals: bool,
    /// It takes the stream of all actions.
    pub actions: bool,
    /// How it is used.
    pub pace: Pace,
    /// The sink itself.
    pub sink: Arc<dyn Sink>,
}

impl std::fmt::Debug for SinkSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SinkSettings")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// Every sink that is described well enough, and the names of all that are described at all.
pub(super) fn read(root: &mut Section<'_>, env: Option<Env<'_>>) -> (Vec<SinkSettings>, Vec<String>) {
    let sections = root.named("sinks");
    let names = sections.iter().map(|(name, _)| (*name).to_owned()).collect();
    (sections.into_iter().filter_map(|(name, section)| sink(name, section, env)).collect(), names)
}

fn sink(name: &str, mut section: Section<'_>, env: Option<Env<'_>>) -> Option<SinkSettings> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    if !(1..=64).contains(&name.len()) || !name.bytes().all(fits) {
        section.problem("", "the name of a sink is 1 to 64 of a-z, 0-9, - and _");
    }
    let kinds =
        || format!("write one of {}", KINDS.iter().map(|(kind, _)| *kind).collect::<Vec<_>>().join(", "));
    let found = section.text("kind", |text| {
        let known = KINDS.iter().find(|(kind, _)| *kind == text);
        known.ok_or_else(|| format!("`{}` is no kind of sink; {}", text.escape_debug(), kinds()))
    });
    let Some((kind, make)) = found else {
        if section.line_of("kind").is_none() {
            section.problem("kind", format!("is missing; {}", kinds()));
        }
        return None;
    };
    let feed = section.text("feed", |text| match text {
        "signals" => Ok((true, false)),
        "actions" => Ok((false, true)),
        "both" => Ok((true, true)),
        _ => Err("must be signals, actions or both".to_owned()),
    });
    let (signals, actions) = feed.unwrap_or((true, false));
    let pace = pace(&mut section);
    let way = http(&mut section, env);
    let made = match Http::new(&way) {
        Ok(http) => make(&mut section, env, kinds::Way { http, config: way }),
        Err(e) => Some(Err(e)),
    };
    let sink = match made {
        Some(Ok(sink)) => Some(sink),
        Some(Err(e)) => {
            section.problem("", e);
            None
        }
        None => None,
    };
    if actions && sink.as_ref().is_some_and(|sink| sink.feed_batch() == 0) {
        section.problem(
            "feed",
            format!("a sink of the kind {kind} takes signals only; write feed = \"signals\""),
        );
    }
    section.finish();
    sink.map(|sink| SinkSettings { name: name.to_owned(), kind, signals, actions, pace, sink })
}

/// What all kinds have in common.
fn pace(section: &mut Section<'_>) -> Pace {
    let mut pace = Pace::default();
    if let Some(n) = section.number("concurrency", (1, 64)) {
        pace.concurrency = n as usize;
    }
    if let Some(n) = section.number("queue", (10, 100_000)) {
        pace.queue = n as usize;
    }
    for (key, place, range) in [
        ("first_pause", &mut pace.first_pause, (Duration::from_millis(10), HOUR)),
        ("longest_pause", &mut pace.longest_pause, (Duration::from_millis(10), HOUR)),
        ("give_up_after", &mut pace.give_up_after, (SECOND, 365 * DAY)),
    ] {
        if let Some(duration) = section.duration(key, range) {
            *place = duration;
        }
    }
    pace
}

fn http(section: &mut Section<'_>, env: Option<Env<'_>>) -> HttpConfig {
    let mut http = HttpConfig {
        allow_private: section.flag("allow_private").unwrap_or_default(),
        ca_file: section.path("ca_file"),
        proxy: section.secret("proxy", env),
        ..HttpConfig::default()
    };
    for (key, place) in [("connect_timeout", &mut http.connect_timeout), ("timeout", &mut http.timeout)] {
        if let Some(duration) = section.duration(key, (Duration::from_millis(100), 100 * SECOND)) {
            *place = duration;
        }
    }
    http
}
