//! What is measured: how each server is set up, and the request that it gets.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::Error;
use super::http1::UNIQUE;
use super::load::Plan;
use super::process::{Server, command, free_address};

const ADMIN_KEY: &str = "a-key-for-the-benchmark-only-0123456789abcdef";

/// A running server and what to ask it.
#[derive(Debug)]
pub struct Running {
    /// The process.
    pub server: Server,
    address: SocketAddr,
}

/// The no-op handler: this program started with `noop ADDRESS`.
///
/// # Errors
/// If it does not start.
pub fn start_noop(folder: &Path) -> Result<Running, Error> {
    let address = free_address()?;
    let mut command = command(std::env::current_exe()?);
    command.arg("noop").arg(address.to_string());
    let server = Server::start(command, address, "/healthz", &folder.join("noop.log"))?;
    Ok(Running { server, address })
}

/// Checkrein with so many policies, its data in `folder`; with or without drift.
///
/// # Errors
/// If it does not start.
pub fn start_checkrein(
    binary: &Path,
    folder: &Path,
    policies: usize,
    with_drift: bool,
) -> Result<Running, Error> {
    let name = if with_drift { policies.to_string() } else { format!("{policies}-without-drift") };
    let drift = if with_drift { "" } else { "[drift]\nmode = \"off\"\n" };
    let rest: String = (3..policies).map(further_policy).collect();
    start_checkrein_with(binary, folder, &name, &(rest + drift))
}

/// Checkrein with the first three policies and what else its configuration is to hold, its data in `folder` under `name`.
///
/// # Errors
/// If it does not start.
pub fn start_checkrein_with(binary: &Path, folder: &Path, name: &str, more: &str) -> Result<Running, Error> {
    let address = free_address()?;
    let config = folder.join(format!("checkrein-{name}.toml"));
    std::fs::write(&config, format!("{POLICIES}{more}"))?;
    let mut command = command(binary);
    command.arg("serve").args(["--listen", &address.to_string()]);
    command.arg("--data").arg(folder.join(format!("data-{name}")));
    command.arg("--config").arg(&config);
    command.env("CHECKREIN_ADMIN_KEY", ADMIN_KEY);
    let log = folder.join(format!("checkrein-{name}.log"));
    let server = Server::start(command, address, "/healthz", &log)?;
    Ok(Running { server, address })
}

/// The article's three policies.
const POLICIES: &str = r#"[[policies]]
name = "blast_radius_limit"
rule = "block"
condition = { action = "update", record_count_exceeds = 25 }
[[policies]]
name = "no_production_deletes"
rule = "block"
condition = { action = "delete", resource_pattern = "production.*" }
[[policies]]
name = "email_volume_alert"
rule = "alert"
condition = { action = "send_email", recipient_count_exceeds = 50 }
"#;

