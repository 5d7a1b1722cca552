//! Finding the few policies that an action could match among thousands.
//!
//! Each policy is filed under the most selective key that its required parts allow: what is done (an action
//! or a category), to what (a resource, or the part of a pattern up to the last dot before its first `*`),
//! and by whom (an agent or a tool); each of the three may be open. An action is looked up under those
//! shapes of key that occur in the set, so its cost does not depend on the number of policies. Within a key
//! policies stand in the order of the record count from which on they can match, and the search stops at
//! the first one that wants more.
//!
//! The index may name a policy that does not match, never miss one that does: whoever asks evaluates what
//! it names. So two keys that share a hash cost time and nothing else.

use super::{
    Policy,
    condition::{Condition, Leaf},
    matcher,
    schema::{self, DEFAULT_SCHEMAS, Path},
};
use crate::{
    action::{Action, Category, Count, Effect},
    name::Name,
};
use foldhash::{HashMap, fast::RandomState};
use smallvec::SmallVec;
use std::{hash::BuildHasher, ops::Range};

/// Keys that one policy may be filed under; one that wants more is filed more openly.
const MAX_KEYS: usize = 64;

/// Dots that a resource's prefix may have to be a key.
const MAX_DOTS: u8 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Verb {
    Any,
    Action,
    Category,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum What {
    Any,
    Exact,
    /// A prefix with so many dots, the last of which ends it.
    Prefix(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Who {
    Any,
    Agent,
    Tool,
}

type Shape = (Verb, What, Who);

#[derive(Clone, Copy, Debug)]
struct Filed {
    /// No count of records below this lets the policy match.
    least_records: u64,
    policy: u32,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    hasher: RandomState,
    /// Every shape that occurs, the open ones first.
    shapes: Vec<Shape>,
    deepest: u8,
    /// Which default schemas some key names: only those are worth looking a bare table up in.
    schemas: [bool; DEFAULT_SCHEMAS.len()],
    /// Where the policies of a key stand in `filed`.
    keys: HashMap<u64, Range<u32>>,
    filed: Vec<Filed>,
}

impl Index {
    pub(super) fn new(policies: &[Policy]) -> Self {
        let mut index = Self::default();
        let mut rows: Vec<(u64, Filed)> = Vec::with_capacity(policies.len());
        let mut shapes = Vec::new();
        for (policy, id) in policies.iter().zip(0..) {
            let wants = Wants::of(&policy.condition);
            for schema in wants.resources.iter().filter_map(|(_, path)| schema::named_in(path)) {
                index.schemas.iter_mut().skip(schema).take(1).for_each(|named| *named = true);
            }
            let filed = Filed { least_records: wants.least_records, policy: id };
            for verb in wants.verbs() {
                for what in wants.whats() {
                    for who in wants.whos() {
                        let shape = (verb.0, what.0, who.0);
                        if !shapes.contains(&shape) {
                            shapes.push(shape);
                        }
                        let what_hash = match what.0 {
                            What::Prefix(_) => {
                                index.prefixes(what.1, MAX_DOTS).last().copied().unwrap_or_default()
                            }
                            What::Exact => index.hasher.hash_one(what.1),
                            What::Any => 0,
                        };
                        let key = key(shape, index.word(verb.1), what_hash, index.word(who.1));
                        rows.push((key, filed));
                    }
                }
            }
        }
        rows.sort_unstable_by_key(|(key, f)| (*key, f.least_records, f.policy));
        rows.dedup_by_key(|(key, f)| (*key, f.policy, f.least_records));
        for chunk in rows.chunk_by(|a, b| a.0 == b.0) {
            let start = position(index.filed.len());
            index.filed.extend(chunk.iter().map(|(_, f)| *f));
            if let Some((key, _)) = chunk.first() {
                index.keys.insert(*key, start..position(index.filed.len()));
            }
        }
        shapes.sort_unstable();
        index.deepest =
            shapes.iter().map(|s| if let What::Prefix(d) = s.1 { d } else { 0 }).max().unwrap_or(0);
        index.shapes = shapes;
        index.filed.shrink_to_fit();
        index.keys.shrink_to_fit();
        index
    }

    /// Names every policy that could match `effect`, some perhaps twice.
    pub(super) fn candidates(
        &self,
        action: &Action,
        effect: &Effect,
        records: Count,
        mut visit: impl FnMut(u32),
    ) {
        // Seldom, so that no key is needed for it.
        if matcher::open(&effect.resource).is_some() {
            return self.filed.iter().for_each(|filed| visit(filed.policy));
        }
        let mut words = Words::default();
        let prefixes = self.prefixes(&effect.resource, self.deepest);
        let what = Resource { text: &effect.resource, prefixes: &prefixes, new_from: 0 };
        self.probe(action, effect, records, &what, &mut words, &mut visit);
        match Path::of(&effect.resource) {
            Some(path @ Path::Bare { .. }) => {
                for (schema, _) in DEFAULT_SCHEMAS.iter().zip(self.schemas).filter(|(_, named)| *named) {
                    self.other(action, effect, records, &path.in_schema(schema), &mut words, &mut visit);
                }
            }
            Some(path @ Path::Qualified { .. }) => {
                for text in path.others() {
                    self.other(action, effect, records, &text, &mut words, &mut visit);
                }
            }
            None => {}
        }
    }

    /// Looks another spelling of the resource up, where it leads to other keys than the written one.
    fn other(
        &self,
        action: &Action,
        effect: &Effect,
        records: Count,
        text: &str,
        words: &mut Words,
        visit: &mut impl FnMut(u32),
    ) {
        let prefixes = self.prefixes(text, self.deepest);
        let dots = text.bytes().filter(|b| *b == b'.').count();
        let what = Resource { text, prefixes: &prefixes, new_from: dots.max(1) };
        self.probe(action, effect, records, &what, words, visit);
    }

    fn probe(
        &self,
        action: &Action,
        effect: &Effect,
        records: Count,
        resource: &Resource<'_>,
        words: &mut Words,
        visit: &mut impl FnMut(u32),
    ) {
        // Each hashed when a shape first asks for it.
        let Words { names, agent, tool } = words;
        let mut exact = None;
        let most = records.known().unwrap_or(u64::MAX);
        for shape in &self.shapes {
            let what = match shape.1 {
                What::Any if resource.new_from > 0 => continue,
                What::Any => 0,
                What::Exact => *exact.get_or_insert_with(|| self.hasher.hash_one(resource.text)),
                What::Prefix(dots) if usize::from(dots) < resource.new_from => continue,
                What::Prefix(dots) => match resource.prefixes.get(usize::from(dots).wrapping_sub(1)) {
                    Some(hash) => *hash,
                    None => continue,
                },
            };
            let who = match (shape.2, &action.tool) {
                (Who::Any, _) => 0,
                (Who::Agent, _) => *agent.get_or_insert_with(|| self.word(&action.agent)),
                (Who::Tool, Some(name)) => *tool.get_or_insert_with(|| self.word(name)),
                (Who::Tool, None) => continue,
            };
            let mut look_up = |verb: u64| {
                let Some(range) = self.keys.get(&key(*shape, verb, what, who)) else { return };
                let range =
                    usize::try_from(range.start).unwrap_or(0)..usize::try_from(range.end).unwrap_or(0);
                for filed in self.filed.get(range).unwrap_or_default() {
                    if filed.least_records > most {
                        break;
                    }
                    visit(filed.policy);
                }
            };
            match shape.0 {
                Verb::Any => look_up(0),
                Verb::Category => look_up(self.word(effect.category.as_str())),
                Verb::Action => {
                    if names.is_empty() {
                        names.extend(effect.names.iter().map(|n| self.word(n)));
                    }
                    names.iter().for_each(|name| look_up(*name));
                }
            }
        }
    }

    fn word(&self, text: &str) -> u64 {
        if text.is_empty() { 0 } else { self.hasher.hash_one(text) }
    }

    /// A hash for each prefix of `resource` that ends in a dot, up to `depth` of them, in one pass.
    fn prefixes(&self, resource: &str, depth: u8) -> SmallVec<[u64; 8]> {
        let mut hashes = SmallVec::new();
        if depth == 0 {
            return hashes;
        }
        let (mut hash, mut rest) = (0_u64, resource);
        while let Some((segment, after)) = rest.split_once('.') {
            hash = mix(hash, self.hasher.hash_one(segment));
            hashes.push(hash);
            if hashes.len() >= usize::from(depth) {
                break;
            }
            rest = after;
        }
        hashes
    }
}

/// A spelling of an effect's resource that is looked up.
struct Resource<'a> {
    text: &'a str,
    prefixes: &'a [u64],
    /// Prefixes of fewer dots have been looked up; 0 for the spelling that was written.
    new_from: usize,
}

/// The hashes of an effect's other words, once they were asked for.
#[derive(Default)]
struct Words {
    names: SmallVec<[u64; 4]>,
    agent: Option<u64>,
    tool: Option<u64>,
}

fn key(shape: Shape, verb: u64, what: u64, who: u64) -> u64 {
    let tag = match shape.1 {
        What::Any => 0,
        What::Exact => 1,
        What::Prefix(dots) => 2 + u64::from(dots),
    };
    let tag = tag * 9 + shape.0 as u64 * 3 + shape.2 as u64;
    mix(mix(mix(tag, verb), what), who)
}

/// Folds the full product, so that every bit of both takes part.
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x9E37_79B9_7F4A_7C15) * u128::from(b ^ 0xD6E8_FEB8_6659_FD93);
    #[expect(clippy::cast_possible_truncation, reason = "both halves are folded together")]
    let folded = (product as u64) ^ ((product >> 64) as u64);
    folded
}

