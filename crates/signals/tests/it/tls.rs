//! Certificates are checked, against the authorities that the operator names.

use checkrein_signals::http::{Http, HttpConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use std::{path::Path, process::Command, sync::Arc};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

/// Two authorities, and a certificate of the first for `localhost`.
fn certificates(folder: &Path) {
    std::fs::write(folder.join("ext"), "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n").unwrap();
    let openssl = |args: &str| {
        let output = Command::new("openssl").args(args.split(' ')).current_dir(folder).output().unwrap();
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
}

#[tokio::test]
async fn a_certificate_is_checked_against_the_named_authorities_alone() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let file = |name: &str| folder.path().join(name);
    let _installed_before = rustls::crypto::ring::default_provider().install_default();
    let chain = vec![CertificateDer::from_pem_file(file("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(file("server.key")).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut buffer = [0; 4096];
            let _request = stream.read(&mut buffer).await;
            let _gone =
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
            let _gone = stream.shutdown().await;
        }
    });
    let exchange = async |ca_file: Option<&str>, host: &str| {
        let ca_file = ca_file.map(file);
        let http = Http::new(&HttpConfig { allow_private: true, ca_file, ..HttpConfig::default() }).unwrap();
        let to = http.endpoint(&format!("https://{host}:{port}"), "/x").unwrap();
        http.post(&to).send().await.map(|answer| answer.status)
    };
    assert_eq!(exchange(Some("ca.pem"), "localhost").await.unwrap(), 200);
    for (ca_file, host) in
        [(None, "localhost"), (Some("other.pem"), "localhost"), (Some("ca.pem"), "127.0.0.1")]
    {
        let failure = exchange(ca_file, host).await.unwrap_err();
        assert!(failure.reason.contains("certificate") && failure.reason.contains("ca_file"), "{failure}");
    }
    server.abort();
    for (name, content) in [("empty.pem", ""), ("rubbish.pem", "-----BEGIN CERTIFICATE-----\n!\n")] {
        std::fs::write(file(name), content).unwrap();
        let config = HttpConfig { ca_file: Some(file(name)), ..HttpConfig::default() };
        assert!(Http::new(&config).unwrap_err().contains("`ca_file`"));
    }
    let config = HttpConfig { ca_file: Some(file("missing.pem")), ..HttpConfig::default() };
    assert!(Http::new(&config).unwrap_err().contains("cannot be read"));
}
