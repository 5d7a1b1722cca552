//! Small disks.

use std::{path::Path, process::Command};

/// A folder that is a disk of its own, unmounted when dropped.
pub(crate) struct Disk(tempfile::TempDir);

impl Disk {
    /// None without root, who alone may mount.
    pub(crate) fn of(size: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "checkrein-test"]).arg(folder.path());
        mount.status().is_ok_and(|status| status.success()).then(|| Self(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a thread that was given up may still hold a file.
        let _unmounted = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}
