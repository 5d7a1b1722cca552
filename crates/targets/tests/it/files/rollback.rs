//! Restoring: everything that a tree can hold comes back as it was.

use super::{Done, Shop, all, exists, paths, tree};
use checkrein_core::rollback::OnConflict;
use checkrein_targets::{Settled, Undo, UndoOptions};
use std::{
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink},
    },
    path::Path,
};

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn attribute(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
}

/// One of everything.
fn furnish(shop: &Shop) {
    shop.put("plain.txt", "hello");
    shop.put("a/b/deep.txt", "deep");
    shop.put("a/twin.txt", "hello");
    shop.put("gone/x.txt", "x");
    fs::create_dir(shop.at("empty")).unwrap();
    shop.put("empty.txt", "");
    fs::hard_link(shop.at("plain.txt"), shop.at("a/second name")).unwrap();
    symlink("../plain.txt", shop.at("a/link")).unwrap();
    symlink("/nowhere", shop.at("dangling")).unwrap();
    chmod(&shop.at("a/twin.txt"), 0o4751);
    chmod(&shop.at("a/b"), 0o2770);
    attribute(&shop.at("a/twin.txt"), "user.colour", b"\0red");
    attribute(&shop.at("a"), "user.folder", b"");
    let odd = std::ffi::OsStr::from_bytes(b"odd\n\xff name");
    fs::write(shop.root.join(odd), "odd").unwrap();
    let sparse = fs::File::create(shop.at("sparse")).unwrap();
    sparse.write_all_at(b"begin", 0).unwrap();
    sparse.write_all_at(b"middle", 3 << 20).unwrap();
    sparse.set_len(5 << 20).unwrap();
    fs::File::create(shop.at("hole")).unwrap().set_len(1 << 20).unwrap();
    fs::write(shop.at("large"), vec![7_u8; (2 << 20) + 17]).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(shop.at("a/twin.txt"), Some(12345), Some(54321)).unwrap();
        chmod(&shop.at("a/twin.txt"), 0o4751);
        std::os::unix::fs::lchown(shop.at("dangling"), Some(77), None).unwrap();
    }
}

#[tokio::test]
async fn everything_comes_back_as_it_was() {
    let shop = Shop::new();
    furnish(&shop);
    let was = tree::read(&shop.root);
    let taken = shop.take(&all()).await;
    fs::remove_dir_all(shop.at("a")).unwrap();
    fs::remove_file(shop.at("dangling")).unwrap();
    fs::write(shop.at("plain.txt"), "goodbye").unwrap();
    fs::rename(shop.at("gone"), shop.at("moved")).unwrap();
    shop.put("new/folder/file.txt", "new");
    fs::remove_dir(shop.at("empty")).unwrap();
    fs::write(shop.at("empty"), "a file now").unwrap();
    fs::remove_file(shop.at("sparse")).unwrap();
    fs::create_dir(shop.at("sparse")).unwrap();
    shop.put("sparse/inside", "inside");
    chmod(&shop.at("large"), 0o600);
    fs::remove_file(shop.at("hole")).unwrap();
    let changed = tree::read(&shop.root);
    let snapshot = shop.seal(taken).await;
    let undo = shop.undo(&snapshot).await.unwrap();
    assert_eq!(tree::differences(&was, &tree::read(&shop.root)), Vec::<String>::new());
    assert!(matches!(shop.roll_back(&snapshot, OnConflict::Refuse).await.unwrap(), Done::Nothing));
    let redo = shop.undo(&undo).await.unwrap();
    assert_eq!(tree::differences(&changed, &tree::read(&shop.root)), Vec::<String>::new());
    shop.undo(&redo).await.unwrap();
    assert_eq!(tree::differences(&was, &tree::read(&shop.root)), Vec::<String>::new());
}

#[tokio::test]
async fn what_was_not_there_is_removed_again() {
    let shop = Shop::new();
    shop.put("kept", "kept");
    let was = tree::read(&shop.root);
    let taken = shop.take(&paths(["new.txt", "folder/deep/new.txt"])).await;
    shop.put("new.txt", "new");
    let snapshot = shop.seal(taken).await;
    shop.undo(&snapshot).await.unwrap();
    assert_eq!(tree::differences(&was, &tree::read(&shop.root)), Vec::<String>::new());
}

#[tokio::test]
async fn folders_on_the_way_are_made_again() {
    let shop = Shop::new();
    shop.put("a/b/c.txt", "c");
    chmod(&shop.at("a/b"), 0o711);
    let was = tree::read(&shop.root);
    let taken = shop.take(&paths(["a/b/c.txt"])).await;
    fs::remove_dir_all(shop.at("a")).unwrap();
    let snapshot = shop.seal(taken).await;
    shop.undo(&snapshot).await.unwrap();
    assert_eq!(tree::differences(&was, &tree::read(&shop.root)), Vec::<String>::new());
}

#[tokio::test]
async fn permissions_alone_are_set_in_place() {
    let shop = Shop::new();
    shop.put("a.txt", "a");
    let outside = shop.folder.path().join("another name");
    fs::hard_link(shop.at("a.txt"), &outside).unwrap();
    let inode = fs::metadata(&outside).unwrap().ino();
    let taken = shop.take(&paths(["a.txt"])).await;
    chmod(&shop.at("a.txt"), 0o400);
    let snapshot = shop.seal(taken).await;
    shop.undo(&snapshot).await.unwrap();
    let meta = fs::metadata(shop.at("a.txt")).unwrap();
    assert_eq!((meta.ino(), meta.mode() & 0o777), (inode, fs::metadata(&outside).unwrap().mode() & 0o777));
    assert_ne!(meta.mode() & 0o777, 0o400);
}

