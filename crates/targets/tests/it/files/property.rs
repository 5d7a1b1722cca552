//! Whatever an action does to a tree, the rollback undoes all of it, and nothing that came later.

use super::{Done, Shop, all, tree};
use checkrein_core::rollback::OnConflict;
use proptest::{collection::vec, prelude::*};
use std::{
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, PermissionsExt as _, symlink},
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// One thing that is done to a tree. Numbers choose among names and contents; what cannot be done where it
/// falls is left out, as a careless script would.
#[derive(Clone, Debug)]
enum Edit {
    Write(u8, u8),
    Append(u8, u8),
    Sparse(u8, u8),
    Folder(u8),
    Remove(u8),
    Rename(u8, u8),
    HardLink(u8, u8),
    SymLink(u8, u8),
    Mode(u8, u16),
    Owner(u8, u32),
    Time(u8, u32),
    Attribute(u8, u8, Option<u8>),
    Pipe(u8),
}

/// Few names, so that edits meet; some hostile.
fn name(number: u8) -> PathBuf {
    const PARTS: [&[u8]; 6] = [b"a", b"b", b"new\nline", b"\xff\xfe", b"a b", b".hidden"];
    let part = |n: u8| Path::new(std::ffi::OsStr::from_bytes(PARTS[usize::from(n) % PARTS.len()]));
    match number % 3 {
        0 => part(number / 3).to_owned(),
        1 => part(number / 3).join(part(number / 18)),
        _ => part(number / 3).join(part(number / 18)).join(part(number / 7)),
    }
}

fn content(number: u8) -> Vec<u8> {
    // Some are alike, some empty, some larger than a block of the snapshot.
    match number % 8 {
        0 => Vec::new(),
        1 => vec![number; (1 << 20) + 4096],
        _ => vec![number % 16; usize::from(number) * 40],
    }
}

fn edits(most: usize, pipes: bool) -> impl Strategy<Value = Vec<Edit>> {
    let n = any::<u8>;
    let edit = prop_oneof![
        6 => (n(), n()).prop_map(|(a, b)| Edit::Write(a, b)),
        1 => (n(), n()).prop_map(|(a, b)| Edit::Append(a, b)),
        1 => (n(), n()).prop_map(|(a, b)| Edit::Sparse(a, b)),
        3 => n().prop_map(Edit::Folder),
        3 => n().prop_map(Edit::Remove),
        2 => (n(), n()).prop_map(|(a, b)| Edit::Rename(a, b)),
        2 => (n(), n()).prop_map(|(a, b)| Edit::HardLink(a, b)),
        2 => (n(), n()).prop_map(|(a, b)| Edit::SymLink(a, b)),
        2 => (n(), any::<u16>()).prop_map(|(a, b)| Edit::Mode(a, b)),
        1 => (n(), any::<u32>()).prop_map(|(a, b)| Edit::Owner(a, b)),
        1 => (n(), any::<u32>()).prop_map(|(a, b)| Edit::Time(a, b)),
        2 => (n(), n(), any::<Option<u8>>()).prop_map(|(a, b, c)| Edit::Attribute(a, b, c)),
        1 => n().prop_map(move |a| if pipes { Edit::Pipe(a) } else { Edit::Folder(a) }),
    ];
    vec(edit, 0..most)
}

fn apply(root: &Path, edit: &Edit) {
    let at = |n: &u8| root.join(name(*n));
    // To open a pipe is to wait for somebody at its other end.
    let opens = match edit {
        Edit::Write(a, _) | Edit::Append(a, _) | Edit::Sparse(a, _) | Edit::Time(a, _) => Some(a),
        _ => None,
    };
    let is_pipe = |a: &u8| fs::metadata(at(a)).is_ok_and(|m| !m.is_file() && !m.is_dir());
    if opens.is_some_and(is_pipe) {
        return;
    }
    let user_is_root = rustix::process::geteuid().is_root();
    let _may_fail: Result<(), std::io::Error> = match edit {
        Edit::Write(a, b) => {
            let _made = fs::create_dir_all(at(a).parent().unwrap());
            fs::write(at(a), content(*b))
        }
        Edit::Append(a, b) => fs::OpenOptions::new()
            .write(true)
            .open(at(a))
            .and_then(|file| file.write_all_at(&content(*b), u64::from(*b) * 100)),
        Edit::Sparse(a, b) => fs::File::create(at(a)).and_then(|file| {
            file.write_all_at(&content(*b), u64::from(*b) << 14)?;
            file.set_len((u64::from(*b) << 15) + 12345)
        }),
        Edit::Folder(a) => fs::create_dir_all(at(a)),
        Edit::Remove(a) => fs::remove_file(at(a)).or_else(|_| fs::remove_dir_all(at(a))),
        Edit::Rename(a, b) => fs::rename(at(a), at(b)),
        Edit::HardLink(a, b) => fs::hard_link(at(a), at(b)),
        Edit::SymLink(a, b) => symlink(name(*b), at(a)),
        Edit::Mode(a, mode) => match at(a).symlink_metadata() {
            Ok(meta) if !meta.is_symlink() => {
                // Without root, what nobody may read cannot be captured.
                let floor = if user_is_root { 0 } else { 0o700 };
                fs::set_permissions(at(a), fs::Permissions::from_mode(u32::from(mode & 0o7777) | floor))
            }
            _ => Ok(()),
        },
        Edit::Owner(a, b) if user_is_root => std::os::unix::fs::lchown(at(a), Some(b % 5), Some(b % 7)),
        Edit::Owner(..) => Ok(()),
        Edit::Time(a, b) => fs::File::open(at(a)).and_then(|file| {
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::new(u64::from(*b), b % 1_000_000_000))
        }),
        Edit::Attribute(a, b, value) => {
            let key = format!("user.{}", b % 3);
            match at(a).symlink_metadata() {
                Ok(meta) if meta.is_file() || meta.is_dir() => match value {
                    Some(value) => {
                        let flags = rustix::fs::XattrFlags::empty();
                        rustix::fs::lsetxattr(at(a), key, &[*value; 3], flags).map_err(Into::into)
                    }
                    None => rustix::fs::lremovexattr(at(a), key).map_err(Into::into),
                },
                _ => Ok(()),
            }
        }
        Edit::Pipe(a) => {
            rustix::fs::mkfifoat(rustix::fs::CWD, at(a), rustix::fs::Mode::RUSR).map_err(Into::into)
        }
    };
}

