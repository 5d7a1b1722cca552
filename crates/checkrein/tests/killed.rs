//! The real process, killed while it executes and rolls back: afterwards the database holds the old or the new
//! state, the log says which, and what was committed has its snapshot.

#[cfg(test)]
mod killed {
    use serde_json::{Value, json};
    use std::{
        io::{BufRead as _, BufReader, Read as _, Write as _},
        net::{SocketAddr, TcpStream},
        path::{Path, PathBuf},
        process::{Child, Command, Stdio},
        thread,
        time::{Duration, Instant},
    };

    const ADMIN: &str = "ck_admin_0123456789abcdef0123456789abcdef";
    const BINARY: &str = env!("CARGO_BIN_EXE_checkrein");
    /// Enough that capturing and committing take their time.
    const ROWS: u64 = 4_000;

    struct Shop {
        dir: tempfile::TempDir,
        server: Option<(Child, SocketAddr)>,
    }

    impl Drop for Shop {
        fn drop(&mut self) {
            self.kill();
        }
    }

    impl Shop {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let shop = Self { dir, server: None };
            let db = rusqlite::Connection::open(shop.file()).unwrap();
            db.execute_batch(&format!(
                "PRAGMA journal_mode = WAL; CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL, pad TEXT);
                 WITH RECURSIVE i(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM i WHERE i < {ROWS})
                 INSERT INTO t SELECT i, 0, hex(randomblob(50)) FROM i;"
            ))
            .unwrap();
            std::fs::write(
                shop.dir.path().join("checkrein.toml"),
                format!(
                    "[targets.shop]\nkind = \"sqlite\"\npath = \"{}\"\nenvironment = \"sandbox\"\n",
                    shop.file().display()
                ),
            )
            .unwrap();
            shop
        }

        fn file(&self) -> PathBuf {
            self.dir.path().join("shop.db")
        }

        fn data(&self) -> PathBuf {
            self.dir.path().join("data")
        }

        fn start(&mut self) {
            let mut child = Command::new(BINARY)
                .args(["serve", "--listen", "127.0.0.1:0", "--data"])
                .arg(self.data())
                .arg("--config")
                .arg(self.dir.path().join("checkrein.toml"))
                .env("CHECKREIN_ADMIN_KEY", ADMIN)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            let addr = line
                .split("http://")
                .nth(1)
                .and_then(|rest| rest.split(|c: char| c == ',' || c.is_whitespace()).next()?.parse().ok());
            let addr = addr.unwrap_or_else(|| panic!("no address in `{line}`"));
            self.server = Some((child, addr));
        }

        fn kill(&mut self) {
            if let Some((mut child, _)) = self.server.take() {
                child.kill().unwrap();
                child.wait().unwrap();
            }
        }

        fn addr(&self) -> SocketAddr {
            self.server.as_ref().unwrap().1
        }

        fn post(&self, path: &str, body: &Value) -> Option<(u16, Value)> {
            send(self.addr(), "POST", path, &body.to_string())
        }

        fn get(&self, path: &str) -> Value {
            send(self.addr(), "GET", path, "").unwrap().1
        }

        /// Asks from another thread, kills the server after `after`, and gives the answer, if one came.
        fn post_and_kill(&mut self, path: &str, body: Value, after: Duration) -> Option<(u16, Value)> {
            let (addr, path) = (self.addr(), path.to_owned());
            let asking = thread::spawn(move || send(addr, "POST", &path, &body.to_string()));
            thread::sleep(after);
            self.kill();
            asking.join().unwrap()
        }

        /// What all rows hold; they must hold the same.
        fn n(&self) -> u64 {
            let db = rusqlite::Connection::open(self.file()).unwrap();
            let (min, max, rows): (i64, i64, i64) = db
                .query_row("SELECT min(n), max(n), count(*) FROM t", [], |r| {
                    Ok((r.get(0)?, r.get(1)?, r.get(2)?))
                })
                .unwrap();
            assert_eq!((min, rows), (max, ROWS.cast_signed()), "all or nothing");
            min.cast_unsigned()
        }

        /// All executions on record, oldest first, once each has its outcome.
        fn settled(&self) -> Vec<Value> {
            let deadline = Instant::now() + Duration::from_secs(60);
            loop {
                let mut checks: Vec<Value> =
                    self.get("/v1/checks?limit=500")["checks"].as_array().unwrap().clone();
                checks.reverse();
                if checks.iter().all(|c| c.get("outcome").is_some()) {
                    return checks;
                }
                assert!(Instant::now() < deadline, "never settled: {checks:?}");
                thread::sleep(Duration::from_millis(50));
            }
        }

