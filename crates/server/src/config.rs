//! The configuration: one TOML file, the environment, and the command line, in rising order of precedence.
//!
//! A configuration is taken as a whole or not at all: unknown keys, policies that do not compile and secrets
//! that cannot be found are all reported at once, each with its place. `docs/configuration.md` has every key.

mod catalogue;
mod document;
mod drift;
mod human;
mod mcp;
mod oidc;
mod places;
mod policies;
mod problem;
mod routes;
mod secret;
mod sinks;
mod slack;
mod snapshots;
mod targets;
#[cfg(test)]
mod tests;

pub use drift::{Drift, DriftGroup, DriftMode, DriftSettings};
pub use human::duration;
pub use mcp::{McpServer, mcp_name};
pub(crate) use oidc::CALLBACK as OIDC_CALLBACK;
pub use oidc::Oidc;
pub use policies::{FilePolicy, compile_policies, parse_policies, read_policies};
pub use problem::{ConfigError, ConfigProblem};
pub use sinks::SinkSettings;
pub use slack::Slack;
pub use snapshots::Snapshots;
pub use targets::{ConnectedTarget, SnapshotWhen};

use checkrein_core::{
    classify::CatalogueConfig,
    name::Name,
    policy::Policy,
    redact::Redactor,
    signal::{OutboxLimits, Routing},
};
use document::{Section, Source};
use secrecy::{ExposeSecret as _, SecretString};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

/// The file that is read when none is named and it exists.
pub const DEFAULT_FILE: &str = "checkrein.toml";

/// The shortest admin key that is accepted, in bytes. It stands for 256 random bits; a word does not.
pub const MIN_ADMIN_KEY_BYTES: usize = 20;

/// Looks up environment variables.
type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// What the command line says. It wins over the environment, which wins over the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--listen`
    pub listen: Option<SocketAddr>,
    /// `--data`
    pub data: Option<PathBuf>,
    /// `--insecure-listen`
    pub insecure_listen: bool,
}

/// Everything that an operator sets.
#[derive(Debug)]
pub struct Config {
    /// The file that it was read from.
    pub path: Option<PathBuf>,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The folder of the own state.
    pub data: PathBuf,
    /// Listening beyond this machine without TLS was asked for in so many words.
    pub insecure_listen: bool,
    /// Serve HTTPS with these.
    pub tls: Option<Tls>,
    /// Where people reach this server, for the links in messages: `https://host/path`, without a slash at the end.
    pub public_url: Option<String>,
    /// What a caller can use up.
    pub limits: Limits,
    /// How holds are settled.
    pub approvals: Approvals,
    /// How people sign in to the console without a key.
    pub oidc: Option<Oidc>,
    /// The action log.
    pub log: Log,
    /// How raw tool calls are understood.
    pub catalogue: CatalogueConfig,
    /// The systems that Checkrein is connected to. Their environments are in the catalogue too.
    pub targets: Vec<ConnectedTarget>,
    /// What actions leave behind to be undone with.
    pub snapshots: Snapshots,
    /// What departures from the normal do.
    pub drift: Drift,
    /// Where signals and the stream of all actions go.
    pub sinks: Vec<SinkSettings>,
    /// Which signals go there.
    pub routing: Routing,
    /// What is kept of signals and messages.
    pub outbox: OutboxLimits,
    /// Takes secrets out of what leaves.
    pub redactor: std::sync::Arc<Redactor>,
    /// Policies from files, each with its file. They compile as a set, and win over those of the API.
    pub file_policies: Vec<(Policy, String)>,
    /// The key of the first admin, where the operator chose it; at least [`MIN_ADMIN_KEY_BYTES`] long.
    pub admin_key: Option<SecretString>,
}

/// Certificate and key, PEM. Both files exist; whether they fit is seen when they are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate chain.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// What a caller can use up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Connections at a time.
    pub connections: usize,
    /// For a request's body to arrive, from the end of its headers.
    pub request_timeout: Duration,
    /// Checks per second and agent key, with bursts of twice as many; 0 for no limit.
    pub agent_checks_per_second: u32,
}

/// How holds are settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approvals {
    /// How long a hold waits for an answer, and an approval for its use.
    pub expire_after: Duration,
    /// Slack's buttons.
    pub slack: Option<Slack>,
}

/// The action log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// How long entries are kept; `None` for ever.
    pub keep_for: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 1024 * 1024,
            connections: 10_000,
            request_timeout: 10 * SECOND,
            agent_checks_per_second: 1_000,
        }
    }
}

