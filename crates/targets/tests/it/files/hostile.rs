//! Whoever works in the folder may be an enemy: links out of it, swaps, pipes, full disks.

use super::{Done, Shop, all, disk::Disk, exists, paths, tree};
use checkrein_core::rollback::OnConflict;
use checkrein_targets::{
    CommitError, Error, Undo, UndoOptions,
    snapshot::{Header, Snapshot, SnapshotWriter},
};
use serde_json::json;
use std::{
    fs,
    os::unix::fs::symlink,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

/// Stops the other thread, even when an assertion fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A folder outside of the target that must never change.
fn outside(shop: &Shop) -> PathBuf {
    let outside = shop.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "outside").unwrap();
    outside
}

#[tokio::test]
async fn a_folder_that_became_a_link_leads_nowhere() {
    let shop = Shop::new();
    let outside = outside(&shop);
    let was_outside = tree::read(&outside);
    shop.put("folder/file", "1");
    shop.put("folder/other", "2");
    let was = tree::read(&shop.root);
    let taken = shop.take(&paths(["folder/file", "folder/other", "folder/absent"])).await;
    shop.put("folder/file", "agent");
    let snapshot = shop.seal(taken).await;
    fs::rename(shop.at("folder"), shop.at("moved")).unwrap();
    symlink(&outside, shop.at("folder")).unwrap();
    let Done::Conflicts(plan) = shop.roll_back(&snapshot, OnConflict::Refuse).await.unwrap() else {
        panic!("conflicts")
    };
    assert!(plan.conflict_count >= 3, "{plan:#?}");
    shop.roll_back(&snapshot, OnConflict::Skip).await.unwrap();
    assert_eq!(tree::differences(&was_outside, &tree::read(&outside)), Vec::<String>::new());
    shop.roll_back(&snapshot, OnConflict::Force).await.unwrap();
    assert_eq!(tree::differences(&was_outside, &tree::read(&outside)), Vec::<String>::new());
    let mut is = tree::read(&shop.root);
    let mut was = was;
    is.retain(|path, _| !path.starts_with("moved"));
    for tree in [&mut is, &mut was] {
        tree.remove(std::path::Path::new(""));
        // Its time is the rollback's: somebody else had put a link there.
        tree.get_mut(std::path::Path::new("folder")).unwrap().mtime = (0, 0);
    }
    assert_eq!(tree::differences(&was, &is), Vec::<String>::new());
}

#[tokio::test]
async fn a_link_that_appears_before_the_commit_leads_nowhere() {
    let shop = Shop::new();
    let outside = outside(&shop);
    let was_outside = tree::read(&outside);
    shop.put("folder/file", "1");
    let taken = shop.take(&all()).await;
    shop.put("folder/file", "agent");
    shop.put("folder/new", "agent");
    let snapshot = shop.seal(taken).await;
    let (mut out, path) = shop.writer();
    let undo = shop.target.rollback(&snapshot, &UndoOptions::default(), &mut out).await.unwrap();
    let Undo::Ready(_, pending) = undo else { panic!("ready") };
    out.finish(&path).await.unwrap();
    fs::rename(shop.at("folder"), shop.at("moved")).unwrap();
    symlink(&outside, shop.at("folder")).unwrap();
    assert!(matches!(pending.commit().await, Err(CommitError::NotCommitted(_) | CommitError::Unknown(_))));
    assert_eq!(tree::differences(&was_outside, &tree::read(&outside)), Vec::<String>::new());
    assert_eq!(shop.get("moved/file"), "agent");
}

#[test]
fn swapping_all_the_time_never_reaches_the_outside() {
    let shop = Shop::new();
    let outside = outside(&shop);
    let was_outside = tree::read(&outside);
    shop.put("folder/file", "1");
    let (folder, aside) = (shop.at("folder"), shop.at("aside"));
    symlink(&outside, &aside).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                let at = rustix::fs::CWD;
                let _may_be_gone = rustix::fs::renameat_with(at, &folder, at, &aside, flags);
                std::thread::sleep(std::time::Duration::from_micros(500));
            }
        });
        let _ends = Ends(&stop);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut taken = 0;
            let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
            while taken < 20 && std::time::Instant::now() < until {
                let Ok((snapshot, _, path)) = shop.capture(&paths(["folder/file"])).await else { continue };
                taken += 1;
                let (mut out, after) = shop.writer();
                if shop.target.seal(&snapshot, &mut out).await.is_err() {
                    continue;
                }
                out.finish(&after).await.unwrap();
                let snapshot = Snapshot::open(&[path, after], None).await.unwrap();
                let _whatever = shop.roll_back(&snapshot, OnConflict::Force).await;
            }
            assert!(taken > 0);
        });
    });
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "outside");
    let names: Vec<_> = fs::read_dir(&outside).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["file"]);
    assert_eq!(tree::read(&outside)[std::path::Path::new("file")], was_outside[std::path::Path::new("file")]);
}

