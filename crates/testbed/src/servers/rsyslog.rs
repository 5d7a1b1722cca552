//! Throw-away rsyslog, which writes what it understood of each message as a line of JSON.

use std::net::{TcpStream, UdpSocket};
use std::path::Path;
use std::process::Child;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Error, Folder, Stop, command, find, start, unpacked};

/// A running server. Dropped: stopped and removed.
#[derive(Debug)]
pub struct Rsyslog {
    folder: Folder,
    port: u16,
    server: Mutex<Option<Child>>,
}

/// What TLS needs: PEM files.
#[derive(Clone, Copy, Debug)]
pub struct Tls<'f> {
    /// The authority.
    pub ca: &'f Path,
    /// The certificate of the server.
    pub certificate: &'f Path,
    /// Its key.
    pub key: &'f Path,
}

impl Rsyslog {
    /// One that listens on TCP (with TLS, if there is a `tls`), and on UDP on the same port.
    ///
    /// # Errors
    /// If it is not installed, or does not start; with what it said.
    pub fn start(tls: Option<Tls<'_>>) -> Result<Self, Error> {
        let folder = Folder::new("checkrein-rsyslog-", Stop::Crash)?;
        let program = find("rsyslogd", ["/usr/sbin".into(), unpacked("usr/sbin")])
            .ok_or("rsyslogd is not installed: run `scripts/setup test`")?;
        let libraries = unpacked("usr/lib/x86_64-linux-gnu");
        let modules = libraries.join("rsyslog");
        let path = |name: &str| folder.path().join(name);
        let (mut global, mut driver) = (String::new(), String::new());
        if let Some(tls) = tls {
            for (name, from) in [("ca.pem", tls.ca), ("server.pem", tls.certificate), ("server.key", tls.key)]
            {
                std::fs::copy(from, path(name))?;
                super::hand_over(&path(name))?;
            }
            global = format!(
                "global(defaultNetstreamDriver=\"gtls\" defaultNetstreamDriverCAFile=\"{}\"\
                 \n defaultNetstreamDriverCertFile=\"{}\" defaultNetstreamDriverKeyFile=\"{}\")\n",
                path("ca.pem").display(),
                path("server.pem").display(),
                path("server.key").display()
            );
            driver = " streamDriver.name=\"gtls\" streamDriver.mode=\"1\" streamDriver.authMode=\"anon\""
                .to_owned();
        }
        let (output, conf) = (path("received"), path("conf"));
        let property =
            |name: &str| format!(" property(outname=\"{name}\" name=\"{name}\" format=\"jsonf\")\n");
        let names = [
            "pri",
            "protocol-version",
            "timereported",
            "hostname",
            "app-name",
            "procid",
            "msgid",
            "structured-data",
            "msg",
        ];
        let properties: String = names.map(property).concat();
        let out = output.display();
        let server = |port: u16| {
            let text = format!(
                "{global}module(load=\"imudp\")\nmodule(load=\"imtcp\"{driver})\n\
                 template(name=\"understood\" type=\"list\" option.jsonf=\"on\") {{\n{properties}}}\n\
                 ruleset(name=\"all\") {{ action(type=\"omfile\" file=\"{out}\" template=\"understood\" fileCreateMode=\"0644\") }}\n\
                 input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\" ruleset=\"all\")\n\
                 input(type=\"imudp\" address=\"127.0.0.1\" port=\"{port}\" ruleset=\"all\")\n"
            );
            let _missing_then = std::fs::write(&conf, text);
            let mut server = command(&program, folder.path());
            if modules.is_dir() && !program.starts_with("/usr") {
                server.env("LD_LIBRARY_PATH", &libraries).arg("-M").arg(&modules);
            }
            // It stays in its folder (-C), by which it is found when it is to end.
            server.args(["-C", "-n", "-f"]).arg(&conf).arg("-i").arg(path("pid"));
            server
        };
        let (child, port) = start(&path("log"), None, server, listens)?;
        Ok(Self { folder, port, server: Mutex::new(Some(child)) })
    }

    /// The port on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// What it said about itself.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// What it understood, once there are so many messages, or after a while.
    pub fn received(&self, count: usize) -> Vec<serde_json::Value> {
        let began = Instant::now();
        loop {
            let text = std::fs::read_to_string(self.folder.path().join("received")).unwrap_or_default();
            let messages: Vec<_> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            if messages.len() >= count || began.elapsed() > Duration::from_secs(20) {
                return messages;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        let _stopped = self.folder.stop(Stop::Crash);
        if let Some(mut server) = self.server.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ended = server.wait();
        }
    }
}

/// Whether both of its sockets are there.
fn listens(port: u16) -> bool {
    let address = ([127, 0, 0, 1], port).into();
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() && UdpSocket::bind(address).is_err()
}
