//! The hosts that a shell's command line reaches without writing a URL: `curl evil.example`, `ssh a@b`.
//!
//! A shell can hide anything, so this is no analysis of what a command does (it is an execution, and judged as
//! one). It is the plain way of writing it, read for its hosts; where a program that speaks to other machines
//! is run and its host is not plain, a host is there that nobody knows.

use super::url::{Hosts, like_an_address};

/// What a program takes for hosts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// Every argument.
    Addresses,
    /// The first argument.
    Host,
    /// Arguments with a colon; the others are files.
    Remotes,
    /// A host, where its sub-command goes anywhere.
    Git,
}

fn program(word: &str) -> Option<Takes> {
    let name = word.rsplit('/').next().unwrap_or(word).to_ascii_lowercase();
    Some(match name.strip_suffix(".exe").unwrap_or(&name) {
        "curl" | "wget" => Takes::Addresses,
        "nc" | "ncat" | "netcat" | "ssh" | "telnet" | "ftp" | "sftp" => Takes::Host,
        "scp" | "rsync" => Takes::Remotes,
        "git" => Takes::Git,
        _ => return None,
    })
}

/// Words that run what follows them.
fn runs_another(word: &str) -> bool {
    let name = word.rsplit('/').next().unwrap_or(word);
    matches!(
        name,
        "sudo"
            | "doas"
            | "env"
            | "nohup"
            | "time"
            | "timeout"
            | "exec"
            | "command"
            | "xargs"
            | "nice"
            | "eval"
            | "bash"
            | "sh"
            | "zsh"
            | "dash"
            | "then"
            | "do"
            | "else"
            | "if"
            | "while"
            | "until"
            | "!"
            | "{"
    ) || word.starts_with('-')
        || word.contains('=')
        || word.starts_with(|c: char| c.is_ascii_digit())
}

/// Options whose value is no host.
fn takes_value(option: &str) -> bool {
    matches!(
        option,
        "-o" | "-O"
            | "-H"
            | "-d"
            | "-X"
            | "-u"
            | "-A"
            | "-F"
            | "-m"
            | "-w"
            | "-i"
            | "-l"
            | "-p"
            | "-P"
            | "-b"
            | "-c"
            | "-e"
            | "-C"
            | "--output"
            | "--header"
            | "--data"
            | "--data-raw"
            | "--data-binary"
            | "--json"
            | "--form"
            | "--request"
            | "--user"
            | "--user-agent"
            | "--max-time"
            | "--connect-timeout"
            | "--retry"
            | "--cookie"
            | "--timeout"
            | "--tries"
            | "--exclude"
            | "--include"
            | "--write-out"
            | "--output-document"
    )
}

/// Adds the hosts of `line` that are written without a scheme.
pub(super) fn hosts(line: &str, hosts: &mut Hosts) {
    // Quotes and backslashes are the shell's; `cu\rl` is `curl`.
    let plain: String = line.chars().filter(|c| !matches!(c, '"' | '\'' | '\\')).collect();
    for part in plain.split(['|', ';', '&', '\n', '(', ')', '`']) {
        let mut words = part.split_whitespace().peekable();
        let found = if words.peek().is_some_and(|first| runs_another(first)) {
            words.by_ref().find_map(program)
        } else {
            words.next().and_then(program)
        };
        if let Some(takes) = found {
            of_program(takes, words, hosts);
        }
    }
}

fn of_program<'w>(takes: Takes, mut words: impl Iterator<Item = &'w str>, hosts: &mut Hosts) {
    let mut reached = false;
    let mut goes_somewhere = takes != Takes::Git;
    while let Some(word) = words.next() {
        // `2>err.log`, `>out`
        if let Some((_, target)) = word.split_once('>') {
            if target.is_empty() {
                words.next();
            }
            continue;
        }
        if word.starts_with('-') {
            // `git -m` is a message; what follows it is no host either.
            if takes_value(word) && takes != Takes::Git {
                words.next();
            }
            continue;
        }
        // The URLs have been found already.
        if word.contains("://") {
            reached = true;
            continue;
        }
        match takes {
            Takes::Addresses => reached |= one(word, hosts),
            Takes::Host if !reached => {
                one(word.rsplit('@').next().unwrap_or(word), hosts);
                // What comes after the host is a port or a command.
                reached = true;
            }
            Takes::Remotes if word.contains(':') => reached |= remote(word, hosts),
            Takes::Git if !goes_somewhere => {
                if !matches!(word, "clone" | "push" | "pull" | "fetch" | "ls-remote" | "remote" | "submodule")
                {
                    return;
                }
                goes_somewhere = true;
            }
            Takes::Git if word.contains(':') && word.contains('@') => reached |= remote(word, hosts),
            Takes::Host | Takes::Remotes | Takes::Git => {}
        }
    }
    // Files that are copied here stay here.
    if goes_somewhere && !reached && takes != Takes::Remotes {
        hosts.found.unknown = true;
    }
}

/// `user@host:path`. Whether it was one.
fn remote(word: &str, hosts: &mut Hosts) -> bool {
    let head = word.split(':').next().unwrap_or(word);
    one(head.rsplit('@').next().unwrap_or(head), hosts)
}

/// One host, or the admission that there is one. Whether there was anything.
fn one(word: &str, hosts: &mut Hosts) -> bool {
    let head = word.split(['/', '?', '#']).next().unwrap_or_default();
    let host = head.rsplit('@').next().unwrap_or_default();
    let name = host.split(':').next().unwrap_or_default();
    let clear = like_an_address(name) || name == "localhost" || name.parse::<std::net::Ipv4Addr>().is_ok();
    if clear {
        hosts.url_argument(word);
    } else {
        hosts.found.unknown = true;
    }
    true
}
