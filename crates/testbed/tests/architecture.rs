//! Holds the architecture: which crate may import which, and what each may know (ARCHITECTURE.md).
//!
//! A rule that fails says what is wrong and how to mend it. To change the architecture, change the rule here
//! in the same commit that says why.

#![expect(clippy::expect_used, reason = "a test stops at the first thing that it cannot read")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};

/// The only permitted imports among our crates. `testbed` may be imported by nothing but tests and benches.
///
/// `api` imports `core` because the wire types reuse its vocabulary: one definition of a decision, not two.
const PERMITTED: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("api", &["core"]),
    ("store", &["core"]),
    ("targets", &["core"]),
    ("signals", &["core"]),
    ("server", &["core", "api", "store", "targets", "signals"]),
    ("intercept", &["core", "api"]),
    ("checkrein", &["core", "api", "store", "server", "intercept"]),
    ("testbed", &["core", "api", "store", "server"]),
];

/// Crates that do I/O: none may be anywhere below `core`.
const IO_CRATES: &[&str] = &[
    "async-std",
    "axum",
    "hyper",
    "mio",
    "reqwest",
    "rusqlite",
    "rustls",
    "smol",
    "sqlx",
    "tokio",
    "tower",
    "ureq",
];

/// What a dependency's licence may be. All are compatible with Apache-2.0 and need no more than a notice.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Libraries that only the named crate (and tests) may use, with the reason.
const ONLY_IN: &[(&str, &[&str], &str)] = &[
    ("axum", &["server"], "only `server` turns errors into HTTP; return a typed error, which it converts"),
    (
        "rusqlite",
        &["store", "targets"],
        "only `store` knows SQL of the own database and only `targets` that of users",
    ),
    ("mysql_async", &["targets"], "only `targets` opens connections to systems of users"),
    ("tokio-postgres", &["targets"], "only `targets` opens connections to systems of users"),
];

#[test]
fn crates_import_only_what_is_permitted() {
    let metadata = &*METADATA;
    let permitted: BTreeMap<_, _> = PERMITTED.iter().copied().collect();
    for package in metadata.workspace_packages() {
        let name = short(package);
        let allowed = permitted.get(name).unwrap_or_else(|| {
            panic!("the crate `{name}` has no line in PERMITTED: say there which of our crates it may import")
        });
        for dependency in &package.dependencies {
            let Some(imported) = ours(metadata, &dependency.name) else { continue };
            let for_tests = dependency.kind == DependencyKind::Development;
            assert!(
                allowed.contains(&imported) || (for_tests && imported == "testbed"),
                "`{name}` imports `{imported}` ({:?}), which the architecture does not permit: \
                 remove it from {}, and move what was needed into a crate that both may import",
                dependency.kind,
                package.manifest_path,
            );
        }
    }
}

#[test]
fn every_rule_names_a_crate_that_exists() {
    let metadata = &*METADATA;
    let crates: BTreeSet<_> = metadata.workspace_packages().into_iter().map(short).collect();
    for name in
        PERMITTED.iter().map(|(name, _)| name).chain(ONLY_IN.iter().flat_map(|(_, owners, _)| *owners))
    {
        assert!(crates.contains(name), "a rule names the crate `{name}`, which is gone: delete the rule");
    }
}

#[test]
fn core_does_no_io() {
    let metadata = &*METADATA;
    let mut seen = BTreeMap::from([(package(metadata, "core").id.clone(), "core".to_owned())]);
    let mut open: Vec<PackageId> = seen.keys().cloned().collect();
    let resolve = metadata.resolve.as_ref().expect("cargo metadata resolves dependencies");
    while let Some(id) = open.pop() {
        let path = seen.get(&id).cloned().unwrap_or_default();
        let node = resolve.nodes.iter().find(|node| node.id == id).expect("each dependency is resolved");
        for dependency in &node.deps {
            if !dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal) {
                continue;
            }
            let name = &metadata[&dependency.pkg].name;
            let path = format!("{path} -> {name}");
            assert!(
                !IO_CRATES.contains(&name.as_str()),
                "`core` does no I/O, but reaches `{name}` by {path}: drop the dependency or its feature, \
                 or do the I/O in `server` and pass the result in",
            );
            if seen.insert(dependency.pkg.clone(), path).is_none() {
                open.push(dependency.pkg.clone());
            }
        }
    }
    assert!(seen.len() > 20, "only {} crates below `core`: this test looks at too little", seen.len());
}

#[test]
fn a_folder_has_its_crates_name() {
    for package in METADATA.workspace_packages() {
        let folder = package.manifest_path.parent().and_then(|path| path.file_name()).expect("a folder");
        assert_eq!(
            folder,
            short(package),
            "rename the folder crates/{folder} or the crate `{}`",
            package.name
        );
    }
}

#[test]
fn every_crate_obeys_the_workspace_lints() {
    let metadata = &*METADATA;
    let root = toml(metadata.workspace_root.as_std_path());
    assert!(
        root.contains("\nunsafe_code = \"forbid\"\n"),
        "put `unsafe_code = \"forbid\"` back under [workspace.lints.rust] in Cargo.toml",
    );
    for package in metadata.workspace_packages() {
        let folder = package.manifest_path.parent().expect("a folder");
        assert!(
            toml(folder.as_std_path()).contains("\n[lints]\nworkspace = true\n"),
            "add `[lints]` with `workspace = true` to {}",
            package.manifest_path,
        );
    }
}

