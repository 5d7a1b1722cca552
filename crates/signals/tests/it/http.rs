//! What no sink may do, whatever its configuration says.

use crate::common::is_fit_to_print;
use checkrein_signals::{
    Retry,
    http::{Http, HttpConfig, MAX_ANSWER, Method, Rules},
};
use checkrein_testbed::receivers::scripted::{Act, Receiver, Reply};
use std::time::{Duration, SystemTime};

fn public() -> Http {
    Http::new(&HttpConfig::default()).unwrap()
}

fn anywhere() -> Http {
    let timeout = Duration::from_millis(800);
    Http::new(&HttpConfig { allow_private: true, timeout, ..HttpConfig::default() }).unwrap()
}

const RULES: Rules = Rules { receiver: "it", later: &[423], advice: |_| "Look." };

#[tokio::test]
async fn private_addresses_are_refused_in_every_spelling() {
    let http = public();
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0",
        "10.0.0.1",
        "169.254.169.254",
        "192.168.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a9fe:a9fe]",
        "[fd00:ec2::254]",
        "[64:ff9b::7f00:1]",
        "１２７.０.０.１",
    ] {
        let error = http.endpoint(&format!("https://{host}/x"), "").unwrap_err();
        assert!(error.contains("allow_private"), "{host}: {error}");
    }
    assert!(http.endpoint("https://1.1.1.1/x", "").is_ok());
}

#[tokio::test]
async fn a_name_that_leads_to_a_private_address_is_not_connected_to() {
    let receiver = Receiver::start(|_| Reply::new(200, "ok"));
    let port = receiver.url().rsplit(':').next().unwrap().to_owned();
    let http = public();
    // The machine's own resolver answers these, with addresses of this machine.
    for name in ["localhost", "LOCALHOST.", "ip6-localhost"] {
        let to = http.endpoint(&format!("https://{name}:{port}/secret-path"), "").unwrap();
        let failure = http.post(&to).send().await.unwrap_err();
        assert_eq!(failure.retry, Retry::Later);
        is_fit_to_print(&failure, &["secret-path"]);
        if name == "localhost" {
            assert!(failure.reason.contains("allow_private"), "{failure}");
        }
    }
    assert!(receiver.take().is_empty());
    let http = anywhere();
    let to = http.endpoint(&format!("http://localhost:{port}"), "/x").unwrap();
    assert_eq!(http.request(Method::GET, &to).send().await.unwrap().status, 200);
}

#[test]
fn addresses_that_are_none_are_refused_without_being_shown() {
    let http = public();
    for (address, why) in [
        ("hooks.example/S3CRET", "no URL"),
        ("ftp://hooks.example/S3CRET", "https://"),
        ("file:///etc/S3CRET", "https://"),
        ("http://hooks.example/S3CRET", "without TLS"),
        ("https://user:S3CRET@hooks.example/", "header"),
        ("https://S3CRET@hooks.example/", "header"),
        ("https:///S3CRET:x", "no URL"),
    ] {
        let error = http.endpoint(address, "").unwrap_err();
        assert!(error.contains(why) && !error.contains("S3CRET"), "{address}: {error}");
    }
    let to = http.endpoint("https://hooks.example:8443/S3CRET?x=S3CRET", "").unwrap();
    assert_eq!(
        (format!("{to:?}").as_str(), to.origin()),
        ("https://hooks.example:8443", "https://hooks.example:8443")
    );
}

#[tokio::test]
async fn nothing_comes_from_the_environment_and_a_proxy_only_by_setting() {
    let proxy = Receiver::start(|request| Reply::new(200, format!("{} {}", request.method, request.path)));
    let config = HttpConfig { allow_private: true, proxy: Some(proxy.url().into()), ..HttpConfig::default() };
    let http = Http::new(&config).unwrap();
    let to = http.endpoint("http://receiver.invalid/x", "").unwrap();
    assert_eq!(http.post(&to).send().await.unwrap().body, "POST http://receiver.invalid/x");
    // A proxy on a private address serves a sink that may not connect to one.
    let port = proxy.url().rsplit(':').next().unwrap().to_owned();
    let config =
        HttpConfig { proxy: Some(format!("http://localhost:{port}").into()), ..HttpConfig::default() };
    let http = Http::new(&config).unwrap();
    let to = http.endpoint("https://receiver.invalid/x", "").unwrap();
    let _refused = http.post(&to).send().await;
    assert_eq!(proxy.take().last().unwrap().method, "CONNECT");
    assert!(http.endpoint("https://10.0.0.1/", "").is_err());
    for bad in ["not a proxy", ""] {
        let error = Http::new(&HttpConfig { proxy: Some(bad.into()), ..HttpConfig::default() }).unwrap_err();
        assert!(error.contains("`proxy`"), "{error}");
    }
}

