//! Small disks, to fill them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::servers::Error;

/// A disk of its own on a folder; unmounted when dropped.
#[derive(Debug)]
pub struct Disk(PathBuf);

impl Disk {
    /// Mounts one of `size` (`2m`) on the folder `path`, which is made if it is not there.
    ///
    /// # Errors
    /// If it cannot be mounted: only root may.
    pub fn on(path: &Path, size: &str) -> Result<Self, Error> {
        std::fs::create_dir_all(path)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "checkrein-test"]).arg(path);
        let output = mount.output()?;
        if output.status.success() {
            return Ok(Self(path.to_owned()));
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(format!("no small disk can be mounted (run the tests as root): {said}").into())
    }

    /// Takes all the room that is left, until the answer is dropped.
    ///
    /// # Errors
    /// If the disk fails in another way than being full.
    pub fn fill(&self) -> Result<Full, Error> {
        let path = self.0.join("full");
        let mut file = std::fs::File::create(&path)?;
        let full = Full(path);
        // Smaller and smaller, so that not a byte is left.
        for block in [1 << 16, 1 << 12, 1] {
            loop {
                match file.write(&vec![b'x'; block]) {
                    Ok(_) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::StorageFull => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(full)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a thread that was given up may still hold a file.
        let _unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A file that takes all the room of a disk. Dropped: removed.
#[derive(Debug)]
pub struct Full(PathBuf);

impl Drop for Full {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.0);
    }
}