/// One that the index has to rule out: for the same verb on another resource or above another count, or for another
/// verb.
fn further_policy(number: usize) -> String {
    let condition = match number % 3 {
        0 => format!(r#"action = "update", resource_pattern = "shop.table_{number}.*""#),
        1 => format!(r#"action = "update", record_count_exceeds = {}"#, 100 + number),
        _ => format!(r#"action = "verb_{number}", resource_pattern = "shop.*""#),
    };
    format!("[[policies]]\nname = \"policy_{number}\"\nrule = \"block\"\ncondition = {{ {condition} }}\n")
}

/// Cerbos with policies equivalent to the article's three, and its decision log kept in its local store.
///
/// # Errors
/// If it does not start.
pub fn start_cerbos(binary: &Path, folder: &Path) -> Result<Running, Error> {
    let (address, grpc) = (free_address()?, free_address()?);
    let policies = folder.join("cerbos-policies");
    std::fs::create_dir_all(&policies)?;
    std::fs::write(policies.join("shop.yaml"), CERBOS_POLICY)?;
    let config = format!(
        "server:\n  httpListenAddr: \"{address}\"\n  grpcListenAddr: \"{grpc}\"\n\
         storage:\n  driver: disk\n  disk:\n    directory: \"{}\"\n    watchForChanges: false\n\
         telemetry:\n  disabled: true\n\
         audit:\n  enabled: true\n  accessLogsEnabled: false\n  decisionLogsEnabled: true\n  \
         backend: local\n  local:\n    storagePath: \"{}\"\n",
        policies.display(),
        folder.join("cerbos-audit").display(),
    );
    let file = folder.join("cerbos.yaml");
    std::fs::write(&file, config)?;
    let mut command = command(binary);
    // Only decisions are to be written; a line on the console for each would slow it down.
    command.arg("server").arg("--log-level=warn").arg("--config").arg(file);
    let server = Server::start(command, address, "/_cerbos/health", &folder.join("cerbos.log"))?;
    Ok(Running { server, address })
}

const CERBOS_POLICY: &str = r#"apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: shop
  version: default
  rules:
    - actions: ["*"]
      roles: [agent]
      effect: EFFECT_ALLOW
    - name: blast_radius_limit
      actions: [update]
      roles: [agent]
      effect: EFFECT_DENY
      condition: { match: { expr: R.attr.record_count > 25 } }
    - name: no_production_deletes
      actions: [delete]
      roles: [agent]
      effect: EFFECT_DENY
      condition: { match: { expr: 'R.id.startsWith("production.")' } }
    - name: email_volume_alert
      actions: [send_email]
      roles: [agent]
      effect: EFFECT_ALLOW
      condition: { match: { expr: R.attr.recipient_count > 50 } }
      output: { when: { ruleActivated: '"alert"' } }
"#;

/// The request of a check: an update of 12 records, which all three policies let pass. Each is on another resource: an
/// agent that does the same again and again is stopped.
#[must_use]
pub fn check(running: &Running, with_idempotency_key: bool) -> Plan {
    let key = if with_idempotency_key { format!(r#","idempotency_key":"{UNIQUE}""#) } else { String::new() };
    Plan {
        path: "/v1/checks".into(),
        headers: vec![format!("authorization: Bearer {ADMIN_KEY}")],
        body: format!(
            r#"{{"action":"update","resource":"shop.users.{UNIQUE}","payload":{{"record_count":12}}{key}}}"#
        ),
        expect: r#""verdict":"allow""#.into(),
        ..plan(running)
    }
}

/// The request of a check that is blocked, which is a signal each time.
#[must_use]
pub fn blocked(running: &Running) -> Plan {
    Plan {
        body: format!(
            r#"{{"action":"update","resource":"shop.users.{UNIQUE}","payload":{{"record_count":12000}}}}"#
        ),
        expect: r#""verdict":"block""#.into(),
        ..check(running, false)
    }
}

/// The same question as Cerbos is asked it.
#[must_use]
pub fn cerbos_check(running: &Running) -> Plan {
    let resource = r#"{"kind":"shop","id":"shop.users","attr":{"record_count":12}}"#;
    Plan {
        path: "/api/check/resources".into(),
        body: format!(
            r#"{{"requestId":"{UNIQUE}","principal":{{"id":"default","roles":["agent"]}},"resources":[{{"resource":{resource},"actions":["update"]}}]}}"#
        ),
        expect: r#""update":"EFFECT_ALLOW""#.into(),
        ..plan(running)
    }
}

fn plan(running: &Running) -> Plan {
    Plan {
        address: running.address.to_string(),
        path: String::new(),
        headers: Vec::new(),
        body: String::new(),
        expect: String::new(),
        connections: 1,
        warm_up_ms: 0,
        measure_ms: 0,
    }
}

/// The release build of Checkrein, where cargo put it: beside this program.
///
/// # Errors
/// If nothing is there.
pub fn checkrein_binary() -> Result<PathBuf, Error> {
    let own = std::env::current_exe()?; // target/release/deps/check-…
    let binary = own.ancestors().nth(2).unwrap_or(&own).join("checkrein");
    if !binary.is_file() {
        let binary = binary.display();
        return Err(format!("no Checkrein at {binary}; run: cargo build --release --bin checkrein").into());
    }
    Ok(binary)
}