        /// The files in the folder are those of the snapshots that are there, and the log is whole.
        fn consistent(&self) {
            let page = self.get("/v1/snapshots?state=live&limit=500");
            let live = page["snapshots"].as_array().unwrap().iter();
            let mut expected: Vec<String> =
                live.map(|s| format!("{}.1.snapshot", s["id"].as_str().unwrap())).collect();
            let mut found: Vec<String> = std::fs::read_dir(self.data().join("snapshots"))
                .unwrap()
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect();
            expected.sort();
            found.sort();
            assert_eq!(found, expected);
            let verify =
                Command::new(BINARY).args(["log", "verify", "--data"]).arg(self.data()).output().unwrap();
            assert!(verify.status.success(), "{}", String::from_utf8_lossy(&verify.stderr));
        }
    }

    fn send(addr: SocketAddr, method: &str, path: &str, body: &str) -> Option<(u16, Value)> {
        let mut stream = TcpStream::connect(addr).ok()?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {ADMIN}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, serde_json::from_str(body).ok()?))
    }

    fn update(n: u64) -> Value {
        json!({"target": "shop", "statement": "UPDATE t SET n = ?", "params": [n], "idempotency_key": format!("k{n}")})
    }

    /// Moments all along a piece of work that takes `whole`, and a little beyond.
    fn moments(rounds: u32, whole: Duration) -> impl Iterator<Item = Duration> {
        (0..rounds).map(move |round| whole * 12 * round / (rounds * 10))
    }

    fn file_of(data: &Path, snapshot: &Value) -> bool {
        data.join(format!("snapshots/{}.1.snapshot", snapshot.as_str().unwrap())).exists()
    }

    #[test]
    fn an_execution_took_place_or_did_not_and_the_log_says_which() {
        let mut shop = Shop::new();
        shop.start();
        let began = Instant::now();
        let (status, run) = shop.post("/v1/executions", &update(1)).unwrap();
        assert_eq!((status, &run["executed"]), (200, &json!(true)), "{run}");
        let whole = began.elapsed();
        let (mut committed, mut answered, mut undone) = (0, 0, 0);
        for (n, after) in (2..).zip(moments(24, whole)) {
            let before = shop.n();
            let answer = shop.post_and_kill("/v1/executions", update(n), after);
            shop.start();
            let checks = shop.settled();
            let now = shop.n();
            let last = checks.last().unwrap();
            let mine = last["check"]["params"] == json!([n]);
            let ok = mine && last["outcome"]["status"] == "ok";
            assert_eq!(now, if ok { n } else { before }, "killed after {after:?}: {last}");
            if ok {
                committed += 1;
                assert_eq!(last["outcome"]["records"], ROWS);
                assert!(file_of(&shop.data(), &last["snapshot_id"]), "no snapshot of {last}");
            } else if mine {
                undone += 1;
                assert_eq!(last["outcome"]["status"], "error", "{last}");
            }
            if let Some((200, answer)) = answer {
                answered += 1;
                assert!(ok && answer["executed"] == true, "answered and not there: {answer}");
            }
            // The same request again tells what happened, and never runs twice.
            let (status, again) = shop.post("/v1/executions", &update(n)).unwrap();
            assert!(
                status == 200 && again["executed"] == true || undone > 0 && status == 422,
                "{status} {again}"
            );
            if mine {
                assert_eq!(shop.n(), now, "ran twice: {again}");
            }
            shop.consistent();
        }
        println!("{committed} committed, {undone} on record and not committed, {answered} answered");
        assert!(committed > 0, "every kill came too early to mean anything");
    }

    #[test]
    fn a_rollback_took_place_or_did_not_and_the_log_says_which() {
        let mut shop = Shop::new();
        shop.start();
        let run = shop.post("/v1/executions", &update(1)).unwrap().1;
        let rollback = |id: &Value| format!("/v1/snapshots/{}/rollback", id.as_str().unwrap());
        let began = Instant::now();
        let (status, done) = shop.post(&rollback(&run["snapshot_id"]), &json!({})).unwrap();
        assert_eq!((status, &done["status"]), (200, &json!("done")), "{done}");
        let whole = began.elapsed();
        let mut count = [0, 0];
        for (n, after) in (2..).zip(moments(24, whole)) {
            let before = shop.n();
            let run = shop.post("/v1/executions", &update(n)).unwrap().1;
            assert_eq!(run["executed"], true, "{run}");
            let id = &run["snapshot_id"];
            shop.post_and_kill(&rollback(id), json!({}), after);
            shop.start();
            let deadline = Instant::now() + Duration::from_secs(60);
            let standing = loop {
                let shown = shop.get(&format!("/v1/snapshots/{}", id.as_str().unwrap()));
                if shown["rollback"]["state"] != "running" {
                    break shown["rollback"]["state"].clone();
                }
                assert!(Instant::now() < deadline, "never settled: {shown}");
                thread::sleep(Duration::from_millis(50));
            };
            let now = shop.n();
            assert_eq!(
                now,
                if standing == "done" { before } else { n },
                "killed after {after:?}: {standing}"
            );
            count[usize::from(standing == "done")] += 1;
            shop.consistent();
            // What did not take place can be done now, and what did is nothing to do.
            let (status, again) = shop.post(&rollback(id), &json!({})).unwrap();
            let expected = if standing == "done" { "nothing" } else { "done" };
            assert_eq!((status, &again["status"]), (200, &json!(expected)), "{again}");
            assert_eq!(shop.n(), before);
        }
        println!("{} not done, {} done", count[0], count[1]);
        assert!(count[0] > 0 && count[1] > 0, "the kills came all too early or all too late: {count:?}");
    }
}