#[tokio::test]
async fn an_answer_is_read_to_a_bound_and_a_failure_shows_no_secret() {
    let receiver = Receiver::start(|_| Reply::new(200, "ok"));
    let http = anywhere();
    let to = http.endpoint(&receiver.url(), "/hidden/path?token=abcdefgh").unwrap();
    receiver.answers([Reply::new(200, "x".repeat(MAX_ANSWER)), Reply::new(200, "x".repeat(MAX_ANSWER + 1))]);
    let whole = http.post(&to).send().await.unwrap();
    assert_eq!((whole.body.len(), whole.cut), (MAX_ANSWER, None));
    let cut = http.post(&to).send().await.unwrap();
    assert_eq!(cut.body.len(), MAX_ANSWER);
    assert!(cut.cut.is_some());

    let authorization = checkrein_signals::http::secret_value("Bearer ", &"sekrit-token".into()).unwrap();
    assert!(!format!("{authorization:?}").contains("sekrit"));
    let request = || {
        let request = http.post(&to).secret(&"body-secret".into());
        request.secret_header(reqwest::header::AUTHORIZATION, &authorization)
    };
    assert!(!format!("{:?}", request()).contains("secret-"));
    let echo = "hidden/path?token=abcdefgh, Bearer sekrit-token, body-secret\u{1b}[31m\nforged line";
    receiver.answers([Reply::new(400, echo)]);
    let failure = request().send().await.unwrap().taken(&RULES).unwrap_err();
    assert_eq!(
        failure.reason,
        format!(
            "it ({}) answered 400: [secret], Bearer [secret], [secret]⟨U+001B⟩[31m⏎forged line. Look.",
            receiver.url()
        )
    );
}

#[tokio::test]
async fn a_pause_is_what_the_receiver_says_by_its_own_clock() {
    let receiver = Receiver::start(|_| Reply::new(200, "ok"));
    let http = anywhere();
    let to = http.endpoint(&receiver.url(), "").unwrap();
    let date = |time: SystemTime| httpdate::fmt_http_date(time);
    let ours = SystemTime::now();
    // Its clock is a year behind, or ahead: only the difference counts.
    let year = Duration::from_secs(365 * 86_400);
    let later = Duration::from_secs(40);
    let after = Retry::After;
    for (headers, expected) in [
        (vec![("retry-after", date(ours - year + later)), ("date", date(ours - year))], after(later)),
        (vec![("retry-after", date(ours + year + later)), ("date", date(ours + year))], after(later)),
        (vec![("retry-after", date(ours - later)), ("date", date(ours))], Retry::Later),
        (vec![("x-ratelimit-reset", "12".to_owned())], after(Duration::from_secs(12))),
        (vec![("ratelimit-reset", "1.5".to_owned())], after(Duration::from_millis(1500))),
        (vec![("x-ratelimit-reset", "NaN".to_owned())], Retry::Later),
        (vec![("x-ratelimit-reset", "inf".to_owned())], after(Duration::from_secs(3600))),
        (
            vec![("retry-after", "3".to_owned()), ("x-ratelimit-reset", "9".to_owned())],
            after(Duration::from_secs(3)),
        ),
        (
            vec![
                ("x-ratelimit-reset", "1700000030".to_owned()),
                ("date", "Tue, 14 Nov 2023 22:13:20 GMT".to_owned()),
            ],
            after(Duration::from_secs(30)),
        ),
    ] {
        let reply =
            headers.iter().fold(Reply::new(429, ""), |reply, (name, value)| reply.header(name, value));
        receiver.answers([reply]);
        let failure = http.post(&to).send().await.unwrap().taken(&RULES).unwrap_err();
        assert_eq!(failure.retry, expected, "{headers:?}");
    }
    receiver.answers([Reply::new(423, ""), Reply::new(418, "")]);
    assert_eq!(http.post(&to).send().await.unwrap().taken(&RULES).unwrap_err().retry, Retry::Refused);
    assert_eq!(http.post(&to).send().await.unwrap().taken(&RULES).unwrap_err().retry, Retry::Never);
}

#[tokio::test]
async fn a_receiver_that_is_silent_or_slow_is_left_in_time() {
    let receiver = Receiver::start(|_| Reply::new(200, "a slow answer"));
    let http = anywhere();
    let to = http.endpoint(&receiver.url(), "").unwrap();
    receiver.script([Act::Hang(Duration::from_secs(5))]);
    let failure = http.post(&to).send().await.unwrap_err();
    assert!(failure.reason.contains("in time") && failure.retry == Retry::Later, "{failure}");
    // Each byte comes in time, the whole does not.
    receiver.script([Act::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nab".to_vec())]);
    let half = http.post(&to).send().await.unwrap();
    assert_eq!((half.status, half.body.as_str()), (200, "ab"));
    assert!(half.cut.is_some());
    receiver.script([Act::Slow(Duration::from_millis(300))]);
    assert!(http.post(&to).send().await.is_err());
}