#[tokio::test]
async fn names_outside_of_the_snapshot_are_said() {
    let shop = Shop::new();
    shop.put("a.txt", "a");
    fs::hard_link(shop.at("a.txt"), shop.folder.path().join("outside")).unwrap();
    let taken = shop.take(&paths(["a.txt"])).await;
    fs::write(shop.at("a.txt"), "b").unwrap();
    let snapshot = shop.seal(taken).await;
    let plan = shop.plan(&snapshot).await;
    assert!(plan.notes.iter().any(|note| note.contains("hard links")), "{:?}", plan.notes);
    shop.undo(&snapshot).await.unwrap();
    assert_eq!(shop.get("a.txt"), "a");
    assert_eq!(fs::read_to_string(shop.folder.path().join("outside")).unwrap(), "b");
}

#[tokio::test]
async fn before_its_commit_nothing_is_changed() {
    let shop = Shop::new();
    furnish(&shop);
    let taken = shop.take(&all()).await;
    fs::remove_dir_all(shop.at("a")).unwrap();
    let now = tree::read(&shop.root);
    let snapshot = shop.seal(taken).await;
    for dropped in [true, false] {
        let (mut out, path) = shop.writer();
        let undo = shop.target.rollback(&snapshot, &UndoOptions::default(), &mut out).await.unwrap();
        let Undo::Ready(plan, pending) = undo else { panic!("ready") };
        assert_eq!(plan.conflict_count, 0);
        assert!(pending.measured().records() >= 5);
        let token = pending.token().to_owned();
        out.finish(&path).await.unwrap();
        let undo = checkrein_targets::snapshot::Snapshot::open(&[path], None).await.unwrap();
        assert_eq!(shop.target.resolve(&token, &undo).await.unwrap(), Settled::Running);
        if dropped {
            drop(pending);
        } else {
            pending.rollback().await;
        }
        assert_eq!(tree::differences(&now, &tree::read(&shop.root)), Vec::<String>::new());
        assert_eq!(shop.target.resolve(&token, &undo).await.unwrap(), Settled::NotCommitted);
    }
    assert!(!exists(&shop.at("a")));
}

#[tokio::test]
async fn a_commit_is_known_afterwards() {
    let shop = Shop::new();
    shop.put("a.txt", "a");
    let taken = shop.take(&paths(["a.txt"])).await;
    fs::remove_file(shop.at("a.txt")).unwrap();
    let snapshot = shop.seal(taken).await;
    let (mut out, path) = shop.writer();
    let undo = shop.target.rollback(&snapshot, &UndoOptions::default(), &mut out).await.unwrap();
    let Undo::Ready(_, pending) = undo else { panic!("ready") };
    let token = pending.token().to_owned();
    out.finish(&path).await.unwrap();
    pending.commit().await.unwrap();
    let undo = checkrein_targets::snapshot::Snapshot::open(&[path], None).await.unwrap();
    assert_eq!(shop.target.resolve(&token, &undo).await.unwrap(), Settled::Committed);
    fs::write(shop.at("a.txt"), "something else").unwrap();
    assert!(matches!(shop.target.resolve(&token, &undo).await.unwrap(), Settled::Unknown(_)));
}

#[tokio::test]
async fn folders_that_may_not_be_written_to_are_opened_and_closed_again() {
    let shop = Shop::new();
    shop.put("closed/file", "1");
    shop.put("closed/inner/file", "2");
    for folder in ["closed/inner", "closed"] {
        chmod(&shop.at(folder), 0o555);
    }
    let was = tree::read(&shop.root);
    let taken = shop.take(&all()).await;
    for folder in ["closed", "closed/inner"] {
        chmod(&shop.at(folder), 0o755);
    }
    fs::write(shop.at("closed/file"), "agent").unwrap();
    fs::remove_dir_all(shop.at("closed/inner")).unwrap();
    shop.put("closed/new/file", "agent");
    for folder in ["closed/new", "closed"] {
        chmod(&shop.at(folder), 0o555);
    }
    let changed = tree::read(&shop.root);
    let snapshot = shop.seal(taken).await;
    let undo = shop.undo(&snapshot).await.unwrap();
    assert_eq!(tree::differences(&was, &tree::read(&shop.root)), Vec::<String>::new());
    shop.undo(&undo).await.unwrap();
    assert_eq!(tree::differences(&changed, &tree::read(&shop.root)), Vec::<String>::new());
    // What goes wrong goes back.
    let (mut out, path) = shop.writer();
    let ready = shop.target.rollback(&snapshot, &UndoOptions::default(), &mut out).await.unwrap();
    let Undo::Ready(_, pending) = ready else { panic!("ready") };
    out.finish(&path).await.unwrap();
    chmod(&shop.at("closed/file"), 0o640);
    let now = tree::read(&shop.root);
    assert!(pending.commit().await.is_err());
    let times = |mut tree: tree::Tree| {
        tree.retain(|path, _| !path.as_os_str().is_empty() && !path.starts_with(".checkrein"));
        tree
    };
    let left = times(tree::read(&shop.root));
    assert_eq!(tree::differences(&times(now), &left), Vec::<String>::new());
    for folder in ["closed", "closed/new"] {
        chmod(&shop.at(folder), 0o755);
    }
}
