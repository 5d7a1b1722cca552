//! The real process: killed at any moment, started twice, out of disk, told to reload or to stop.

#[cfg(test)]
mod process {
    use std::{
        collections::HashSet,
        io::{BufRead as _, BufReader, Read as _, Write as _},
        net::{SocketAddr, TcpStream},
        path::Path,
        process::{Child, Command, Output, Stdio},
        sync::{
            Arc, Mutex,
            atomic::{AtomicBool, AtomicU64, Ordering},
        },
        thread,
        time::{Duration, Instant},
    };

    const ADMIN: &str = "ck_admin_0123456789abcdef0123456789abcdef";
    const BINARY: &str = env!("CARGO_BIN_EXE_checkrein");

    /// A running server; killed when it goes out of scope.
    struct Server {
        child: Child,
        addr: SocketAddr,
    }

    impl Server {
        fn start(data: &Path, extra: &[&str]) -> Self {
            Self::spawn(Command::new(BINARY), data, extra)
        }

        fn spawn(mut command: Command, data: &Path, extra: &[&str]) -> Self {
            command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data).args(extra);
            command.env("CHECKREIN_ADMIN_KEY", ADMIN).stdin(Stdio::null()).stdout(Stdio::piped());
            let mut child = command.stderr(Stdio::null()).spawn().unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            let addr = line
                .split("http://")
                .nth(1)
                .and_then(|rest| rest.split(|c: char| c == ',' || c.is_whitespace()).next()?.parse().ok());
            let Some(addr) = addr else {
                let _killed = child.kill();
                panic!("no address in `{line}`");
            };
            Self { child, addr }
        }

        fn connect(&self) -> Connection {
            Connection(BufReader::new(TcpStream::connect(self.addr).unwrap()))
        }

        fn signal(&self, signal: &str) {
            let pid = self.child.id().to_string();
            assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        }