fn position(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// What a condition requires that can be a key.
#[derive(Default)]
struct Wants<'a> {
    least_records: u64,
    actions: Option<&'a [Name]>,
    categories: Option<&'a [Category]>,
    resources: Vec<(What, &'a str)>,
    agents: Option<&'a [Name]>,
    tools: Option<&'a [Name]>,
}

impl<'a> Wants<'a> {
    fn of(condition: &'a Condition) -> Self {
        let mut wants = Self::default();
        condition.each_required(&mut |leaf| match leaf {
            Leaf::Records(limit) => wants.least_records = wants.least_records.max(limit.saturating_add(1)),
            Leaf::Action(p) if p.globs().is_empty() => wants.actions = Some(p.literals()),
            Leaf::Agent(p) if p.globs().is_empty() => wants.agents = Some(p.literals()),
            Leaf::Tool(p) if p.globs().is_empty() => wants.tools = Some(p.literals()),
            Leaf::Category(list) => wants.categories = Some(list),
            Leaf::Resource(p) => {
                let exact = p.literals().iter().map(|n| (What::Exact, n.as_str()));
                let prefixes = p.globs().iter().map(|g| prefix(g.prefix()));
                let keys: Vec<_> = exact.chain(prefixes).collect();
                if keys.iter().all(|(what, _)| *what != What::Any) {
                    wants.resources = keys;
                }
            }
            _ => {}
        });
        wants.open_up();
        wants
    }

    /// Gives up the part with the most alternatives until the keys are few enough.
    fn open_up(&mut self) {
        loop {
            let sizes = [self.verbs().len(), self.whats().len(), self.whos().len()];
            if sizes.iter().product::<usize>() <= MAX_KEYS {
                return;
            }
            match sizes.iter().zip(0..).max().map_or(0, |(_, part)| part) {
                0 if self.actions.is_some() => self.actions = None,
                0 => self.categories = None,
                1 => self.resources.clear(),
                _ if self.agents.is_some() => self.agents = None,
                _ => self.tools = None,
            }
        }
    }

    fn verbs(&self) -> SmallVec<[(Verb, &'a str); 4]> {
        match (self.actions, self.categories) {
            (Some(names), _) => names.iter().map(|n| (Verb::Action, n.as_str())).collect(),
            (None, Some(list)) => list.iter().map(|c| (Verb::Category, c.as_str())).collect(),
            (None, None) => SmallVec::from_iter([(Verb::Any, "")]),
        }
    }

    fn whats(&self) -> SmallVec<[(What, &'a str); 4]> {
        if self.resources.is_empty() {
            SmallVec::from_iter([(What::Any, "")])
        } else {
            self.resources.iter().copied().collect()
        }
    }

    fn whos(&self) -> SmallVec<[(Who, &'a str); 4]> {
        match (self.agents, self.tools) {
            (Some(names), _) => names.iter().map(|n| (Who::Agent, n.as_str())).collect(),
            (None, Some(names)) => names.iter().map(|n| (Who::Tool, n.as_str())).collect(),
            (None, None) => SmallVec::from_iter([(Who::Any, "")]),
        }
    }
}

/// The longest part of a literal prefix that ends in a dot, no more than [`MAX_DOTS`] of them.
fn prefix(literal: &str) -> (What, &str) {
    let (mut end, mut dots) = (0, 0);
    for (at, _) in literal.match_indices('.').take(usize::from(MAX_DOTS)) {
        end = at + 1;
        dots += 1;
    }
    match literal.get(..end) {
        Some(text) if dots > 0 => (What::Prefix(dots), text),
        _ => (What::Any, ""),
    }
}
