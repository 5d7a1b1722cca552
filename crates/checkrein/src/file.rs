//! Files of others that a command changes.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

/// Puts `text` in the place of the file in one go: whoever reads it sees the old one or the new one.
/// `before` is what it was made from; `None` where there was no file.
pub(crate) fn replace(path: &Path, before: Option<&str>, text: &str) -> io::Result<()> {
    // A link stays one; what it leads to is replaced.
    let real = if before.is_some() { path.canonicalize()? } else { path.to_owned() };
    let folder = match real.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut file = tempfile::Builder::new().prefix(".checkrein-").tempfile_in(&folder)?;
    file.write_all(text.as_bytes())?;
    if before.is_some() {
        file.as_file().set_permissions(fs::metadata(&real)?.permissions())?;
    }
    file.as_file().sync_all()?;
    let now = match fs::read_to_string(&real) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        read => Some(read?),
    };
    if now.as_deref() != before {
        return Err(io::Error::other("somebody else changed it in the meantime; do it again"));
    }
    file.persist(&real).map_err(|e| e.error)?;
    fs::File::open(&folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_in_one_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        replace(&path, None, "a").unwrap();
        assert!(replace(&path, None, "b").unwrap_err().to_string().contains("somebody else"));
        assert!(replace(&path, Some("z"), "b").is_err());
        let link = dir.path().join("link.toml");
        std::os::unix::fs::symlink("c.toml", &link).unwrap();
        replace(&link, Some("a"), "b").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read_to_string(&path).unwrap(), "b");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left behind");
    }
}