impl Default for Approvals {
    fn default() -> Self {
        Self { expire_after: DAY, slack: None }
    }
}

/// What the file says, before the environment and the command line have their say.
#[derive(Debug, Default)]
struct FromFile {
    listen: Option<SocketAddr>,
    data: Option<PathBuf>,
    insecure_listen: bool,
    tls: Option<Tls>,
    public_url: Option<String>,
    admin_key: Option<SecretString>,
    limits: Limits,
    approvals: Approvals,
    oidc: Option<Oidc>,
    log: Log,
    catalogue: CatalogueConfig,
    targets: Vec<ConnectedTarget>,
    snapshots: Snapshots,
    drift: Drift,
    sinks: Vec<SinkSettings>,
    routing: Routing,
    outbox: Option<OutboxLimits>,
    redact: (Vec<String>, bool),
    policies: Vec<FilePolicy>,
}

impl Config {
    /// Reads the configuration. `env` looks up environment variables: `CHECKREIN_CONFIG`,
    /// `CHECKREIN_LISTEN`, `CHECKREIN_DATA`, `CHECKREIN_ADMIN_KEY`, and those that the file names.
    ///
    /// # Errors
    /// All that is wrong with it, each with its place and the next step.
    pub fn load(overrides: &Overrides, env: Env<'_>) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let path = config_file(overrides.config.clone(), env);
        let file = path.as_deref().map_or_else(FromFile::default, |path| match document::read(path) {
            Ok(text) => read(path, &text, Some(env), &mut problems),
            Err(problem) => {
                problems.push(problem);
                FromFile::default()
            }
        });
        let file_policies = match compile_policies(&file.policies) {
            Ok(compiled) => compiled
                .into_iter()
                .zip(&file.policies)
                .map(|(policy, from)| (policy, from.file.display().to_string()))
                .collect(),
            Err(e) => {
                problems.extend(e.problems);
                Vec::new()
            }
        };

        let listen_env = env("CHECKREIN_LISTEN").and_then(|text| {
            address(&text).map_err(|e| problems.push(ConfigProblem::new("CHECKREIN_LISTEN", e))).ok()
        });
        let data_env = env("CHECKREIN_DATA").filter(|p| !p.is_empty()).map(PathBuf::from);
        let admin_env = env("CHECKREIN_ADMIN_KEY").map(SecretString::from);
        if let Some(key) = &admin_env
            && let Err(e) = admin_key(key)
        {
            problems.push(ConfigProblem::new("CHECKREIN_ADMIN_KEY", e));
        }

        let redactor = Redactor::new(&file.redact.0, file.redact.1);
        let redactor = redactor.or_else(|_| Redactor::new(&[], file.redact.1)).map(std::sync::Arc::new);
        let redactor = redactor.map_err(|e| ConfigProblem::new("redact", e))?;
        let config = Self {
            path,
            listen: overrides
                .listen
                .or(listen_env)
                .or(file.listen)
                .unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7070)),
            data: overrides
                .data
                .clone()
                .or(data_env)
                .or(file.data)
                .unwrap_or_else(|| "checkrein-data".into()),
            insecure_listen: overrides.insecure_listen || file.insecure_listen,
            tls: file.tls,
            public_url: file.public_url,
            limits: file.limits,
            approvals: file.approvals,
            oidc: file.oidc,
            log: file.log,
            catalogue: file.catalogue,
            targets: file.targets,
            snapshots: file.snapshots,
            drift: file.drift,
            sinks: file.sinks,
            routing: file.routing,
            outbox: file.outbox.unwrap_or(routes::KEPT),
            redactor,
            file_policies,
            admin_key: admin_env.or(file.admin_key),
        };
        if config.tls.is_none() && !config.insecure_listen && !config.listen.ip().to_canonical().is_loopback()
        {
            problems.push(ConfigProblem::new(
                "server.listen",
                format!(
                    "{} can be reached from other machines, and without TLS everybody on the way can read the keys; \
                     set server.tls, listen on 127.0.0.1, or insist with --insecure-listen",
                    config.listen
                ),
            ));
        }
        ConfigError::unless_empty(problems).map(|()| config)
    }
}

