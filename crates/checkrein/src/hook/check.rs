//! `checkrein hook claude-code --check`: whether the hook is there, heeded and answered.

use super::{ClaudeCode, settings, settings::Found, user_settings};
use crate::{
    failure::{Code, Failure, Result},
    output::{Out, clean},
    remote::ask_at,
};
use checkrein_api::ClientError;
use checkrein_core::name::Pattern;
use serde::Serialize;
use serde_json::{Map, Value};
use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// The first Claude Code that blocks a call when a hook that says `onFailure: block` fails.
const FIRST: [u32; 3] = [2, 1, 295];
/// Settings that whoever manages this machine has made.
const MANAGED: &str = "/etc/claude-code/managed-settings.json";
/// How long `claude --version` may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// One thing that was looked at.
#[derive(Serialize)]
struct Finding {
    about: &'static str,
    ok: bool,
    message: String,
    #[serde(skip)]
    code: Code,
}

pub(super) fn run(args: &ClaudeCode, out: &mut Out) -> Result {
    let (mut findings, found) = of_settings(args)?;
    let version = version();
    findings.push(match version.problem() {
        None => finding("Claude Code", Code::Failed, Ok(version.told())),
        Some(problem) => finding("Claude Code", Code::Failed, Err(problem)),
    });
    if found {
        findings.push(of_server(args));
    }
    if out.json {
        let ok = findings.iter().all(|f| f.ok);
        out.json(&serde_json::json!({ "ok": ok, "findings": findings }))?;
    } else {
        for Finding { about, ok, message, .. } in &findings {
            out.line(&format!("{}  {about}: {}", if *ok { "ok     " } else { "problem" }, clean(message)))?;
        }
    }
    out.flush()?;
    findings.iter().find(|f| !f.ok).map_or(Ok(()), |f| Err(Failure::Quiet(f.code)))
}

fn finding(about: &'static str, code: Code, what: std::result::Result<String, String>) -> Finding {
    let ok = what.is_ok();
    Finding { about, ok, code, message: what.unwrap_or_else(|problem| problem) }
}

/// Looks through all settings that Claude Code would read, since each can take the hook away again.
fn of_settings(args: &ClaudeCode) -> Result<(Vec<Finding>, bool)> {
    let folder = args.project.clone().unwrap_or_else(|| PathBuf::from(".")).join(".claude");
    let mut files = vec![PathBuf::from(MANAGED), user_settings()?];
    if !args.user {
        files.extend(["settings.json", "settings.local.json"].map(|name| folder.join(name)));
    }
    let mut problems = Vec::new();
    if env::var_os(SIMPLE).is_some_and(|value| !value.is_empty()) {
        problems.push(format!("{SIMPLE} is set here, which turns all hooks off; unset it"));
    }
    let mut all = Vec::new();
    for file in files {
        match settings_of(&file) {
            Ok(None) => {}
            Ok(Some(settings)) => all.push((file, settings)),
            Err(problem) => problems.push(problem),
        }
    }
    problems.extend(all.iter().flat_map(|(file, settings)| off(file, settings)));
    let hooks = all.iter().flat_map(|(file, s)| settings::found(s).into_iter().map(move |hook| (file, hook)));
    let (hooks, others): (Vec<_>, Vec<_>) = hooks.partition(|(_, hook)| is_asked_for(hook, args));
    problems.extend(others.iter().map(|(file, hook)| another(file, hook, args)));
    let any = !hooks.is_empty() || !others.is_empty();
    // The best there is: one that holds makes up for another that does not.
    let found = hooks.into_iter().max_by_key(|(_, hook)| (hook.closed, hook.key_env.is_some()));
    match &found {
        None if any => {}
        None => problems.push(
            "the hook is in none of Claude Code's settings; put it there with `checkrein hook claude-code --install`"
                .to_owned(),
        ),
        Some((file, Found { closed: false, .. })) => problems.push(format!(
            "{}: the hook is not for every tool, lets a call run when it fails, or has keys (`if`, `once`, `async`) \
             that may let one run; install it again",
            file.display()
        )),
        Some((file, Found { key_env: None, .. })) => problems.push(format!(
            "{}: the hook does not name the variable that holds the key; install it again",
            file.display()
        )),
        Some((file, hook)) => {
            problems.extend(all.iter().flat_map(|(other, settings)| against(other, settings, file)));
            problems.extend(left_out(&all, hook));
        }
    }
    let told = match (&found, problems.is_empty()) {
        (Some((file, _)), true) => vec![finding("settings", Code::Failed, Ok(file.display().to_string()))],
        _ => problems.into_iter().map(|p| finding("settings", Code::Failed, Err(p))).collect(),
    };
    Ok((told, any))
}