fn config(cases: u32) -> ProptestConfig {
    let soak: u32 = std::env::var("CHECKREIN_SOAK").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    ProptestConfig { cases: cases * soak, max_shrink_iters: 2_000, failure_persistence: None, ..ProptestConfig::default() }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn a_rollback_undoes_whatever_was_done(
        first in edits(24, false), action in edits(16, true), sealed in any::<bool>(),
    ) {
        let shop = Shop::new();
        first.iter().for_each(|edit| apply(&shop.root, edit));
        let was = tree::read(&shop.root);
        block_on(async {
            let taken = shop.take(&all()).await;
            assert_eq!(tree::differences(&was, &tree::read(&shop.root)), Vec::<String>::new(), "capturing");
            action.iter().for_each(|edit| apply(&shop.root, edit));
            let changed = tree::read(&shop.root);
            let pipes = changed.values().any(|seen| seen.mode & 0o170_000 == 0o010_000);
            let (snapshot, how) = if sealed {
                (shop.seal(taken).await, OnConflict::Refuse)
            } else {
                (taken.0, OnConflict::Force)
            };
            assert_eq!(tree::differences(&changed, &tree::read(&shop.root)), Vec::<String>::new(), "sealing");
            let undo = match shop.roll_back(&snapshot, how).await.unwrap() {
                Done::Done(_, undo) => Some(undo),
                Done::Nothing => None,
                Done::Conflicts(plan) => panic!("{:#?}", plan.conflicts),
            };
            assert_eq!(tree::differences(&was, &tree::read(&shop.root)), Vec::<String>::new(), "rollback");
            if let (Some(undo), false) = (undo, pipes) {
                let redo = shop.undo(&undo).await.unwrap();
                assert_eq!(tree::differences(&changed, &tree::read(&shop.root)), Vec::<String>::new(), "undo");
                shop.undo(&redo).await.unwrap();
                assert_eq!(tree::differences(&was, &tree::read(&shop.root)), Vec::<String>::new(), "redo");
            }
        });
    }

    #[test]
    fn what_came_later_is_never_lost(
        first in edits(16, false), action in edits(8, false), later in edits(4, false),
    ) {
        let shop = Shop::new();
        first.iter().for_each(|edit| apply(&shop.root, edit));
        block_on(async {
            let was = tree::read(&shop.root);
            let taken = shop.take(&all()).await;
            action.iter().for_each(|edit| apply(&shop.root, edit));
            let after = tree::read(&shop.root);
            let snapshot = shop.seal(taken).await;
            later.iter().for_each(|edit| apply(&shop.root, edit));
            let now = tree::read(&shop.root);
            // Refusing changes nothing when there is a conflict.
            if let Done::Conflicts(plan) = shop.roll_back(&snapshot, OnConflict::Refuse).await.unwrap() {
                prop_assert!(plan.conflict_count > 0);
                prop_assert_eq!(tree::differences(&now, &tree::read(&shop.root)), Vec::<String>::new());
                shop.roll_back(&snapshot, OnConflict::Skip).await.unwrap();
            }
            let is = tree::read(&shop.root);
            // Whatever somebody put or changed later still has the content that they gave it.
            let state = |tree: &tree::Tree, path: &Path| {
                tree.get(path).map(|seen| (seen.mode, seen.owner, seen.content.clone(), seen.xattrs.clone()))
            };
            for path in now.keys() {
                let (then, here) = (state(&after, path), state(&now, path));
                if then != here && here != state(&was, path) {
                    prop_assert_eq!(state(&is, path), here, "{}", path.display());
                }
            }
            // What nobody touched later is as it was before the action, or it was in the way of what is kept.
            for path in was.keys().filter(|path| !now.contains_key(*path) && !after.contains_key(*path)) {
                let blocked = path.ancestors().skip(1).any(|above| state(&now, above) != state(&after, above));
                prop_assert!(blocked || is.contains_key(path), "{} is not back", path.display());
            }
            Ok(())
        })?;
    }
}
