//! Which paths are meant, and how they are counted.

use super::{
    path::{OWN, RelPath},
    root::{Root, names, problem},
    work::Stop,
};
use crate::{Affected, Error, How, Selection};
use globset::{GlobBuilder, GlobMatcher};
use rustix::{fs::Statx, io::Errno};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

/// Paths that one action may touch; what is known of them is held in memory, some 300 bytes each.
const MOST_PATHS: usize = 1_000_000;
/// Folders that a count tells apart.
pub(super) const MOST_RESOURCES: usize = 256;
const LONGEST_GLOB: usize = 1024;

/// What is meant.
pub(super) enum Choice {
    /// These, and all that is below them.
    Paths(BTreeSet<RelPath>),
    /// What below the folder matches, and all that is below it.
    Glob(RelPath, GlobMatcher),
    /// Nothing but what the snapshot names.
    Nothing,
}

impl Choice {
    /// Reads a selection. The flag: whether it is for removing.
    pub(super) fn of(root: &Path, what: &Selection) -> Result<(Self, bool), Error> {
        match what {
            Selection::Statements(_) => Err(Error::Unsupported(
                "files are not changed by statements; name the paths (`record_ids`) or a pattern (`where`: {\"glob\": …})"
                    .to_owned(),
            )),
            Selection::Records { resource, ids, delete } => {
                let folder = RelPath::parse(root, resource.as_bytes())?;
                let paths = ids.iter().map(|id| {
                    let id = RelPath::bytes_of(id)?;
                    if id.is_empty() {
                        return Err(Error::Invalid("a path is empty; `.` is the resource itself".to_owned()));
                    }
                    let path = RelPath::parse(root, &id)?;
                    Ok(if id.starts_with(b"/") { path } else { RelPath::parse(root, folder.join(path.bytes()).bytes())? })
                });
                Ok((Self::Paths(paths.collect::<Result<_, Error>>()?), *delete))
            }
            Selection::Where { resource, filter, delete } => {
                let folder = RelPath::parse(root, resource.as_bytes())?;
                if filter.is_empty() {
                    return Ok((Self::Paths(BTreeSet::from([folder])), *delete));
                }
                match (filter.len(), filter.get("glob").and_then(Value::as_str)) {
                    (1, Some(pattern)) => Ok((Self::Glob(folder, glob(pattern)?), *delete)),
                    _ => Err(Error::Invalid(
                        "files are chosen with `where`: {\"glob\": \"**/*.csv\"} and nothing else".to_owned(),
                    )),
                }
            }
        }
    }

    /// For the snapshot, so that what appears later is found again.
    pub(super) fn json(&self) -> Value {
        match self {
            Self::Paths(paths) => json!({"paths": paths.iter().map(RelPath::json).collect::<Vec<_>>()}),
            Self::Glob(folder, glob) => json!({"folder": folder.json(), "glob": glob.glob().glob()}),
            Self::Nothing => json!({}),
        }
    }

    /// What [`Choice::json`] wrote.
    pub(super) fn recorded(shape: &Value) -> Result<Self, Error> {
        let path = |value: &Value| RelPath::recorded(&RelPath::bytes_of(value)?);
        match (shape.get("paths"), shape.get("folder"), shape.get("glob").and_then(Value::as_str)) {
            (Some(Value::Array(paths)), None, None) => {
                Ok(Self::Paths(paths.iter().map(path).collect::<Result<_, _>>()?))
            }
            (None, Some(folder), Some(pattern)) => Ok(Self::Glob(path(folder)?, glob(pattern)?)),
            (None, None, None) => Ok(Self::Nothing),
            _ => Err(Error::Snapshot("the snapshot does not say which files were meant".to_owned())),
        }
    }
}

fn glob(pattern: &str) -> Result<GlobMatcher, Error> {
    let pattern = pattern.strip_prefix("./").unwrap_or(pattern);
    let refuse = |why: &str| Error::Invalid(format!("the pattern {pattern:?} {why}"));
    if pattern.is_empty() || pattern.len() > LONGEST_GLOB {
        return Err(refuse("is empty or longer than 1024 bytes"));
    }
    if pattern.starts_with('/') || pattern.contains('\0') || pattern.split('/').any(|part| part == "..") {
        return Err(refuse(
            "leads out of the resource; it matches paths below it, without `/` in front or `..`",
        ));
    }
    GlobBuilder::new(pattern)
        .literal_separator(true)
        .build()
        .map(|glob| glob.compile_matcher())
        .map_err(|e| refuse(&format!("is not understood: {}", e.kind())))
}

/// Whether a path through a link, or below something that is no folder, is an error or simply not there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ways {
    Strict,
    Lenient,
}

/// Tells `each` every path that is meant, in no order and none twice; what stands there is none for a path
/// that is named and not there.
pub(super) fn walk(
    root: &Root,
    choice: &Choice,
    ways: Ways,
    stop: &Stop,
    mut each: impl FnMut(RelPath, Option<&Statx>) -> Result<(), Error>,
) -> Result<(), Error> {
    match choice {
        Choice::Nothing => Ok(()),
        Choice::Paths(paths) => {
            for path in paths {
                if path.ancestors().any(|above| paths.contains(&above)) {
                    continue;
                }
                match find(root, path, ways)? {
                    None => each(path.clone(), None)?,
                    Some(found) => below(root, path.clone(), &found, stop, &mut |_| true, true, &mut each)?,
                }
            }
            Ok(())
        }
        Choice::Glob(folder, glob) => {
            let Some(found) = find(root, folder, ways)? else { return Ok(()) };
            let mut matches = |path: &RelPath| {
                path.below(folder)
                    .is_some_and(|below| !below.is_empty() && glob.is_match(OsStr::from_bytes(below)))
            };
            below(root, folder.clone(), &found, stop, &mut matches, false, &mut each)
        }
    }
}

