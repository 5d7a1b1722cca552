//! Everything that can be seen of a tree, read by other means than the target uses.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    os::unix::{ffi::OsStringExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    pub(super) mtime: (i64, i64),
    pub(super) xattrs: Vec<(OsString, Vec<u8>)>,
    pub(super) content: Vec<u8>,
    /// Where there is data.
    pub(super) data: Vec<(u64, u64)>,
    /// The first path of the same file.
    pub(super) same_as: Option<PathBuf>,
}

pub(super) type Tree = BTreeMap<PathBuf, Seen>;

/// Reads a tree; paths are below `root`, the root's own is empty.
pub(super) fn read(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut inodes = BTreeMap::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(path) = todo.pop() {
        let at = root.join(&path);
        let meta = fs::symlink_metadata(&at).unwrap();
        let mut seen = Seen {
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            xattrs: xattrs(&at),
            content: Vec::new(),
            data: Vec::new(),
            same_as: None,
        };
        if meta.is_dir() {
            todo.extend(fs::read_dir(&at).unwrap().map(|e| path.join(e.unwrap().file_name())));
        } else if meta.is_symlink() {
            seen.content = fs::read_link(&at).unwrap().into_os_string().into_vec();
        } else if meta.is_file() {
            seen.content = fs::read(&at).unwrap();
            seen.data = data(&at, meta.len());
            inodes.entry(meta.ino()).or_insert_with(Vec::new).push(path.clone());
        }
        tree.insert(path, seen);
    }
    for mut paths in inodes.into_values().filter(|paths| paths.len() > 1) {
        paths.sort();
        for path in &paths {
            tree.get_mut(path).unwrap().same_as = Some(paths[0].clone());
        }
    }
    tree
}

/// What differs, in words.
pub(super) fn differences(was: &Tree, is: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for path in was.keys().chain(is.keys().filter(|p| !was.contains_key(*p))) {
        let what = match (was.get(path), is.get(path)) {
            (Some(was), Some(is)) if was == is => continue,
            (Some(was), Some(is)) => {
                let short = |seen: &Seen| {
                    format!(
                        "{:o} {:?} {:?} {:?} {} bytes {:?} {:?}",
                        seen.mode,
                        seen.owner,
                        seen.mtime,
                        seen.xattrs,
                        seen.content.len(),
                        seen.data,
                        seen.same_as
                    )
                };
                format!("was {}, is {}, same content: {}", short(was), short(is), was.content == is.content)
            }
            (Some(_), None) => "is gone".to_owned(),
            (None, _) => "has appeared".to_owned(),
        };
        found.push(format!("{}: {what}", path.display()));
    }
    found
}

fn xattrs(path: &Path) -> Vec<(OsString, Vec<u8>)> {
    let mut names = vec![0_u8; 1 << 16];
    let len = rustix::fs::llistxattr(path, &mut names).unwrap();
    let mut found: Vec<_> = names[..len]
        .split(|b| *b == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0_u8; 1 << 16];
            let len = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
            value.truncate(len);
            (OsString::from_vec(name.to_vec()), value)
        })
        .collect();
    found.sort();
    found
}

fn data(path: &Path, size: u64) -> Vec<(u64, u64)> {
    use rustix::fs::{SeekFrom, seek};
    let file = fs::File::open(path).unwrap();
    let (mut found, mut at) = (Vec::new(), 0);
    while let Ok(start) = seek(&file, SeekFrom::Data(at)) {
        at = seek(&file, SeekFrom::Hole(start)).unwrap().min(size);
        found.push((start, at));
        if at >= size {
            break;
        }
    }
    found
}