/// Whether the hook sends the key that was named to the server that was named, and nothing elsewhere.
fn is_asked_for(hook: &Found, args: &ClaudeCode) -> bool {
    let key = hook.key_env.as_ref().is_none_or(|name| *name == args.key_env);
    key && hook.url == args.url.trim_end_matches('/')
}

/// A project's settings are whatever its author wrote: where they point to gets no key from here.
fn another(file: &Path, hook: &Found, args: &ClaudeCode) -> String {
    format!(
        "{}: a hook sends {} to {}, not {} to {}; take it out, or name it with `--url` and `--key-env` if it is yours",
        file.display(),
        hook.key_env.as_deref().unwrap_or("no key"),
        hook.url,
        args.key_env,
        args.url,
    )
}

/// What turns all hooks off without a word.
const SIMPLE: &str = "CLAUDE_CODE_SIMPLE";

fn off(file: &Path, settings: &Map<String, Value>) -> Option<String> {
    settings.get("env")?.get(SIMPLE)?;
    Some(format!("{}: `{SIMPLE}` turns all hooks off", file.display()))
}

fn settings_of(file: &Path) -> std::result::Result<Option<Map<String, Value>>, String> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(format!("{} cannot be read: {e}", file.display())),
    };
    settings::read(&text)
        .map(Some)
        .map_err(|e| format!("{} {e}; Claude Code ignores the whole file", file.display()))
}

/// What `settings` have against the hook that is in `file`.
fn against(other: &Path, settings: &Map<String, Value>, file: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    let on = |name: &str| settings.get(name) == Some(&Value::Bool(true));
    if on("disableAllHooks") {
        problems.push(format!("{}: `disableAllHooks` turns all hooks off", other.display()));
    }
    if on("allowManagedHooksOnly") && other == Path::new(MANAGED) && file != Path::new(MANAGED) {
        let (other, file) = (other.display(), file.display());
        problems.push(format!("{other}: `allowManagedHooksOnly` turns off the hook in {file}"));
    }
    problems
}

/// Lists of what HTTP hooks may do, all settings taken together, that leave out what this one needs.
fn left_out(all: &[(PathBuf, Map<String, Value>)], hook: &Found) -> Vec<String> {
    let url = format!("{}{}", hook.url, settings::PATH);
    let needs =
        [("allowedHttpHookUrls", Some(url.as_str())), ("httpHookAllowedEnvVars", hook.key_env.as_deref())];
    let fits = |pattern: &Value, needed: &str| {
        pattern.as_str().and_then(|p| Pattern::new(p).ok()).is_some_and(|p| p.matches(needed))
    };
    needs
        .into_iter()
        .filter_map(|(name, needed)| needed.map(|needed| (name, needed.to_lowercase())))
        .filter(|(name, needed)| {
            let mut lists = all.iter().filter_map(|(_, s)| s.get(*name).and_then(Value::as_array)).peekable();
            lists.peek().is_some() && !lists.flatten().any(|pattern| fits(pattern, needed))
        })
        .map(|(name, needed)| format!("`{name}` of Claude Code's settings leaves out {needed}"))
        .collect()
}

