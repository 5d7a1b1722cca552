//! Syslog: a real rsyslogd understands every message, and nothing gets into another field.

use crate::samples::{HOSTILE, checked, hostile, message, now, records};
use checkrein_signals::{
    Retry, Sink, feed,
    sinks::syslog::{Syslog, SyslogConfig, Transport},
};
use checkrein_testbed::servers::rsyslog::{Rsyslog, Tls};
use std::{
    io::Read as _,
    net::{TcpListener, UdpSocket},
    process::Command,
    time::Duration,
};

fn config(port: u16, transport: Transport) -> SyslogConfig {
    let mut config = SyslogConfig::new(format!("127.0.0.1:{port}"), transport);
    config.allow_private = true;
    config.hostname = Some("rein-1".into());
    config
}

fn sink(port: u16, transport: Transport) -> Syslog {
    Syslog::new(config(port, transport)).unwrap()
}

#[tokio::test]
async fn rsyslog_understands_messages_and_actions_over_tcp_and_udp() {
    let rsyslog = Rsyslog::start(None).unwrap();
    for (round, transport) in [Transport::Tcp, Transport::Udp].into_iter().enumerate() {
        let sink = sink(rsyslog.port(), transport);
        sink.notify(&message()).await.unwrap();
        sink.feed(&records(2)).await.unwrap();
        let received = rsyslog.received(3 * (round + 1));
        assert_eq!(received.len(), 3 * (round + 1), "{received:?} {}", rsyslog.log());
        let received = &received[3 * round..];
        let alert = received.iter().find(|m| m["msgid"] == "action.blocked").unwrap();
        assert_eq!((&alert["hostname"], &alert["app-name"]), (&"rein-1".into(), &"checkrein".into()));
        assert_eq!(alert["pri"], (13 * 8 + 4).to_string());
        assert_eq!(alert["protocol-version"], "1");
        assert_eq!(
            alert["structured-data"],
            "[checkrein@32473 delivery_id=\"ntf_1_1\" dedup_key=\"blocked:billing-bot:no_production_deletes\"]"
        );
        let text = alert["msg"].as_str().unwrap().trim_start_matches('\u{feff}');
        assert!(text.starts_with("CEF:0|Checkrein|Checkrein|"), "{text}");
        for part in ["suser=billing-bot", "cs1=production.users cs1Label=resource", "cnt=38", "cn1=10000"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let numbers: Vec<_> =
            received.iter().filter(|m| m["msgid"] == "check").map(|m| &m["structured-data"]).collect();
        assert_eq!(numbers, ["[checkrein@32473 seq=\"1\"]", "[checkrein@32473 seq=\"2\"]"]);
        let action = received.iter().find(|m| m["msgid"] == "check").unwrap()["msg"].as_str().unwrap();
        for part in ["act=block", "externalId=chk_1", "cat=delete", "cs2=delete_user cs2Label=action"] {
            assert!(action.contains(part), "{part} in {action}");
        }
    }
}

#[tokio::test]
async fn rsyslog_takes_a_whole_batch_over_tls_if_its_certificate_is_good() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    std::fs::write(file("ext"), "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n").unwrap();
    let openssl = |args: &str| {
        let output =
            Command::new("openssl").args(args.split(' ')).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    for authority in ["ca", "other"] {
        openssl(&format!(
            "req -x509 {key} -keyout {authority}.key -out {authority}.pem -subj /CN={authority} -days 2"
        ));
    }
    openssl(&format!("req {key} -keyout server.key -out server.csr -subj /CN=localhost"));
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile ext",
    );
    let tls = Tls { ca: &file("ca.pem"), certificate: &file("server.pem"), key: &file("server.key") };
    let rsyslog = Rsyslog::start(Some(tls)).unwrap();
    let connect = |ca: &str, host: &str| {
        let mut config = config(rsyslog.port(), Transport::Tls);
        config.address = format!("{host}:{}", rsyslog.port());
        config.ca_file = Some(file(ca));
        Syslog::new(config).unwrap()
    };
    connect("ca.pem", "localhost").feed(&records(500)).await.unwrap();
    assert_eq!(rsyslog.received(500).len(), 500);
    for (ca, host) in [("other.pem", "localhost"), ("ca.pem", "127.0.0.1")] {
        let failure = connect(ca, host).notify(&message()).await.unwrap_err();
        assert!(failure.retry == Retry::Later && failure.reason.contains("ca_file"), "{failure}");
    }
    let failure = sink(rsyslog.port(), Transport::Tcp).notify(&message()).await;
    drop(failure); // what it makes of it is its own affair; it must not be taken for a message
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(rsyslog.received(501 - 1).len(), 500);
}

