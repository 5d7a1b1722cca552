//! `checkrein target`

mod edit;

use crate::{
    config::env,
    failure::{Code, Failure, Result},
    file,
    output::{Out, clean, note},
    remote::Remote,
};
use checkrein_api::TargetReport;
use checkrein_server::config::{
    ConnectedTarget, DEFAULT_FILE, check_text, config_file, read_target, read_text,
};
use edit::{New, Place, SnapshotWhen};
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Write a target into the configuration file
    Add(Box<Add>),
    /// List the targets that the server is connected to
    List {
        #[command(flatten)]
        remote: Remote,
    },
    /// Connect to a target and look whether everything that Checkrein needs is there
    Test {
        /// The target's name
        name: String,
        /// Connect from here, as this file describes it; otherwise the server is asked to
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Remove a target from the configuration file
    Remove {
        /// The target's name
        name: String,
        /// The file; otherwise CHECKREIN_CONFIG, or ./checkrein.toml
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Print the least that Checkrein's account needs on a target, as statements to run
    Grants {
        /// The target's name
        name: String,
        /// The account that Checkrein connects as
        #[arg(long, default_value = "checkrein")]
        account: String,
        /// The file that describes it; otherwise CHECKREIN_CONFIG, or ./checkrein.toml
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

#[derive(clap::Args)]
pub(crate) struct Add {
    /// The first part of its resources' names, e.g. `shop` for `shop.public.users`
    name: String,
    /// What kind of system it is
    #[arg(long, value_enum)]
    kind: Kind,
    /// What it is for
    #[arg(long, value_enum)]
    environment: Environment,
    /// The environment variable that holds its address, e.g. postgres://checkrein:…@db:5432/shop
    #[arg(long, value_name = "NAME")]
    url_env: Option<String>,
    /// The file that holds its address
    #[arg(long, value_name = "FILE", conflicts_with = "url_env")]
    url_file: Option<PathBuf>,
    /// Where it is, for sqlite and files
    #[arg(long, conflicts_with_all = ["url_env", "url_file"])]
    path: Option<PathBuf>,
    /// Which allowed actions leave a snapshot: always, never, or those that change more records than this
    #[arg(long, value_name = "WHEN", value_parser = snapshot_when)]
    snapshot_when: Option<SnapshotWhen>,
    /// The file; otherwise CHECKREIN_CONFIG, or ./checkrein.toml, which is made if it does not exist
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Refused: an address holds a password
    #[arg(long, hide = true)]
    url: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// PostgreSQL
    Postgres,
    /// MySQL and MariaDB
    Mysql,
    /// An SQLite file
    Sqlite,
    /// A folder
    Files,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Environment {
    /// The real thing
    Production,
    /// A rehearsal
    Staging,
    /// Nothing in it matters to anybody
    Sandbox,
}

fn snapshot_when(text: &str) -> std::result::Result<SnapshotWhen, String> {
    match text {
        "always" => Ok(SnapshotWhen::Always),
        "never" => Ok(SnapshotWhen::Never),
        number => number
            .parse()
            .map(SnapshotWhen::RecordsExceed)
            .map_err(|_| "write always, never, or a number of records".to_owned()),
    }
}

pub(crate) fn run(command: Command, out: &mut Out) -> Result {
    match command {
        Command::Add(add) => self::add(&add, out),
        Command::List { remote } => list(&remote, out),
        Command::Test { name, config, remote } => {
            let report = match config {
                Some(file) => wait(target(&file, &name)?.test())?,
                None => {
                    let asked = name.clone();
                    remote.ask(|client| async move { client.test_target(&asked).await })?
                }
            };
            tested(&name, &report, out)
        }
        Command::Remove { name, config } => remove(&name, config, out),
        Command::Grants { name, account, config } => {
            let file = config_file(config, &env).ok_or_else(no_file)?;
            let grants = wait(target(&file, &name)?.grants(&account))?;
            let grants = grants.map_err(|e| Failure::failed(e.to_string()))?;
            if out.json {
                return Ok(out.json(&json!({ "target": name, "account": account, "statements": grants }))?);
            }
            for line in grants.lines() {
                out.line(&clean(line))?;
            }
            Ok(())
        }
    }
}

fn add(add: &Add, out: &mut Out) -> Result {
    let file = config_file(add.config.clone(), &env).unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
    let place = place(add, &file)?;
    let new = New {
        name: &add.name,
        kind: match add.kind {
            Kind::Postgres => "postgres",
            Kind::Mysql => "mysql",
            Kind::Sqlite => "sqlite",
            Kind::Files => "files",
        },
        place,
        environment: match add.environment {
            Environment::Production => "production",
            Environment::Staging => "staging",
            Environment::Sandbox => "sandbox",
        },
        snapshot_when: add.snapshot_when,
    };
    let before = if file.exists() { Some(read_text(&file)?) } else { None };
    change(&file, before.as_deref(), |text| edit::added(text, &new))?;
    let shown = clean(&file.display().to_string()).into_owned();
    let name = clean(&add.name).into_owned();
    if out.json {
        out.json(&json!({ "added": add.name, "file": file }))?;
    } else {
        out.line(&format!("{name} is in {shown}"))?;
    }
    out.flush()?;
    if let Place::UrlEnv(variable) = &new.place
        && std::env::var_os(variable).is_none()
    {
        note(&format!("{variable} is not set here; set it for the server: export {variable}=…"));
    }
    if let Place::UrlFile(path) | Place::Path(path) = &new.place
        && !file.parent().unwrap_or(Path::new("")).join(path).exists()
    {
        note(&format!(
            "there is no {} yet; make it, or write another path into {shown}: until then nothing of {name} can be counted",
            clean(path)
        ));
    }
    note(&format!("look whether it works: checkrein target test {name} --config {shown}"));
    note("then start the server again, or send it SIGHUP");
    Ok(())
}

/// Where the target is, as it is to be written down.
fn place<'a>(add: &'a Add, file: &Path) -> Result<Place<'a>> {
    if add.url.is_some() {
        return Err(Failure::usage(
            "an address holds a password, and is written neither on a command line nor into the configuration: \
             put it into an environment variable and name that with --url-env, or into a file and name that \
             with --url-file",
        ));
    }
    let is_variable =
        |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !name.is_empty();
    let database = matches!(add.kind, Kind::Postgres | Kind::Mysql);
    match (&add.url_env, &add.url_file, &add.path) {
        (Some(name), None, None) if database => {
            if !is_variable(name) {
                return Err(Failure::usage(
                    "--url-env takes the name of an environment variable, such as SHOP_URL, not the address",
                ));
            }
            Ok(Place::UrlEnv(name))
        }
        (None, Some(path), None) if database => {
            if path.to_string_lossy().contains("://") {
                return Err(Failure::usage("--url-file takes the path of a file that holds the address"));
            }
            Ok(Place::UrlFile(as_seen_from(file, path)?))
        }
        (None, None, Some(path)) if !database => Ok(Place::Path(as_seen_from(file, path)?)),
        _ if database => Err(Failure::usage("name its address with --url-env NAME or --url-file FILE")),
        _ => Err(Failure::usage("say where it is with --path PATH")),
    }
}

/// `path` as it has to be written in `file`, where paths are relative to the folder of that.
fn as_seen_from(file: &Path, path: &Path) -> Result<String> {
    let here = file.parent().is_none_or(|folder| folder == Path::new("") || folder == Path::new("."));
    let path = if here { path.to_owned() } else { std::path::absolute(path)? };
    path.to_str().map(str::to_owned).ok_or_else(|| Failure::usage("the path is not UTF-8"))
}

fn remove(name: &str, config: Option<PathBuf>, out: &mut Out) -> Result {
    let file = config_file(config, &env).ok_or_else(no_file)?;
    let before = read_text(&file)?;
    let mut written = name.to_owned();
    change(&file, Some(&before), |text| {
        let (text, key) = edit::removed(text, name)?;
        written = key;
        Ok(text)
    })?;
    let shown = clean(&file.display().to_string()).into_owned();
    if out.json {
        out.json(&json!({ "removed": written, "file": file }))?;
    } else {
        out.line(&format!("{} is no longer in {shown}", clean(&written)))?;
    }
    out.flush()?;
    note("what is open on it is finished. Start the server again, or send it SIGHUP");
    Ok(())
}

/// Changes the file, if what comes of it is good as a whole.
fn change(
    path: &Path,
    before: Option<&str>,
    edit: impl FnOnce(&str) -> std::result::Result<String, String>,
) -> Result {
    let at = |e: &dyn std::fmt::Display| Failure::failed(format!("{}: {e}", path.display()));
    let after = edit(before.unwrap_or_default()).map_err(|e| at(&e))?;
    check_text(path, &after)?;
    file::replace(path, before, &after).map_err(|e| at(&e))
}

fn list(remote: &Remote, out: &mut Out) -> Result {
    let list = remote.ask(|client| async move { client.targets().await })?;
    if out.json {
        return Ok(out.json(&list)?);
    }
    let none = list.targets.is_empty();
    let rows: Vec<_> =
        list.targets.into_iter().map(|t| [t.name, t.kind, t.environment.as_str().to_owned()]).collect();
    out.table(["NAME", "KIND", "ENVIRONMENT"], &rows)?;
    if none {
        out.flush()?;
        note("none yet; connect one with: checkrein target add");
    }
    Ok(())
}

fn tested(name: &str, report: &TargetReport, out: &mut Out) -> Result {
    if out.json {
        out.json(report)?;
    } else {
        let system = report.system.as_deref().unwrap_or("it cannot be used");
        out.line(&format!("{}  {}", clean(name), clean(system)))?;
        if let Some(error) = &report.error {
            out.line(&format!("  {}", clean(error)))?;
        }
        for found in &report.privileges {
            let mark = if found.ok { "ok     " } else { "missing" };
            out.line(&format!("  {mark}  {}: {}", clean(&found.needed_for), clean(&found.message)))?;
        }
    }
    out.flush()?;
    if report.ok {
        return Ok(());
    }
    if report.privileges.iter().any(|p| !p.ok) {
        note(&format!("what it needs: checkrein target grants {}", clean(name)));
    }
    Err(Failure::Quiet(Code::Failed))
}

/// A target as a configuration file describes it. Secrets of others need not be there.
fn target(file: &Path, name: &str) -> Result<ConnectedTarget> {
    read_target(file, name, &env)?.ok_or_else(|| {
        Failure::failed(format!(
            "{} connects to no target `{name}`; add it with `checkrein target add`",
            file.display()
        ))
    })
}

fn no_file() -> Failure {
    Failure::failed(format!("there is no {DEFAULT_FILE} here; name the configuration with --config"))
}

fn wait<T>(work: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::failed(format!("cannot start: {e}")))?;
    Ok(runtime.block_on(work))
}
