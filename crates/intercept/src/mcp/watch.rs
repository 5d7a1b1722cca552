//! What the tools of a server were when they were first seen, and which of them have changed since.
//!
//! A server can describe a harmless tool until somebody trusts it, and then another one under its name. So
//! the digest of each description is kept in a file, which outlives the gateway; calls of a tool that has
//! changed are held until a person has accepted it.

use super::message::one_spelling;
use checkrein_core::{
    fingerprint::hex,
    json::{Strict, write_canonical},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

/// What of a tool a model or a client goes by.
const PARTS: [&str; 5] = ["title", "description", "inputSchema", "outputSchema", "annotations"];
/// Tools of one server that are remembered. More are not passed on.
const MAX_TOOLS: usize = 10_000;
/// Characters of a description, and of each other part, that are kept for whoever has to compare.
const SHOWN: usize = 2_000;

/// Why the list of a server's tools cannot be passed on, or what was seen cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The file with what was seen.
    #[error("what the tools were when first seen cannot be {0} in {1}: {2}")]
    File(&'static str, PathBuf, io::Error),
    /// Its content.
    #[error(
        "{0} does not hold what the gateway wrote there ({1}); restore it, or delete it to see every tool anew"
    )]
    Damaged(PathBuf, serde_json::Error),
    /// The server's list.
    #[error("the server's list of tools cannot be read: {0}")]
    List(String),
}

/// Remembers the tools of one server.
#[derive(Debug)]
pub struct Watch {
    file: PathBuf,
    seen: Mutex<Seen>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    tools: BTreeMap<String, Tool>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tool {
    first_seen: String,
    accepted: Look,
    /// What it is now, if that is something else.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    changed: Option<Look>,
}

/// The digest of each part, and enough of its text to show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Look {
    pub(crate) parts: BTreeMap<String, String>,
    pub(crate) description: String,
    /// The parts but for the description, as JSON.
    #[serde(default)]
    pub(crate) texts: BTreeMap<String, String>,
}

/// A tool that is not what it was.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    pub(crate) tool: String,
    /// What of it.
    pub(crate) parts: Vec<String>,
    pub(crate) before: Look,
    pub(crate) after: Look,
}

impl Change {
    /// Tells it from every other.
    pub(crate) fn digest(&self) -> String {
        let of = |text: &str| hex(&Sha256::digest(text));
        let parts = |look: &Look| {
            look.parts.iter().fold(String::new(), |text, (part, digest)| text + part + digest + " ")
        };
        of(&(of(&self.tool) + &of(&parts(&self.before)) + &of(&parts(&self.after))))
    }
}

impl Watch {
    /// Uses `file`, which need not exist yet.
    ///
    /// # Errors
    /// When it can be neither read nor made.
    pub fn open(file: PathBuf) -> Result<Self, WatchError> {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).map_err(|e| WatchError::File("kept", file.clone(), e))?;
        }
        let seen = Mutex::new(load(&file)?);
        Ok(Self { file, seen })
    }

    /// Compares a list of tools, or a page of it, with what was seen before.
    ///
    /// Gives back those whose change had not been noticed before.
    pub(crate) fn saw(&self, list: &str) -> Result<Vec<Change>, WatchError> {
        let Strict(Value::Array(list)) =
            serde_json::from_str(list).map_err(|e| WatchError::List(e.to_string()))?
        else {
            return Err(WatchError::List("it is no list".to_owned()));
        };
        let mut looks = Vec::with_capacity(list.len());
        let mut names = HashSet::new();
        for tool in list {
            let Some(tool) = tool.as_object() else {
                return Err(WatchError::List("a tool is no object".to_owned()));
            };
            one_spelling(tool, &["name"])
                .and_then(|()| one_spelling(tool, &PARTS))
                .map_err(WatchError::List)?;
            let Some(name) = tool.get("name").and_then(Value::as_str) else {
                return Err(WatchError::List("a tool has no name".to_owned()));
            };
            if !names.insert(name.to_owned()) {
                return Err(WatchError::List(format!("the tool {} is in it twice", name.escape_debug())));
            }
            looks.push((name.to_owned(), Look::of(tool)));
        }
        let mut noticed = Vec::new();
        self.update(|seen| {
            noticed.clear();
            for (name, look) in &looks {
                noticed.extend(seen.meet(name, look));
            }
        })?;
        Ok(noticed)
    }

    /// How `tool` has changed, if it has and nobody has accepted that.
    pub(crate) fn changed(&self, tool: &str) -> Result<Option<Change>, WatchError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.tools.get(tool).is_none_or(|tool| tool.changed.is_none()) {
            return Ok(None);
        }
        // Somebody may have accepted it meanwhile, in another process.
        *seen = load(&self.file)?;
        Ok(seen.tools.get(tool).and_then(|found| found.change(tool)))
    }

    /// From now on the tool is what it has changed to. `false`: it has changed again, and nothing is accepted.
    pub(crate) fn accept(&self, change: &Change) -> Result<bool, WatchError> {
        let mut accepted = false;
        self.update(|seen| {
            accepted = false;
            if let Some(tool) = seen.tools.get_mut(&change.tool)
                && tool.accepted == change.before
                && tool.changed.as_ref() == Some(&change.after)
            {
                tool.accepted = change.after.clone();
                tool.changed = None;
                accepted = true;
            }
        })?;
        Ok(accepted)
    }

    /// Accepts every change of these tools, or of all of them; gives their names back.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn accept_named(&self, names: &[String]) -> Result<Vec<String>, WatchError> {
        let mut accepted = Vec::new();
        self.update(|seen| {
            accepted.clear();
            for (name, tool) in &mut seen.tools {
                if (names.is_empty() || names.contains(name))
                    && let Some(look) = tool.changed.take()
                {
                    tool.accepted = look;
                    accepted.push(name.clone());
                }
            }
        })?;
        Ok(accepted)
    }

    /// Changes what is remembered, here and in the file, together with other gateways of the same server.
    fn update(&self, mut change: impl FnMut(&mut Seen)) -> Result<(), WatchError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = seen.clone();
        change(&mut next);
        if next == *seen {
            return Ok(());
        }
        let failed = |e| WatchError::File("kept", self.file.clone(), e);
        let lock = fs::File::create(self.file.with_extension("lock")).map_err(failed)?;
        lock.lock().map_err(failed)?;
        let mut next = load(&self.file)?;
        change(&mut next);
        if next.tools.len() > MAX_TOOLS {
            return Err(WatchError::List(format!("there are more than {MAX_TOOLS} tools")));
        }
        write(&self.file, &next).map_err(failed)?;
        *seen = next;
        Ok(())
    }
}