/// Is told a path and what stands there.
type Each<'a> = dyn FnMut(RelPath, Option<&Statx>) -> Result<(), Error> + 'a;

fn find(root: &Root, path: &RelPath, ways: Ways) -> Result<Option<Statx>, Error> {
    let found = root.spot(path).and_then(|spot| spot.stat());
    match found {
        Ok(found) if root.holds(&found) => Ok(Some(found)),
        Ok(_) => Err(problem("used", path, Errno::XDEV)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::NOTDIR | Errno::LOOP) if ways == Ways::Lenient => Ok(None),
        Err(e) => Err(problem("used", path, e)),
    }
}

fn below(
    root: &Root,
    top: RelPath,
    found: &Statx,
    stop: &Stop,
    matches: &mut dyn FnMut(&RelPath) -> bool,
    all: bool,
    each: &mut Each<'_>,
) -> Result<(), Error> {
    const FOLDER: u16 = 0o040_000;
    let is_folder = |found: &Statx| found.stx_mode & 0o170_000 == FOLDER;
    if all {
        each(top.clone(), Some(found))?;
    }
    let mut folders = if is_folder(found) { vec![(top, all)] } else { Vec::new() };
    while let Some((folder, all)) = folders.pop() {
        stop.check()?;
        let dir = match root.folder(folder.bytes()) {
            Ok(dir) => dir,
            // Removed, or swapped for something else, meanwhile.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(e) => return Err(problem("listed", &folder, e)),
        };
        for name in names(&dir, &folder)? {
            if folder.is_root() && name == OWN {
                continue;
            }
            let path = folder.join(&name);
            let found = match super::root::stat(&dir, &name) {
                Ok(found) if root.holds(&found) => found,
                Ok(_) => return Err(problem("used", &path, Errno::XDEV)),
                Err(Errno::NOENT) => continue,
                Err(e) => return Err(problem("looked at", &path, e)),
            };
            let all = all || matches(&path);
            if is_folder(&found) {
                if folders.len() >= MOST_PATHS {
                    return Err(too_many());
                }
                folders.push((path.clone(), all));
            }
            if all {
                each(path, Some(&found))?;
            }
        }
    }
    Ok(())
}

fn too_many() -> Error {
    Error::TooLarge(format!("more than {MOST_PATHS} paths; narrow the action, or take it folder by folder"))
}

/// All paths that are meant, sorted: a folder comes before what is in it.
pub(super) fn paths(
    root: &Root,
    choice: &Choice,
    ways: Ways,
    stop: &Stop,
) -> Result<BTreeSet<RelPath>, Error> {
    let mut found = BTreeSet::new();
    walk(root, choice, ways, stop, |path, _| {
        found.insert(path);
        if found.len() > MOST_PATHS { Err(too_many()) } else { Ok(()) }
    })?;
    Ok(found)
}

/// Numbers by folder. A folder counts for itself, everything else for the folder that it is in.
#[derive(Debug)]
pub(super) struct Tally<K>(BTreeMap<(RelPath, K), u64>);

impl<K: Ord + Copy> Tally<K> {
    pub(super) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub(super) fn add(&mut self, path: &RelPath, is_folder: bool, kind: K) {
        let folder = if is_folder { path.clone() } else { path.parent().unwrap_or_default() };
        *self.0.entry((folder, kind)).or_default() += 1;
    }

    /// By folder; from the deepest, folders are counted with the one above while there are too many.
    /// The flag: whether that was done.
    pub(super) fn finish(mut self) -> (BTreeMap<(RelPath, K), u64>, bool) {
        let folders = |map: &BTreeMap<(RelPath, K), u64>| {
            map.keys().map(|(folder, _)| folder).collect::<BTreeSet<_>>().len()
        };
        let depth = |path: &RelPath| path.ancestors().count();
        let mut coarser = false;
        while folders(&self.0) > MOST_RESOURCES {
            coarser = true;
            let deepest = self.0.keys().map(|(folder, _)| depth(folder)).max().unwrap_or_default();
            for ((folder, kind), number) in std::mem::take(&mut self.0) {
                let folder =
                    if depth(&folder) == deepest { folder.parent().unwrap_or_default() } else { folder };
                *self.0.entry((folder, kind)).or_default() += number;
            }
        }
        (self.0, coarser)
    }
}

impl Tally<How> {
    pub(super) fn affected(self) -> (Vec<Affected>, bool) {
        let (map, coarser) = self.finish();
        let affected = map.into_iter().map(|((folder, how), records)| Affected {
            resource: folder.show(),
            how,
            records,
        });
        (affected.collect(), coarser)
    }
}

/// How an action touches what stands at a path; none for removing what is not there.
pub(super) const fn how(delete: bool, there: bool) -> Option<How> {
    match (delete, there) {
        (true, true) => Some(How::Delete),
        (true, false) => None,
        (false, true) => Some(How::Update),
        (false, false) => Some(How::Insert),
    }
}
