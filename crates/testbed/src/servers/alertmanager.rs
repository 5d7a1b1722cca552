//! Alertmanager, with its own command-line tool.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::{Error, Folder, Stop, find, start};

/// Keeps what it is told, and tells nobody.
const CONFIG: &str = "route: { receiver: nobody }\nreceivers: [{ name: nobody }]\n";

/// A running one. It ends with the test process.
#[derive(Debug)]
pub struct Alertmanager {
    port: u16,
    amtool: PathBuf,
    _folder: Folder,
    _child: Child,
}

impl Alertmanager {
    /// Starts one.
    ///
    /// # Errors
    /// If it is not installed, or does not start.
    pub fn start() -> Result<Self, Error> {
        let installed = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.cache/alertmanager/usr/bin");
        let program = |names: &[&str]| {
            let found = names.iter().find_map(|name| find(name, [PathBuf::from(installed)]));
            found.ok_or("Alertmanager is not installed here; run: scripts/setup test")
        };
        let server = program(&["prometheus-alertmanager", "alertmanager"])?;
        let amtool = program(&["amtool"])?;
        let folder = Folder::new("checkrein-alertmanager.", Stop::Quick)?;
        // What scripts/setup unpacked looks for its templates where it is started.
        for file in
            std::fs::read_dir(format!("{installed}/../share/prometheus/alertmanager")).into_iter().flatten()
        {
            let file = file?;
            if file.path().extension().is_some_and(|extension| extension == "tmpl") {
                std::fs::copy(file.path(), folder.path().join(file.file_name()))?;
            }
        }
        let config = folder.path().join("alertmanager.yml");
        std::fs::write(&config, CONFIG)?;
        let command = |port: u16| {
            let mut command = Command::new(&server);
            // In its folder, where the watchdog finds it.
            command.current_dir(folder.path()).env_clear().stdin(Stdio::null());
            command.args(["--config.file=alertmanager.yml", "--storage.path=.", "--cluster.listen-address="]);
            command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
            command
        };
        let ready = |port: u16| {
            let asked = Command::new(&amtool)
                .args([&format!("--alertmanager.url=http://127.0.0.1:{port}"), "cluster", "show"])
                .env_clear()
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            asked.is_ok_and(|status| status.success())
        };
        let (child, port) = start(&folder.path().join("log"), None, command, ready)?;
        Ok(Self { port, amtool, _folder: folder, _child: child })
    }

    /// `http://127.0.0.1:…`
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What its tool prints.
    ///
    /// # Errors
    /// If the tool fails.
    pub fn amtool(&self, arguments: &[&str]) -> Result<String, Error> {
        let mut command = Command::new(&self.amtool);
        let output = command
            .arg(format!("--alertmanager.url={}", self.url()))
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .output()?;
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout)?);
        }
        Err(format!("amtool {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
    }
}