/// Asks the server that was named with the key that was named, never those of the settings.
fn of_server(args: &ClaudeCode) -> Finding {
    let (url, name) = (args.url.trim_end_matches('/'), args.key_env.as_str());
    let Ok(key) = env::var(name) else {
        let problem =
            format!("{name} is not set here, so Claude Code started from here is refused everything");
        return finding("server", Code::Refused, Err(problem));
    };
    let asked = ask_at(url, &key, |client| async move {
        client.checks(&[("limit", "1".to_owned())]).await?;
        // What an agent's key must not be able to do.
        Ok(match client.approvals(&[("limit", "1".to_owned())]).await {
            Ok(_) => true,
            Err(ClientError::Problem(problem)) if problem.status == 403 => false,
            Err(error) => return Err(error),
        })
    });
    match asked {
        Ok(false) => finding("server", Code::Failed, Ok(format!("{url} knows the key in {name}"))),
        Ok(true) => finding(
            "server",
            Code::Refused,
            Err(format!(
                "the key in {name} may approve, so the hook refuses it; give Claude Code an agent's key: checkrein \
                 keys create --role agent --name claude-code --agent claude-code"
            )),
        ),
        Err(Failure::Message(code, message)) => finding("server", code, Err(message)),
        Err(_) => finding("server", Code::Failed, Err(format!("{url} was not asked"))),
    }
}

/// Which Claude Code would run here.
pub(super) enum Version {
    Of([u32; 3]),
    Unreadable(String),
    Missing,
}

impl Version {
    fn told(&self) -> String {
        match self {
            Self::Of([major, minor, patch]) => format!("{major}.{minor}.{patch}"),
            Self::Unreadable(said) => said.clone(),
            Self::Missing => "none".to_owned(),
        }
    }

    /// Why a failed hook might not block.
    pub(super) fn problem(&self) -> Option<String> {
        let [major, minor, patch] = FIRST;
        match self {
            Self::Of(version) if *version >= FIRST => None,
            Self::Of(_) => Some(format!(
                "Claude Code {} runs tools although the hook failed; update it to {major}.{minor}.{patch} or newer",
                self.told()
            )),
            Self::Unreadable(said) => {
                Some(format!("`claude --version` says nothing that is a version: {said}"))
            }
            Self::Missing => Some(format!(
                "there is no `claude` on the PATH, so its version is not known; it must be {major}.{minor}.{patch} or newer"
            )),
        }
    }
}

/// Asks the `claude` that is on the PATH.
pub(super) fn version() -> Version {
    let started = Command::new("claude")
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = started else { return Version::Missing };
    let end = Instant::now() + PATIENCE;
    while let Ok(None) = child.try_wait() {
        if Instant::now() > end {
            let _gone = child.kill();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let said = child.wait_with_output().map(|o| o.stdout).unwrap_or_default();
    let said = String::from_utf8_lossy(&said).trim().chars().take(80).collect::<String>();
    parse(&said).map_or(Version::Unreadable(said), Version::Of)
}

/// `2.1.328 (Claude Code)`
fn parse(said: &str) -> Option<[u32; 3]> {
    let mut numbers = said.split_whitespace().next()?.split('.').map(str::parse::<u32>);
    let version = [numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?];
    numbers.next().is_none().then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared() {
        assert_eq!(parse("2.1.328 (Claude Code)"), Some([2, 1, 328]));
        for none in ["", "v2", "2.1", "2.1.3.4", "two.one.three"] {
            assert_eq!(parse(none), None, "{none}");
        }
        assert!(Version::Of([2, 1, 295]).problem().is_none());
        assert!(Version::Of([10, 0, 0]).problem().is_none());
        assert!(Version::Of([2, 1, 294]).problem().unwrap().contains("2.1.294"));
        assert!(Version::Of([1, 9, 999]).problem().is_some());
    }
}