impl Seen {
    fn meet(&mut self, name: &str, look: &Look) -> Option<Change> {
        let Some(tool) = self.tools.get_mut(name) else {
            let tool = Tool { first_seen: now(), accepted: look.clone(), changed: None };
            self.tools.insert(name.to_owned(), tool);
            return None;
        };
        // A change stays one until somebody has accepted it: the list that takes it back may be one that no
        // client looks at.
        let known = tool.changed.as_ref().is_some_and(|changed| changed.parts == look.parts);
        if known || tool.accepted.parts == look.parts {
            return None;
        }
        tool.changed = Some(look.clone());
        tool.change(name)
    }
}

impl Tool {
    fn change(&self, name: &str) -> Option<Change> {
        let (before, after) = (&self.accepted, self.changed.as_ref()?);
        let differs = |part: &&&str| before.parts.get(**part) != after.parts.get(**part);
        Some(Change {
            tool: name.to_owned(),
            parts: PARTS.iter().filter(differs).map(|part| (*part).to_owned()).collect(),
            before: before.clone(),
            after: after.clone(),
        })
    }
}

impl Look {
    fn of(tool: &Map<String, Value>) -> Self {
        let (mut parts, mut texts) = (BTreeMap::new(), BTreeMap::new());
        for part in PARTS {
            if let Some(value) = tool.get(part).filter(|value| !value.is_null()) {
                let mut canonical = Vec::new();
                write_canonical(value, &mut canonical);
                parts.insert(part.to_owned(), hex(&Sha256::digest(&canonical)));
                if part != "description" {
                    let text = String::from_utf8_lossy(&canonical).chars().take(SHOWN).collect();
                    texts.insert(part.to_owned(), text);
                }
            }
        }
        let description = tool.get("description").and_then(Value::as_str).unwrap_or_default();
        Self { parts, description: description.chars().take(SHOWN).collect(), texts }
    }
}

fn now() -> String {
    let micros = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    Timestamp::from_micros(i64::try_from(micros).unwrap_or_default()).to_string()
}

fn load(file: &Path) -> Result<Seen, WatchError> {
    match fs::read(file) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| WatchError::Damaged(file.to_owned(), e)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Seen::default()),
        Err(e) => Err(WatchError::File("read", file.to_owned(), e)),
    }
}

/// All of it or nothing, and durably.
fn write(file: &Path, seen: &Seen) -> io::Result<()> {
    let new = file.with_extension("new");
    let mut text = serde_json::to_vec_pretty(seen)?;
    text.push(b'\n');
    fs::write(&new, text)?;
    fs::File::open(&new)?.sync_all()?;
    fs::rename(&new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(tools: &[(&str, &str)]) -> String {
        let tool = |(name, says): &(&str, &str)| serde_json::json!({"name": name, "inputSchema": {"description": says}});
        Value::from(tools.iter().map(tool).collect::<Vec<_>>()).to_string()
    }

    #[test]
    fn a_change_stays_one_until_exactly_it_is_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let watch = Watch::open(dir.path().join("w.json")).unwrap();
        let saw = |says: &str| watch.saw(&list(&[("a", says)])).unwrap();
        assert!(saw("1").is_empty());
        let second = saw("2").remove(0);
        assert!(saw("2").is_empty() && saw("1").is_empty());
        assert_eq!(watch.changed("a").unwrap().as_ref(), Some(&second));
        let third = saw("3").remove(0);
        assert_eq!((&second.parts, &second.before), (&third.parts, &third.before));
        assert_ne!(second.digest(), third.digest());
        assert_ne!(second.after.parts, third.after.parts);
        assert!(!watch.accept(&second).unwrap() && watch.changed("a").unwrap().is_some());
        assert!(watch.accept(&third).unwrap() && watch.changed("a").unwrap().is_none());
        assert!(third.after.texts["inputSchema"].contains('3'));
    }

    #[test]
    fn a_list_is_read_in_one_way() {
        let dir = tempfile::tempdir().unwrap();
        let watch = Watch::open(dir.path().join("w.json")).unwrap();
        for wrong in [
            &list(&[("a", "evil"), ("a", "good")]),
            r#"[{"name":"a","Name":"b"}]"#,
            r#"[{"name":"a","Description":"evil"}]"#,
            r#"[{"name":"a","name":"b"}]"#,
            "[7]",
            "{}",
        ] {
            assert!(watch.saw(wrong).is_err(), "{wrong}");
        }
        assert!(watch.changed("a").unwrap().is_none());
    }
}
