//! `[drift]`: what departures from the normal do, for everybody, for groups and for single agents.

use super::{DAY, SECOND, document::Section};
use checkrein_core::{
    drift::breaker,
    name::{Name, Pattern},
};

/// What Checkrein does about drift of its own accord.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriftMode {
    /// Tells, holds and opens breakers.
    Enforce,
    /// Tells. Breakers open by a person's hand only.
    Alert,
    /// Nothing is scored or learnt. Breakers open by a person's hand only.
    Off,
}

/// What holds for an agent.
#[derive(Clone, Debug, PartialEq)]
pub struct DriftSettings {
    /// What is done at all.
    pub mode: DriftMode,
    /// What is done in an agent's first week, loops aside.
    pub first_week: DriftMode,
    /// The score from which on somebody is told; 5 to 12.
    pub notice_at: f32,
    /// The score from which on writes, what is new and bulk wait for a person.
    pub hold_at: f32,
    /// When a breaker opens, and how it comes back.
    pub breaker: breaker::Rules,
}

/// Agents of one role.
#[derive(Clone, Debug, PartialEq)]
pub struct DriftGroup {
    /// Its name.
    pub name: String,
    /// Who belongs to it.
    pub agents: Vec<Pattern>,
    /// What holds for them.
    pub settings: DriftSettings,
}

/// Drift and breakers.
#[derive(Clone, Debug, PartialEq)]
pub struct Drift {
    /// What holds for agents of which nothing else is said.
    pub settings: DriftSettings,
    /// By name. An agent belongs to the first one that fits.
    pub groups: Vec<DriftGroup>,
    /// What holds for single agents; that goes before what holds for their group.
    pub agents: Vec<(Name, DriftSettings)>,
    /// Agents whose baselines are in memory at most, about 5 KiB each; the others are on disk.
    pub in_memory: usize,
}

impl Default for DriftSettings {
    fn default() -> Self {
        Self {
            mode: DriftMode::Enforce,
            first_week: DriftMode::Alert,
            notice_at: 5.0,
            hold_at: 6.0,
            breaker: breaker::Rules::default(),
        }
    }
}

impl Default for Drift {
    fn default() -> Self {
        Self { settings: DriftSettings::default(), groups: Vec::new(), agents: Vec::new(), in_memory: 16_384 }
    }
}

/// Reads and checks the section.
pub(super) fn read(mut section: Section<'_>) -> Drift {
    let mut drift = Drift::default();
    drift.settings = settings(&mut section, &drift.settings);
    if let Some(n) = section.number("agents_in_memory", (256, 10_000_000)) {
        drift.in_memory = usize::try_from(n).unwrap_or(drift.in_memory);
    }
    for (name, mut group) in section.named("groups") {
        if let Err(e) = Name::new(name) {
            group.problem("agents", format!("the group's name: {e}"));
        }
        let mut agents = Vec::new();
        for text in group.texts("agents") {
            match Pattern::new(&text) {
                Ok(pattern) => agents.push(pattern),
                Err(e) => group.problem("agents", e.to_string()),
            }
        }
        if agents.is_empty() {
            group.problem("agents", "a group needs `agents`: names or patterns, such as [\"ticket-*\"]");
        }
        let settings = settings(&mut group, &drift.settings);
        group.finish();
        drift.groups.push(DriftGroup { name: name.to_owned(), agents, settings });
    }
    drift.groups.sort_by(|a, b| a.name.cmp(&b.name));
    for (name, mut agent) in section.named("agents") {
        let read = match Name::new(name) {
            Ok(read) => read,
            Err(e) => {
                agent.problem("mode", format!("the agent's name: {e}"));
                continue;
            }
        };
        let of_group = drift.group_of(&read).map_or(&drift.settings, |group| &group.settings).clone();
        let settings = settings(&mut agent, &of_group);
        agent.finish();
        drift.agents.push((read, settings));
    }
    section.finish();
    drift
}

impl Drift {
    /// The group of an agent, if it has one.
    pub fn group_of(&self, agent: &Name) -> Option<&DriftGroup> {
        self.groups.iter().find(|group| group.agents.iter().any(|pattern| pattern.matches(agent)))
    }

    /// What holds for an agent.
    pub fn settings_of(&self, agent: &Name) -> &DriftSettings {
        let own = self.agents.iter().find(|(name, _)| name == agent).map(|(_, settings)| settings);
        own.unwrap_or_else(|| self.group_of(agent).map_or(&self.settings, |group| &group.settings))
    }
}

/// What a section says, and `above` where it says nothing.
fn settings(section: &mut Section<'_>, above: &DriftSettings) -> DriftSettings {
    let mut read = above.clone();
    if let Some(mode) = section.text("mode", mode) {
        read.mode = mode;
    }
    if let Some(mode) = section.text("first_week", mode) {
        read.first_week = mode;
        if mode == DriftMode::Off {
            section.problem("first_week", "is `alert` or `enforce`");
        }
    }
    let score = (5.0, 12.0);
    if let Some(n) = section.decimal("notice_at", score) {
        read.notice_at = n;
    }
    if let Some(n) = section.decimal("hold_at", score) {
        read.hold_at = n;
    }
    let rules = &mut read.breaker;
    if let Some(n) = section.decimal("open_at", score) {
        rules.open_at_drift = n;
    }
    if let Some(n) = section.decimal("open_at_loop", score) {
        rules.open_at_loop = n;
    }
    if let Some(flag) = section.flag("exempt_reads") {
        rules.exempt_reads = flag;
    }
    let mut small = |key, most, field: &mut u8| {
        if let Some(n) = section.number(key, (1, most)) {
            *field = u8::try_from(n).unwrap_or(*field);
        }
    };
    small("open_at_blocks", 100, &mut rules.blocks);
    small("open_at_errors_of_20", 20, &mut rules.errors_of_20);
    small("probes", 100, &mut rules.probes);
    if let Some(n) = section.number("open_at_understated_times", (1, 1_000_000)) {
        rules.understated_times = n;
    }
    let mut seconds = |key, field: &mut u32| {
        if let Some(d) = section.duration(key, (SECOND, 30 * DAY)) {
            *field = u32::try_from(d.as_secs()).unwrap_or(*field);
        }
    };
    seconds("blocks_within", &mut rules.blocks_within_seconds);
    seconds("cool_down", &mut rules.cool_down_seconds);
    seconds("longest_cool_down", &mut rules.longest_cool_down_seconds);
    if let Some(d) = section.duration("forget_after", (SECOND, 365 * DAY)) {
        rules.forget_after_seconds = i64::try_from(d.as_secs()).unwrap_or(rules.forget_after_seconds);
    }
    if let Err(e) = rules.check() {
        section.problem("mode", e);
    }
    read
}

fn mode(text: &str) -> Result<DriftMode, String> {
    match text {
        "enforce" => Ok(DriftMode::Enforce),
        "alert" => Ok(DriftMode::Alert),
        "off" => Ok(DriftMode::Off),
        _ => Err("is `enforce`, `alert` or `off`".to_owned()),
    }
}