        fn wait(mut self) -> bool {
            let status = self.child.wait().unwrap();
            status.success()
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            let _gone = self.child.kill();
            let _reaped = self.child.wait();
        }
    }

    /// A kept-alive connection.
    struct Connection(BufReader<TcpStream>);

    impl Connection {
        /// Status and body; nothing when the connection broke.
        fn send(&mut self, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
            let text = format!(
                "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            self.0.get_mut().write_all(text.as_bytes()).ok()?;
            let (mut status, mut length) = (0, 0);
            loop {
                let mut line = String::new();
                if self.0.read_line(&mut line).ok()? == 0 {
                    return None;
                }
                if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                    status = rest.split(' ').next()?.parse().ok()?;
                }
                if let Some(rest) = line.to_lowercase().strip_prefix("content-length:") {
                    length = rest.trim().parse().ok()?;
                }
                if line == "\r\n" {
                    break;
                }
            }
            let mut body = vec![0; length];
            self.0.read_exact(&mut body).ok()?;
            Some((status, String::from_utf8(body).ok()?))
        }

        fn check(&mut self, body: &str) -> Option<(u16, String)> {
            self.send("POST", "/v1/checks", body)
        }
    }

    fn checkrein(args: &[&str], data: &Path) -> Output {
        Command::new(BINARY).args(args).arg("--data").arg(data).output().unwrap()
    }

    fn verified(data: &Path) {
        let output = checkrein(&["log", "verify"], data);
        assert!(output.status.success(), "{output:?}");
    }

    fn ids_on_record(data: &Path) -> HashSet<String> {
        let output = checkrein(&["log", "export"], data);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines = String::from_utf8(output.stdout).unwrap();
        let entries = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        entries.filter(|e| e["kind"] == "check").map(|e| e["subject"].as_str().unwrap().to_owned()).collect()
    }

    fn id(body: &str) -> String {
        let json: serde_json::Value = serde_json::from_str(body).unwrap();
        json["id"].as_str().unwrap().to_owned()
    }

    #[test]
    fn sigkill_under_load_loses_nothing_that_was_acknowledged() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let acknowledged = Arc::new(Mutex::new(HashSet::new()));
        let next = Arc::new(AtomicU64::new(0));
        // Moments that do not repeat, so that each round dies somewhere else.
        for round in 0..12_u64 {
            let server = Server::start(&data, &[]);
            let stop = Arc::new(AtomicBool::new(false));
            let callers: Vec<_> = (0..16)
                .map(|_| {
                    let (mut connection, stop) = (server.connect(), Arc::clone(&stop));
                    let (acknowledged, next) = (Arc::clone(&acknowledged), Arc::clone(&next));
                    thread::spawn(move || {
                        while !stop.load(Ordering::Relaxed) {
                            let n = next.fetch_add(1, Ordering::Relaxed);
                            let body = format!(
                                r#"{{"action":"update","resource":"shop.users","payload":{{"record_count":{n}}},"idempotency_key":"k{n}"}}"#
                            );
                            let Some((200, answer)) = connection.check(&body) else { break };
                            acknowledged.lock().unwrap().insert(id(&answer));
                        }
                    })
                })
                .collect();
            let began = Instant::now();
            let target = acknowledged.lock().unwrap().len() + 20 + usize::try_from(round * 37 % 90).unwrap();
            while acknowledged.lock().unwrap().len() < target && began.elapsed() < Duration::from_secs(20) {
                thread::sleep(Duration::from_micros(300));
            }
            drop(server); // SIGKILL
            stop.store(true, Ordering::Relaxed);
            for caller in callers {
                caller.join().unwrap();
            }
            verified(&data);
            let (on_record, acknowledged) = (ids_on_record(&data), acknowledged.lock().unwrap());
            let lost: Vec<_> = acknowledged.difference(&on_record).collect();
            assert!(
                lost.is_empty(),
                "round {round}: {} of {} lost: {lost:?}",
                lost.len(),
                acknowledged.len()
            );
            assert!(acknowledged.len() >= target, "round {round} was too slow to mean anything");
        }
    }

    #[test]
    fn a_second_server_on_the_folder_refuses() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Server::start(dir.path(), &[]);
        let second = Command::new(BINARY)
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(dir.path())
            .output()
            .unwrap();
        assert!(!second.status.success());
        let says = String::from_utf8_lossy(&second.stderr).into_owned();
        assert!(says.contains("another Checkrein server") && says.contains("--data"), "{says}");
        assert!(first.child.try_wait().unwrap().is_none(), "the first one goes on");
        assert_eq!(first.connect().send("GET", "/readyz", "").unwrap().0, 200);
    }

    #[test]
    fn a_full_disk_stops_checks_and_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        // No file of this process may grow over 24 MiB: the write-ahead log hits that as a full disk would.
        let mut limited = Command::new("sh");
        limited.args(["-c", "trap '' XFSZ; ulimit -f 49152; exec \"$0\" \"$@\"", BINARY]);
        let server = Server::spawn(limited, &data, &[]);
        let mut connection = server.connect();
        let padding = "x".repeat(400_000);
        let (mut acknowledged, mut refused) = (HashSet::new(), 0);
        for n in 0..400 {
            let body = format!(
                r#"{{"action":"update","resource":"shop.users","payload":{{"record_count":{n},"note":"{padding}"}}}}"#
            );
            match connection.check(&body) {
                Some((200, answer)) => {
                    acknowledged.insert(id(&answer));
                }
                Some((503, answer)) => {
                    assert!(
                        answer.contains("not-recorded") && answer.contains("nothing may run"),
                        "{answer}"
                    );
                    refused += 1;
                    if refused > 3 {
                        break;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(
            refused > 0 && !acknowledged.is_empty(),
            "{refused} refused, {} recorded",
            acknowledged.len()
        );
        let (ready, says) = connection.send("GET", "/readyz", "").unwrap();
        assert_eq!(ready, 503, "{says}");
        drop(server);
        verified(&data);
        assert!(acknowledged.is_subset(&ids_on_record(&data)));
        let server = Server::start(&data, &[]);
        assert_eq!(
            server.connect().check(r#"{"action":"read","resource":"x"}"#).unwrap().0,
            200,
            "with space again"
        );
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_refused() {
        for folder in ["/proc/checkrein-data", "/dev/null/data"] {
            let output = Command::new(BINARY)
                .args(["serve", "--listen", "127.0.0.1:0", "--data", folder])
                .env("CHECKREIN_ADMIN_KEY", ADMIN)
                .output()
                .unwrap();
            assert!(!output.status.success(), "{folder}");
            let says = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(says.contains(folder), "{says}");
        }
    }

    #[test]
    fn a_stop_answers_what_is_under_way_and_ends_waits() {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path(), &[]);
        let mut connection = server.connect();
        let policy = r#"{"name":"ask","rule":"require_approval","condition":{"action":"refund"}}"#;
        assert_eq!(connection.send("POST", "/v1/policies", policy).unwrap().0, 201);
        let held = connection.check(r#"{"action":"refund","resource":"shop.orders"}"#).unwrap().1;
        let mut waiting = server.connect();
        let waiter =
            thread::spawn(move || waiting.send("GET", &format!("/v1/checks/{}?wait=60s", id(&held)), ""));
        thread::sleep(Duration::from_millis(300));
        let began = Instant::now();
        server.signal("-TERM");
        let answer = waiter.join().unwrap().expect("the wait was answered");
        assert!(answer.1.contains(r#""verdict":"hold""#), "{}", answer.1);
        assert!(server.wait(), "it ended well");
        assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
        let output = checkrein(&["log", "export"], dir.path());
        assert!(String::from_utf8_lossy(&output.stdout).lines().last().unwrap().contains("server.stopped"));
        verified(dir.path());
    }

    #[test]
    fn sighup_takes_a_right_configuration_and_keeps_the_old_one_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let (data, file) = (dir.path().join("data"), dir.path().join("checkrein.toml"));
        let rule = |rule: &str| {
            format!(
                "[drift]\nmode = \"alert\"\n[[policies]]\nname = \"p\"\nrule = \"{rule}\"\ncondition = {{ action = \"delete\" }}\n"
            )
        };
        std::fs::write(&file, rule("block")).unwrap();
        let server = Server::start(&data, &["--config", file.to_str().unwrap()]);
        let mut connection = server.connect();
        let mut verdict = || {
            let body = r#"{"action":"delete","resource":"x.y","payload":{"record_count":1}}"#;
            let answer = connection.check(body).unwrap().1;
            serde_json::from_str::<serde_json::Value>(&answer).unwrap()["verdict"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(verdict(), "block");
        std::fs::write(&file, rule("obstruct")).unwrap();
        server.signal("-HUP");
        thread::sleep(Duration::from_millis(400));
        assert_eq!(verdict(), "block", "a wrong configuration changes nothing");
        std::fs::write(&file, rule("alert")).unwrap();
        server.signal("-HUP");
        let began = Instant::now();
        while verdict() != "allow" {
            assert!(began.elapsed() < Duration::from_secs(60), "the new configuration never came into force");
            thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn tls_is_spoken_when_it_is_configured() {
        let dir = tempfile::tempdir().unwrap();
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-days",
                "2",
            ])
            .args(["-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "cert.pem"])
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let file = dir.path().join("checkrein.toml");
        std::fs::write(&file, "[server]\ntls = { cert = \"cert.pem\", key = \"key.pem\" }\n").unwrap();
        let mut command = Command::new(BINARY);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(dir.path().join("data"));
        command.arg("--config").arg(&file).env("CHECKREIN_ADMIN_KEY", ADMIN);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line
            .split("https://127.0.0.1:")
            .nth(1)
            .and_then(|r| r.split(|c: char| !c.is_ascii_digit()).next());
        let spoken = Command::new("openssl")
            .args(["s_client", "-quiet", "-verify_return_error", "-CAfile", "cert.pem", "-connect"])
            .arg(format!("localhost:{}", port.unwrap_or_default()))
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .and_then(|mut client| {
                let mut stdin = client.stdin.take().unwrap();
                stdin.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
                let output = client.wait_with_output();
                drop(stdin);
                output
            });
        let _killed = child.kill();
        let _reaped = child.wait();
        let output = spoken.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.starts_with("HTTP/1.1 200"), "{line}: {output:?}");
    }
}