#[tokio::test]
async fn nothing_forges_a_line_or_a_field() {
    let rsyslog = Rsyslog::start(None).unwrap();
    let sink = sink(rsyslog.port(), Transport::Tcp);
    sink.notify(&hostile()).await.unwrap();
    let mut hostile = checked(1, now(), |body| body["decision"]["reason"] = HOSTILE.into());
    hostile.seq = u64::MAX;
    sink.feed(&[feed::record(&hostile).unwrap()]).await.unwrap();
    let received = rsyslog.received(2);
    assert_eq!(received.len(), 2, "{received:?}");
    for message in &received {
        let text = message["msg"].as_str().unwrap();
        assert!(!text.contains(['\n', '\r', '\0', '\u{1b}', '\u{202e}']), "{text}");
        assert!(!text.contains(" a=\"b") && !text.contains(" yes="), "{text}");
        assert!(message["structured-data"].as_str().unwrap().ends_with("\"]"), "{message}");
        assert_eq!(message["app-name"], "checkrein");
    }
}

#[tokio::test]
async fn every_message_is_within_its_limit() {
    for max_bytes in [480, 1024, 2048, 8192] {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut config = config(socket.local_addr().unwrap().port(), Transport::Udp);
        config.max_bytes = max_bytes;
        config.hostname = Some("h".repeat(100));
        let sink = Syslog::new(config).unwrap();
        for message in [message(), hostile()] {
            sink.notify(&message).await.unwrap();
            let mut buffer = vec![0; 65_000];
            let length = socket.recv(&mut buffer).unwrap();
            assert!(length <= max_bytes, "{length}");
            std::str::from_utf8(&buffer[..length]).unwrap();
        }
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_no_delivery() {
    // Nobody listens.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let failure = sink(port, Transport::Tcp).notify(&message()).await.unwrap_err();
    assert!(failure.retry == Retry::Later && failure.reason.contains("refused"), "{failure}");

    // It closes without reading: what was sent is thrown away.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let closing = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut first = [0; 1];
        (&stream).read_exact(&mut first).unwrap();
    });
    let failure = sink(port, Transport::Tcp).feed(&records(200)).await.unwrap_err();
    assert_eq!(failure.retry, Retry::Later, "{failure}");
    closing.join().unwrap();

    // It reads and does not end: nobody knows.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config(listener.local_addr().unwrap().port(), Transport::Tcp);
    config.timeout = Duration::from_millis(300);
    let failure = Syslog::new(config).unwrap().notify(&message()).await.unwrap_err();
    assert!(failure.retry == Retry::Later && failure.reason.contains("in time"), "{failure}");
}

#[tokio::test]
async fn what_may_not_be_reached_is_not() {
    let mut config = SyslogConfig::new("localhost:6514", Transport::Tls);
    let failure = Syslog::new(config.clone()).unwrap().notify(&message()).await.unwrap_err();
    assert!(failure.reason.contains("not a public address"), "{failure}");
    config.transport = Transport::Udp;
    assert!(Syslog::new(config).unwrap_err().contains("without TLS"));
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let new = |change: fn(&mut SyslogConfig)| {
        let mut config = config(514, Transport::Tcp);
        change(&mut config);
        Syslog::new(config).unwrap_err()
    };
    assert!(new(|c| c.address = "siem.example".into()).contains("`address`"));
    assert!(new(|c| c.facility = 24).contains("`facility`"));
    assert!(new(|c| c.max_bytes = 479).contains("`max_bytes`"));
    assert!(new(|c| c.hostname = Some("a b".into())).contains("`hostname`"));
    assert!(
        new(|c| (c.transport, c.ca_file) = (Transport::Tls, Some("/nowhere".into()))).contains("`ca_file`")
    );
}