/// The file that [`Config::load`] reads: the one named by `flag`, by `CHECKREIN_CONFIG`, or
/// [`DEFAULT_FILE`] if it exists.
pub fn config_file(flag: Option<PathBuf>, env: Env<'_>) -> Option<PathBuf> {
    flag.or_else(|| env("CHECKREIN_CONFIG").filter(|p| !p.is_empty()).map(PathBuf::from))
        .or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|p| p.exists()))
}

/// Reads a text file of at most 4 MiB.
///
/// # Errors
/// When it is missing, too large, a folder, or not UTF-8.
pub fn read_text(path: &Path) -> Result<String, ConfigError> {
    Ok(document::read(path)?)
}

/// The tool catalogue of a configuration file, for commands that need nothing else of it: no secret has to
/// be there for it.
///
/// # Errors
/// When the file cannot be read or its catalogue is wrong.
pub fn read_catalogue(path: &Path) -> Result<CatalogueConfig, ConfigError> {
    let text = document::read(path)?;
    let source = Source::new(path, &text);
    let config = source.parse().map(|table| catalogue::read(&mut Section::root(&source, &table), None).0);
    ConfigError::unless_empty(source.into_problems()).map(|()| config.unwrap_or_default())
}

/// A target as a configuration file describes it, with its address; `None` when it connects to none of this
/// name. Nothing else of the file has to be in order, but it must be TOML.
///
/// # Errors
/// What is wrong with the target's description.
pub fn read_target(path: &Path, name: &str, env: Env<'_>) -> Result<Option<ConnectedTarget>, ConfigError> {
    let text = document::read(path)?;
    let source = Source::new(path, &text);
    let wanted = Name::new(name).ok();
    let same = |name: &str| wanted.is_some() && Name::new(name).ok() == wanted;
    let found = source.parse().map(|table| targets::read(&mut Section::root(&source, &table), Some(env)));
    let mut problems = source.into_problems();
    let Some(found) = found else { return ConfigError::unless_empty(problems).map(|()| None) };
    problems.retain(|p| {
        let mut heads = p.at.match_indices('.').filter_map(|(at, _)| p.at.get(..at)).chain([p.at.as_str()]);
        heads.any(|head| head.strip_prefix("targets.").is_some_and(same))
    });
    ConfigError::unless_empty(problems)?;
    Ok(found.into_iter().filter_map(|(_, _, connected)| connected).find(|c| same(&c.config.name)))
}

/// The MCP servers that a configuration file describes, with their secrets. Nothing else of the file has to be
/// in order, but it must be TOML.
///
/// # Errors
/// What is wrong with their descriptions.
pub fn read_mcp(path: &Path, env: Env<'_>) -> Result<Vec<McpServer>, ConfigError> {
    let text = document::read(path)?;
    let source = Source::new(path, &text);
    let found = source.parse().map(|table| mcp::read(&mut Section::root(&source, &table), Some(env)));
    ConfigError::unless_empty(source.into_problems()).map(|()| found.unwrap_or_default())
}

/// Whether `text` would be a good configuration file at `path`, as far as that can be told without looking
/// its secrets up.
///
/// # Errors
/// All that is wrong with it.
pub fn check_text(path: &Path, text: &str) -> Result<(), ConfigError> {
    let mut problems = Vec::new();
    let file = read(path, text, None, &mut problems);
    if let Err(e) = compile_policies(&file.policies) {
        problems.extend(e.problems);
    }
    ConfigError::unless_empty(problems)
}