#[test]
fn what_one_crate_owns_is_in_no_other() {
    for package in METADATA.workspace_packages() {
        for dependency in package.dependencies.iter().filter(|found| found.kind == DependencyKind::Normal) {
            for (library, owners, reason) in ONLY_IN {
                assert!(
                    dependency.name != *library
                        || short(package) == "testbed"
                        || owners.contains(&short(package)),
                    "`{}` imports `{library}`: {reason}",
                    short(package),
                );
            }
        }
    }
}

/// Only `http` turns errors into answers, and only `console` beside it speaks HTTP at all.
#[test]
fn the_application_knows_no_http() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../server/src");
    let mut seen = 0;
    for (file, text) in files_below(&source) {
        let place = file.strip_prefix(&source).expect("it is below");
        if ["http", "console"].iter().any(|folder| place.starts_with(folder)) {
            seen += 1;
            // What a status means is said in one place; the console takes it from there.
            assert!(
                place == Path::new("http/problem.rs") || !text.contains("IntoResponse for Error"),
                "{}: errors become answers in http/problem.rs alone",
                place.display(),
            );
            continue;
        }
        assert!(
            !text.contains("axum"),
            "{}: `axum` belongs in server/src/http or server/src/console: return a typed value or error",
            place.display(),
        );
    }
    assert!(seen > 20, "only {seen} files of HTTP: this test looks at too little");
}

/// A template has no way round the escaper, but for plots that the server draws from numbers.
#[test]
fn templates_escape_everything() {
    let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../server/templates");
    let mut seen = 0;
    for (file, text) in files_below(&templates) {
        seen += 1;
        for found in
            text.split("{{").skip(1).filter_map(|rest| rest.split_once("}}")).map(|(inside, _)| inside)
        {
            assert!(
                !found.contains("|safe")
                    || ["strip|safe", "normal.band|safe", "style|safe"].contains(&found.trim()),
                "{}: {{{{{found}}}}}: `safe` is for plots only",
                file.display(),
            );
        }
        assert!(!text.contains("autoescape"), "{}: everything is escaped", file.display());
        // The page behind a signed link stands alone, with its style sheet in it and a policy of its own.
        let alone = file.file_name().is_some_and(|name| name == "approve.html");
        assert!(
            alone || !text.contains(" style=") && !text.contains("<style") && !text.contains(" onclick="),
            "{}: the policy of pages allows nothing inline",
            file.display(),
        );
    }
    assert!(seen > 10, "only {seen} templates: this test looks at too little");
}

fn files_below(folder: &Path) -> Vec<(std::path::PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder can be read") {
        let path = entry.expect("a folder entry can be read").path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push((path.clone(), std::fs::read_to_string(&path).expect("source is text")));
        }
    }
    found
}

#[test]
fn licences_of_dependencies_are_on_the_list() {
    let metadata = &*METADATA;
    let resolve = metadata.resolve.as_ref().expect("cargo metadata resolves dependencies");
    for node in &resolve.nodes {
        let package = &metadata[&node.id];
        let licence = package.license.as_deref().unwrap_or_default();
        assert!(
            permits(licence),
            "{} {} is licensed `{licence}`: replace it, or, if that licence is compatible with Apache-2.0 \
             and asks for no more than a notice, add it to LICENCES",
            package.name,
            package.version,
        );
    }
}

#[test]
fn licence_expressions_are_read_as_their_authors_meant() {
    for good in [
        "MIT",
        "MIT/Apache-2.0",
        "GPL-3.0 OR MIT",
        "(MIT OR GPL-3.0) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(permits(good), "{good}");
    }
    for bad in
        ["", "GPL-3.0", "MIT AND GPL-3.0", "(GPL-3.0 OR AGPL-3.0) AND MIT", "MIT WITH Strange-exception"]
    {
        assert!(!permits(bad), "{bad}");
    }
}

/// Whether an SPDX expression (or the old `A/B` form) can be satisfied by [`LICENCES`] alone. Brackets are
/// understood around alternatives only, which is the one way that crates use them.
fn permits(expression: &str) -> bool {
    let mut depth = 0;
    // Top-level ANDs, each of which must be satisfied.
    let marked = expression.replace(" AND ", "&").replace(" OR ", "|").replace(" / ", "|").replace('/', "|");
    let all_of = marked.split(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == '&' && depth == 0
    });
    all_of.collect::<Vec<_>>().iter().all(|alternatives| {
        alternatives.trim_matches(['(', ')']).split('|').any(|licence| LICENCES.contains(&licence.trim()))
    })
}

/// The workspace and every dependency that is compiled for this machine.
static METADATA: LazyLock<Metadata> = LazyLock::new(|| {
    let rustc = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let version = String::from_utf8(rustc.stdout).expect("rustc prints text");
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host");
    MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml"))
        .other_options(["--locked".to_owned(), "--filter-platform".to_owned(), host.to_owned()])
        .exec()
        .expect("cargo metadata runs; is Cargo.lock up to date?")
});

/// The name without the common prefix, as PERMITTED has it.
fn short(package: &Package) -> &str {
    package.name.strip_prefix("checkrein-").unwrap_or(&package.name)
}

fn package<'m>(metadata: &'m Metadata, name: &str) -> &'m Package {
    metadata
        .workspace_packages()
        .into_iter()
        .find(|package| short(package) == name)
        .expect("the crate exists")
}

/// The short name of a dependency that is one of our crates.
fn ours<'m>(metadata: &'m Metadata, dependency: &str) -> Option<&'m str> {
    metadata.workspace_packages().into_iter().find(|package| package.name == dependency).map(short)
}

fn toml(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("Cargo.toml")).expect("a manifest can be read") + "\n"
}
