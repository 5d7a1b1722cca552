//! What is in force: the tool catalogue, the targets and the policies, swapped as one.

use super::{Error, Targets};
use crate::config::{Config, Drift};
use checkrein_core::{
    classify::{Catalogue, CatalogueConfig},
    event::Event,
    policy::{Policy, PolicySet, parse_list},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Where a policy that came through the API is said to come from.
pub(super) const SOURCE_API: &str = "api";

/// The catalogue, the targets and the policies in force.
pub struct Rules {
    /// Tells what an action is.
    pub catalogue: Arc<Catalogue>,
    /// The systems that can be asked what it would touch.
    pub targets: Arc<Targets>,
    /// Judges it.
    pub policies: PolicySet,
    /// What departures from the normal do.
    pub drift: Arc<Drift>,
    /// From configuration and policy files, each with its file.
    pub(super) from_files: Arc<Vec<(Policy, String)>>,
    /// Through the API, by name. One that has the name of a file's policy is not in force.
    pub(super) from_api: BTreeMap<String, Policy>,
}

impl Rules {
    pub(super) fn load(config: &Config, stored: Vec<Value>) -> Result<Self, Error> {
        let catalogue = Arc::new(catalogue(&config.catalogue)?);
        let targets = Arc::new(Targets::open(&config.targets, &Targets::default())?);
        let drift = Arc::new(config.drift.clone());
        Self::build(catalogue, targets, drift, Arc::new(config.file_policies.clone()), by_name(stored)?)
    }

    pub(super) fn build(
        catalogue: Arc<Catalogue>,
        targets: Arc<Targets>,
        drift: Arc<Drift>,
        from_files: Arc<Vec<(Policy, String)>>,
        from_api: BTreeMap<String, Policy>,
    ) -> Result<Self, Error> {
        let in_files: BTreeSet<&str> = from_files.iter().map(|(p, _)| p.name.as_str()).collect();
        let all: Vec<Policy> = from_files
            .iter()
            .map(|(policy, _)| policy.clone())
            .chain(from_api.values().filter(|p| !in_files.contains(p.name.as_str())).cloned())
            .collect();
        let policies = PolicySet::compile(all)?;
        Ok(Self { catalogue, targets, policies, drift, from_files, from_api })
    }

    /// The same policies from the API, with everything else from a new configuration.
    pub(super) fn reloaded(&self, config: &Config) -> Result<Self, Error> {
        let catalogue = Arc::new(catalogue(&config.catalogue)?);
        let targets = Arc::new(Targets::open(&config.targets, &self.targets)?);
        let drift = Arc::new(config.drift.clone());
        let from_files = Arc::new(config.file_policies.clone());
        Self::build(catalogue, targets, drift, from_files, self.from_api.clone())
    }

    /// The same catalogue and files, with other policies from the API.
    pub(super) fn with_api(&self, from_api: BTreeMap<String, Policy>) -> Result<Self, Error> {
        let (catalogue, targets) = (Arc::clone(&self.catalogue), Arc::clone(&self.targets));
        Self::build(catalogue, targets, Arc::clone(&self.drift), Arc::clone(&self.from_files), from_api)
    }

    /// The file that the policy `name` comes from, if it comes from one.
    pub(super) fn file_of(&self, name: &str) -> Option<&str> {
        self.from_files.iter().find(|(p, _)| p.name == name).map(|(_, file)| file.as_str())
    }

    /// By name, where each policy in force comes from.
    pub(super) fn sources(&self) -> BTreeMap<String, String> {
        self.policies
            .policies()
            .iter()
            .map(|p| (p.name.clone(), self.file_of(&p.name).unwrap_or(SOURCE_API).to_owned()))
            .collect()
    }

    pub(super) fn loaded_event(&self) -> Event {
        let files: BTreeSet<&String> = self.from_files.iter().map(|(_, file)| file).collect();
        Event::PoliciesLoaded {
            policies: self.from_files.iter().map(|(p, _)| p.to_value()).collect(),
            files: files.into_iter().cloned().collect(),
        }
    }
}

/// Policies as they are stored, by name.
pub(super) fn by_name(stored: Vec<Value>) -> Result<BTreeMap<String, Policy>, Error> {
    let policies = parse_list(&Value::Array(stored))?;
    Ok(policies.into_iter().map(|policy| (policy.name.clone(), policy)).collect())
}

fn catalogue(config: &CatalogueConfig) -> Result<Catalogue, Error> {
    Catalogue::new(config).map_err(|errors| {
        Error::Invalid(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    })
}
