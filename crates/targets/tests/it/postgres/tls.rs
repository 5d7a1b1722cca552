//! Encrypted connections, checked as far as `sslmode` asks.

use super::{config, statement};
use checkrein_targets::{Error, Limits, open};
use checkrein_testbed::servers::postgres::Postgres;

#[tokio::test]
async fn certificates_are_checked_as_asked() {
    let folder = tempfile::tempdir().unwrap();
    crate::certificates(folder.path());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (cert, key) = (path("server.pem"), path("server.key"));
    let server = Postgres::start(&[("ssl", "on"), ("ssl_cert_file", &cert), ("ssl_key_file", &key)]).unwrap();
    let url = server.database().unwrap();
    let (ca, other) = (path("ca.pem"), path("other.pem"));
    let encrypted = async |host: &str, query: String| {
        let url = format!("{}?{query}", url.replace("127.0.0.1", host));
        let target = open(config(&url, Limits::default()))?;
        let sql = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
        target.read(&statement(sql)).await.map(|result| result.rows[0][0] == serde_json::json!(true))
    };
    assert_eq!(encrypted("127.0.0.1", "sslmode=disable".into()).await, Ok(false));
    assert_eq!(encrypted("127.0.0.1", "sslmode=prefer".into()).await, Ok(true));
    assert_eq!(encrypted("127.0.0.1", "sslmode=require".into()).await, Ok(true));
    assert_eq!(encrypted("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={ca}")).await, Ok(true));
    assert_eq!(encrypted("localhost", format!("sslmode=verify-full&sslrootcert={ca}")).await, Ok(true));
    for (host, query) in [
        ("127.0.0.1", format!("sslmode=verify-full&sslrootcert={ca}")),
        ("localhost", format!("sslmode=verify-full&sslrootcert={other}")),
        ("localhost", format!("sslmode=verify-ca&sslrootcert={other}")),
        ("localhost", format!("sslmode=require&sslrootcert={other}")),
    ] {
        let answer = encrypted(host, query.clone()).await;
        assert!(matches!(answer, Err(Error::Unreachable(_))), "{host} {query}: {answer:?}");
    }
    for query in ["sslmode=maybe".to_owned(), format!("sslmode=verify-full&sslrootcert={}", path("missing"))]
    {
        assert!(matches!(encrypted("localhost", query).await, Err(Error::Config(_))));
    }
    // A server without TLS is not spoken to in the clear when TLS is required.
    let plain = Postgres::shared().database().unwrap();
    let target = open(config(&format!("{plain}?sslmode=require"), Limits::default())).unwrap();
    assert!(matches!(target.read(&statement("select 1")).await, Err(Error::Unreachable(_))));
}

#[tokio::test]
async fn an_address_that_makes_no_sense_is_refused_without_showing_the_password() {
    for url in [
        "nonsense secret",
        "mysql://u:secret@h/d",
        "postgres://u:secret@h:port/d",
        "postgres://u:secret@h/d?nonsense=1",
    ] {
        let error = open(config(url, Limits::default())).err().unwrap();
        assert!(matches!(error, Error::Config(_)) && !error.to_string().contains("secret"), "{url}: {error}");
    }
}
