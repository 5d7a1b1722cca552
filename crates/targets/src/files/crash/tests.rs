//! Ends the process at every step of a rollback.

use crate::{
    Limits, Place, Selection, Settled, Target as _, TargetConfig, Undo, UndoOptions,
    files::Files,
    snapshot::{Header, Snapshot, SnapshotWriter},
};
use rustix::process::{Signal, getpid, kill_process};
use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::Path,
    process::{Command, Output},
    sync::atomic::{AtomicU64, Ordering},
};

#[path = "../../../tests/it/files/tree.rs"]
mod tree;

const AT: &str = "CHECKREIN_TEST_CRASH_AT";
const FOLDER: &str = "CHECKREIN_TEST_CRASH_FOLDER";

pub(super) fn die_if_it_is_time() {
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let Some(at) = std::env::var(AT).ok().and_then(|at| at.parse::<u64>().ok()) else { return };
    if PASSED.fetch_add(1, Ordering::Relaxed) == at {
        kill_process(getpid(), Signal::KILL).unwrap();
    }
}

fn files(folder: &Path) -> Files {
    let place = Place::Files(folder.join("root"));
    Files::new(TargetConfig { name: "docs".into(), place, limits: Limits::default() }).unwrap()
}

fn writer(path: &Path) -> SnapshotWriter {
    let id = "snp_1".to_owned();
    let header = Header { id, target: "docs".into(), kind: "files".into(), system: serde_json::json!({}) };
    SnapshotWriter::create(path, &header, None, (1_000, 1 << 30)).unwrap()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

async fn roll_back(folder: &Path, undo: &Path) {
    let parts = [folder.join("before"), folder.join("after")];
    let snapshot = Snapshot::open(&parts, None).await.unwrap();
    let mut out = writer(undo);
    let target = files(folder);
    let Undo::Ready(_, pending) =
        target.rollback(&snapshot, &UndoOptions::default(), &mut out).await.unwrap()
    else {
        panic!("there is something to do and no conflict");
    };
    out.finish(undo).await.unwrap();
    fs::write(folder.join("token"), pending.token()).unwrap();
    pending.commit().await.unwrap();
}

/// A tree that an action has changed in every way, and its snapshot.
async fn set_up(folder: &Path) -> (tree::Tree, tree::Tree) {
    let root = folder.join("root");
    fs::create_dir_all(root.join("a/b")).unwrap();
    for (path, content) in [("a/b/one", "1"), ("a/two", "2"), ("three", "3"), ("four", "4"), ("five", "5")] {
        fs::write(root.join(path), content).unwrap();
    }
    fs::hard_link(root.join("a/two"), root.join("a/b/two again")).unwrap();
    let was = tree::read(&root);
    let target = files(folder);
    let all = Selection::Where { resource: ".".into(), filter: serde_json::Map::new(), delete: false };
    let (before, after) = (folder.join("before"), folder.join("after"));
    let mut out = writer(&before);
    target.capture(&all, &mut out).await.unwrap();
    out.finish(&before).await.unwrap();
    fs::remove_dir_all(root.join("a/b")).unwrap();
    fs::write(root.join("a/two"), "two").unwrap();
    fs::remove_file(root.join("three")).unwrap();
    fs::create_dir(root.join("three")).unwrap();
    fs::write(root.join("three/new"), "new").unwrap();
    fs::set_permissions(root.join("four"), fs::Permissions::from_mode(0o400)).unwrap();
    fs::create_dir(root.join("made")).unwrap();
    fs::write(root.join("made/file"), "made").unwrap();
    let snapshot = Snapshot::open(std::slice::from_ref(&before), None).await.unwrap();
    let mut out = writer(&after);
    target.seal(&snapshot, &mut out).await.unwrap();
    out.sealed();
    out.finish(&after).await.unwrap();
    (was, tree::read(&root))
}

/// What the process does that is killed.
fn child(folder: &Path) {
    match fs::read_to_string(folder.join("token")) {
        Ok(token) => {
            let undo = block_on(Snapshot::open(&[folder.join("undo")], None)).unwrap();
            block_on(files(folder).resolve(&token, &undo)).unwrap();
        }
        Err(_) => block_on(roll_back(folder, &folder.join("undo"))),
    }
}

/// Runs `child` until it has passed so many steps.
fn run(folder: &Path, at: u64) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "files::crash::tests::a_process_that_is_killed_anywhere_leaves_all_or_nothing",
            "--quiet",
        ])
        .env(AT, at.to_string())
        .env(FOLDER, folder)
        .output()
        .unwrap()
}

#[test]
fn a_process_that_is_killed_anywhere_leaves_all_or_nothing() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return child(Path::new(&folder));
    }
    let (mut committed, mut reverted, mut again) = (0, 0, 0);
    for at in 0.. {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path();
        let root = folder.join("root");
        let (was, mut changed) = block_on(set_up(folder));
        let ended = run(folder, at);
        if ended.status.success() {
            assert!(
                at > 30 && committed > 0 && reverted > 10 && again > 10,
                "{at} {committed} {reverted} {again}"
            );
            assert_eq!(tree::differences(&was, &tree::read(&root)), Vec::<String>::new());
            return;
        }
        assert_eq!(ended.status.signal(), Some(Signal::KILL.as_raw()), "{ended:?}");
        if let Ok(token) = fs::read_to_string(folder.join("token")) {
            let undo = block_on(Snapshot::open(&[folder.join("undo")], None)).unwrap();
            // Settling is cut off too, at some step, and then done again.
            let killed = run(folder, at % 11).status.signal().is_some();
            again += u64::from(killed);
            let settled = block_on(files(folder).resolve(&token, &undo)).unwrap();
            let is = tree::read(&root);
            match settled {
                Settled::Committed => {
                    committed += 1;
                    assert_eq!(tree::differences(&was, &is), Vec::<String>::new(), "{at}");
                    assert_eq!(block_on(files(folder).resolve(&token, &undo)), Ok(settled));
                    continue;
                }
                Settled::NotCommitted => reverted += 1,
                other => panic!("{at}: {other:?}"),
            }
            assert_eq!(tree::differences(&changed, &is), Vec::<String>::new(), "{at}");
            assert_eq!(block_on(files(folder).resolve(&token, &undo)), Ok(settled));
        }
        let mut is = tree::read(&root);
        // Of what was cut off before anything was written down, the time of the root may stay.
        for tree in [&mut is, &mut changed] {
            tree.retain(|path, _| !path.starts_with(".checkrein") && !path.as_os_str().is_empty());
        }
        assert_eq!(tree::differences(&changed, &is), Vec::<String>::new(), "{at}");
        let _unfinished = fs::remove_file(folder.join("undo.part"));
        block_on(roll_back(folder, &folder.join("again")));
        let mut is = tree::read(&root);
        let mut was = was;
        for tree in [&mut is, &mut was] {
            tree.remove(Path::new(""));
        }
        assert_eq!(tree::differences(&was, &is), Vec::<String>::new(), "{at}, again");
    }
}