fn read(path: &Path, text: &str, env: Option<Env<'_>>, problems: &mut Vec<ConfigProblem>) -> FromFile {
    let source = Source::new(path, text);
    let mut file = FromFile::default();
    let mut policy_problems = Vec::new();
    if let Some(table) = source.parse() {
        let mut root = Section::root(&source, &table);
        if let Some(section) = root.section("server") {
            server(section, &mut file, env);
        }
        if let Some(mut limits) = root.section("limits") {
            file.limits.read(&mut limits);
            limits.finish();
        }
        if let Some(mut section) = root.section("approvals") {
            if let Some(d) = section.duration("expire_after", (SECOND, 30 * DAY)) {
                file.approvals.expire_after = d;
            }
            if let Some(section) = section.section("slack") {
                file.approvals.slack = slack::read(section, env);
            }
            section.finish();
        }
        if let Some(mut section) = root.section("console") {
            if let Some(section) = section.section("oidc") {
                file.oidc = oidc::read(section, file.public_url.as_deref(), env);
            }
            section.finish();
        }
        if let Some(mut section) = root.section("log") {
            file.log.keep_for = section.duration("keep_for", (HOUR, 36_500 * DAY));
            section.finish();
        }
        (file.catalogue, file.targets) = catalogue::read(&mut root, env);
        // Somebody else's secrets: they are looked up by `checkrein mcp`.
        mcp::read(&mut root, None);
        if let Some(section) = root.section("snapshots") {
            file.snapshots = snapshots::read(section, env);
        }
        if let Some(section) = root.section("drift") {
            file.drift = drift::read(section);
        }
        for entry in root.texts("policy_files") {
            match read_policies(&document::folder(path).join(entry)) {
                Ok(found) => file.policies.extend(found),
                Err(e) => policy_problems.extend(e.problems),
            }
        }
        file.policies.extend(policies::in_section(path, &mut root));
        let (sinks, names) = sinks::read(&mut root, env);
        file.sinks = sinks;
        file.routing = routes::read(&mut root, &names);
        file.outbox = root.section("outbox").map(routes::limits);
        if let Some(mut section) = root.section("redact") {
            file.redact = (section.texts("fields"), section.flag("emails").unwrap_or_default());
            if let Err(e) = Redactor::new(&file.redact.0, file.redact.1) {
                section.problem("fields", e);
            }
            section.finish();
        }
        root.finish();
    }
    problems.extend(source.into_problems());
    problems.extend(policy_problems);
    file
}

fn server(mut section: Section<'_>, file: &mut FromFile, env: Option<Env<'_>>) {
    file.listen = section.text("listen", address);
    file.data = section.path("data");
    file.insecure_listen = section.flag("insecure_listen").unwrap_or_default();
    file.public_url = section.text("public_url", public_url);
    file.admin_key = section.secret("admin_key", env);
    if let Some(Err(e)) = file.admin_key.as_ref().map(admin_key) {
        section.problem("admin_key", e);
    }
    if let Some(mut tls) = section.section("tls") {
        let mut path = |key| {
            let path = tls.path(key);
            match &path {
                None if tls.line_of(key).is_none() => {
                    tls.problem(key, "is missing; TLS needs `cert` and `key`, both PEM files");
                }
                Some(path) if !path.is_file() => {
                    tls.problem(key, format!("there is no file {}", path.display()));
                }
                _ => {}
            }
            path
        };
        let (cert, key) = (path("cert"), path("key"));
        file.tls = cert.zip(key).map(|(cert, key)| Tls { cert, key });
        tls.finish();
    }
    section.finish();
}

impl Limits {
    fn read(&mut self, section: &mut Section<'_>) {
        if let Some(bytes) = section.size("body", (1024, 64 * 1024 * 1024)) {
            self.body_bytes = usize::try_from(bytes).unwrap_or(self.body_bytes);
        }
        if let Some(n) = section.number("connections", (1, 1_000_000)) {
            self.connections = n as usize;
        }
        if let Some(d) = section.duration("request_timeout", (Duration::from_millis(100), HOUR)) {
            self.request_timeout = d;
        }
        if let Some(n) = section.number("agent_checks_per_second", (0, 1_000_000)) {
            self.agent_checks_per_second = n;
        }
    }
}

/// Reads an address to listen on.
///
/// # Errors
/// When it is not IP and port; what to write instead.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    text.trim().parse().map_err(|_| {
        format!(
            "`{}` is not an address; write IP and port, e.g. 127.0.0.1:7070 or [::1]:7070",
            text.escape_debug()
        )
    })
}

fn public_url(text: &str) -> Result<String, String> {
    let url = url::Url::parse(text).map_err(|e| format!("{text:?} is no URL: {e}"))?;
    let plain = matches!(url.scheme(), "https" | "http")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if plain {
        Ok(url.as_str().trim_end_matches('/').to_owned())
    } else {
        Err(format!(
            "{text:?} is not an address that people can open; write e.g. \"https://checkrein.example.com\""
        ))
    }
}

fn admin_key(key: &SecretString) -> Result<(), String> {
    let bytes = key.expose_secret().len();
    if bytes < MIN_ADMIN_KEY_BYTES {
        return Err(format!(
            "the admin key has {bytes} bytes and needs at least {MIN_ADMIN_KEY_BYTES}; make one with `openssl rand -hex 32`"
        ));
    }
    if !key.expose_secret().bytes().all(|b| b.is_ascii_graphic()) {
        return Err("the admin key may hold only printable ASCII without spaces, as it travels in a header"
            .to_owned());
    }
    Ok(())
}
