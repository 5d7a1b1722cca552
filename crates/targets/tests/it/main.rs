//! The targets against real systems.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod files;
mod mysql;
mod postgres;
mod snapshot;
mod sqlite;

use checkrein_targets::{
    Selection, Target,
    snapshot::{Header, Snapshot, SnapshotWriter},
};
use std::{os::unix::fs::PermissionsExt as _, path::Path, process::Command};

/// Takes a snapshot of `what`, lets `act` happen beside it, and seals it. Its files are in the folder.
async fn sealed(
    target: &dyn Target,
    what: &Selection,
    act: impl Future<Output = ()>,
) -> (Snapshot, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let files = [folder.path().join("1"), folder.path().join("2")];
    let kind = target.kind().as_str().to_owned();
    let header = Header { id: "snp_1".into(), target: "shop".into(), kind, system: serde_json::Value::Null };
    let [mut first, mut second] =
        files.each_ref().map(|f| SnapshotWriter::create(f, &header, None, (1_000, 1 << 20)).unwrap());
    target.capture(what, &mut first).await.unwrap();
    first.finish(&files[0]).await.unwrap();
    let unsealed = Snapshot::open(&files[..1], None).await.unwrap();
    act.await;
    target.seal(&unsealed, &mut second).await.unwrap();
    second.finish(&files[1]).await.unwrap();
    (Snapshot::open(&files, None).await.unwrap(), folder)
}

/// An authority, and a certificate of it for `localhost`.
fn certificates(folder: &Path) {
    std::fs::write(folder.join("ext"), "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n").unwrap();
    let openssl = |args: &str| {
        let output = Command::new("openssl").args(args.split(' ')).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    for authority in ["ca", "other"] {
        openssl(&format!(
            "req -x509 {key} -keyout {authority}.key -out {authority}.pem -subj /CN={authority} -days 2"
        ));
    }
    openssl(&format!("req {key} -keyout server.key -out server.csr -subj /CN=localhost"));
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile ext",
    );
    // The server reads it as nobody when the tests run as root.
    std::fs::set_permissions(folder.join("server.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let _not_root = std::os::unix::fs::chown(folder.join("server.key"), Some(65_534), Some(65_534));
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}