#[tokio::test]
async fn checkreins_own_folder_is_refused_when_it_is_somebody_elses() {
    use std::os::unix::fs::PermissionsExt as _;
    let shop = Shop::new();
    let outside = outside(&shop);
    shop.put("file", "1");
    let taken = shop.take(&all()).await;
    shop.put("file", "agent");
    let snapshot = shop.seal(taken).await;
    symlink(&outside, shop.at(".checkrein")).unwrap();
    assert!(shop.roll_back(&snapshot, OnConflict::Force).await.is_err());
    fs::remove_file(shop.at(".checkrein")).unwrap();
    fs::create_dir(shop.at(".checkrein")).unwrap();
    fs::set_permissions(shop.at(".checkrein"), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(shop.roll_back(&snapshot, OnConflict::Force).await, Err(Error::Forbidden(_))));
    assert_eq!(shop.get("file"), "agent");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[tokio::test]
async fn pipes_and_sockets_are_refused_and_never_waited_for() {
    let shop = Shop::new();
    shop.put("folder/file", "1");
    let pipe = shop.at("folder/pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
    let error = shop.capture(&all()).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("folder/pipe is a named pipe"), "{error}");
    fs::remove_file(&pipe).unwrap();
    let taken = shop.take(&all()).await;
    // A pipe that the action left can be taken away again.
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(shop.at("socket")).unwrap();
    let snapshot = shop.seal(taken).await;
    shop.undo(&snapshot).await.unwrap();
    assert!(!exists(&pipe) && !exists(&shop.at("socket")));
}

#[test]
fn a_file_that_is_written_to_is_captured_whole_or_not_at_all() {
    let shop = Shop::new();
    let path = shop.at("busy");
    let size = 3 << 20;
    fs::write(&path, vec![0_u8; size]).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use std::os::unix::fs::FileExt as _;
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            let mut round = 0_u8;
            while !stop.load(Ordering::Relaxed) {
                round = round.wrapping_add(1);
                file.write_all_at(&vec![round; size], 0).unwrap();
            }
        });
        let _ends = Ends(&stop);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut refused = 0;
            for _ in 0..10 {
                match shop.capture(&paths(["busy"])).await {
                    Ok(_) => {}
                    Err(Error::Statement { code, .. }) => {
                        assert_eq!(code, "busy");
                        refused += 1;
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            assert!(refused > 0);
        });
    });
}

#[tokio::test]
async fn a_full_disk_refuses_the_rollback_and_changes_nothing() {
    let Some(disk) = Disk::of("8m") else { return };
    let folder = tempfile::tempdir_in(disk.path()).unwrap();
    let shop = Shop::within(folder);
    let mut noise = vec![0_u8; 1 << 20];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom").unwrap(), &mut noise).unwrap();
    fs::write(shop.at("large"), &noise).unwrap();
    shop.put("small", "1");
    let taken = shop.take(&all()).await;
    fs::remove_file(shop.at("large")).unwrap();
    shop.put("small", "agent");
    let snapshot = shop.seal(taken).await;
    let fill = |left: u64| {
        let filler = fs::File::create(shop.folder.path().join("filler")).unwrap();
        let free = rustix::fs::statvfs(disk.path()).unwrap();
        let bytes = (free.f_bfree * free.f_frsize).saturating_sub(left);
        rustix::fs::fallocate(&filler, rustix::fs::FallocateFlags::empty(), 0, bytes).unwrap();
    };
    let now = tree::read(&shop.root);
    let elsewhere = tempfile::tempdir().unwrap();
    for left in [300 << 10, 40 << 10, 0] {
        fill(left);
        // The snapshot of the rollback is elsewhere, so that it is the staging that finds no room.
        let path = elsewhere.path().join(left.to_string());
        let header =
            Header { id: "snp_2".into(), target: "docs".into(), kind: "files".into(), system: json!({}) };
        let mut out = SnapshotWriter::create(&path, &header, None, (1_000, 1 << 30)).unwrap();
        let options = UndoOptions::default();
        let error = match shop.target.rollback(&snapshot, &options, &mut out).await {
            Ok(_) => panic!("there is no room"),
            Err(error) => error.to_string(),
        };
        assert!(error.contains("full") || error.contains("No space left"), "{error}");
        assert_eq!(tree::differences(&now, &tree::read(&shop.root)), Vec::<String>::new());
        assert!(!exists(&shop.at(".checkrein")));
        fs::remove_file(shop.folder.path().join("filler")).unwrap();
    }
    shop.undo(&snapshot).await.unwrap();
    assert_eq!(fs::read(shop.at("large")).unwrap(), noise);
}

#[tokio::test]
async fn another_file_system_in_the_folder_is_refused() {
    let Some(disk) = Disk::of("1m") else { return };
    let parent = disk.path().parent().unwrap().to_owned();
    let name = disk.path().file_name().unwrap().to_str().unwrap().to_owned();
    fs::write(disk.path().join("file"), "1").unwrap();
    let config = checkrein_targets::TargetConfig {
        name: "docs".into(),
        place: checkrein_targets::Place::Files(parent),
        limits: checkrein_targets::Limits::default(),
    };
    let target = checkrein_targets::open(config).unwrap();
    for path in [name.clone(), format!("{name}/file")] {
        let error = target.count(&paths([&path])).await.unwrap_err();
        assert!(matches!(error, Error::Unsupported(_)), "{error}");
    }
}
