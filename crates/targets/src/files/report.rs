//! What the folder allows, and what the user that Checkrein runs as needs.

use super::{
    journal::Own,
    path::RelPath,
    root::{Root, names, problem},
};
use crate::{Error, Privilege, Report};
use rustix::{
    fs::{Access, AtFlags, Mode, RenameFlags, XattrFlags, accessat, fsetxattr, mkdirat, renameat_with},
    io::Errno,
};
use std::path::Path;

pub(super) fn test(path: &Path) -> Result<Report, Error> {
    let root = Root::open(path)?;
    let mut privileges = Vec::new();
    let mut add = |needed_for: &str, ok: bool, message: String| {
        privileges.push(Privilege { needed_for: needed_for.to_owned(), ok, message });
    };
    let listed = names(&root.dir, &RelPath::default());
    add(
        "count",
        listed.is_ok(),
        match &listed {
            Ok(names) => format!("the folder can be listed ({} names)", names.len()),
            Err(error) => error.to_string(),
        },
    );
    let spot = root.spot(&RelPath::default()).map_err(|e| problem("opened", &RelPath::default(), e))?;
    let attributes = super::look::spot_xattrs(&spot);
    add(
        "snapshot",
        attributes.is_ok(),
        match attributes {
            Ok(_) => "metadata, extended attributes and ACLs can be read".to_owned(),
            Err(e) => format!("extended attributes cannot be read ({e}); is /proc there?"),
        },
    );
    let writable = accessat(&root.dir, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS);
    let (ok, message) = match writable {
        Err(e) => (
            false,
            format!(
                "the folder may not be written to ({e}); give the user that Checkrein runs as that right"
            ),
        ),
        Ok(()) => match probe(&root) {
            Ok(message) => (true, message),
            Err(error) => (false, error.to_string()),
        },
    };
    add("rollback", ok, message);
    let user = rustix::process::geteuid();
    add(
        "rollback",
        true,
        if user.is_root() {
            "Checkrein runs as root: every owner can be given back".to_owned()
        } else {
            format!(
                "Checkrein runs as user {}: files of others cannot be given back their owner, a rollback of such files is refused",
                user.as_raw()
            )
        },
    );
    Ok(Report { system: format!("files on {}", file_system(&root)), privileges })
}

/// Makes, swaps and removes two folders in Checkrein's own.
fn probe(root: &Root) -> Result<String, Error> {
    let own = Own::open(root, true)?.ok_or_else(|| Error::Internal("no folder".to_owned()))?;
    let name = format!("test-{}", std::process::id());
    let dir = own.make(&name)?;
    let tried = ["n", "o"]
        .iter()
        .try_for_each(|name| mkdirat(&dir, *name, Mode::RWXU))
        .and_then(|()| renameat_with(&dir, "n", &dir, "o", RenameFlags::EXCHANGE));
    let attributes = fsetxattr(&dir, "user.checkrein", b"1", XattrFlags::empty());
    own.clear(&dir, &name)?;
    own.close(root);
    tried.map_err(|e| match e {
        Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP => Error::Unsupported(
            "the file system cannot swap two files in one step (renameat2); rollbacks will be refused"
                .to_owned(),
        ),
        e => Error::Internal(format!("a rollback could not be prepared: {e}")),
    })?;
    Ok(match attributes {
        Ok(()) => "files can be swapped in one step, extended attributes can be written".to_owned(),
        Err(e) => format!("files can be swapped in one step; there are no extended attributes ({e})"),
    })
}

fn file_system(root: &Root) -> String {
    match rustix::fs::fstatfs(&root.dir) {
        Ok(found) => match u32::try_from(found.f_type).unwrap_or_default() {
            0xef53 => "ext4".to_owned(),
            0x5846_5342 => "XFS".to_owned(),
            0x9123_683e => "Btrfs".to_owned(),
            0x0102_1994 => "tmpfs".to_owned(),
            0x794c_7630 => "overlayfs".to_owned(),
            0x6969 => "NFS".to_owned(),
            other => format!("a file system of type {other:#x}"),
        },
        Err(e) => format!("an unknown file system ({e})"),
    }
}

/// Shell commands.
pub(super) fn grants(path: &Path, account: &str) -> String {
    // A line break would end a comment, and what follows would run.
    let quote = |text: &str| {
        let text: String = text.chars().filter(|c| !c.is_control()).collect();
        format!("'{}'", text.replace('\'', "'\\''"))
    };
    let (path, account) = (quote(&path.to_string_lossy()), quote(account));
    format!(
        "# Checkrein reads and writes {path} as the user it runs as: here {account}.\n\
         # To count and to take snapshots: read all of it. To roll back: write all of it.\n\
         setfacl -R -m u:{account}:rwX {path}\n\
         # So that what is made later can be read and written too:\n\
         setfacl -R -d -m u:{account}:rwX {path}\n\
         # Owners other than {account} can be given back only by root; a rollback of such files is refused\n\
         # otherwise. Where that matters run Checkrein as root, or with CAP_CHOWN and CAP_FOWNER.\n"
    )
}
