//! Syslog (RFC 5424) with a body in CEF, over UDP, TCP or TLS (RFC 5425, port 6514 as a rule).
//!
//! Contract: over TCP and TLS each message comes with its length before it (octet counting, RFC 6587), over UDP in one
//! datagram. Syslog has no answer. Over TCP and TLS a delivery is one connection: all messages, then the end of
//! what is sent, then the receiver's own end is waited for, which says that it has read everything; whether it has
//! kept it, nobody can say. Over UDP nothing is known at all.
//!
//! Limits: [`SyslogConfig::max_bytes`] a message, at least 480, which every receiver takes; what does not fit is left
//! out from the end of the list in docs/signals/syslog.md.

mod cef;

use crate::{
    http::is_public,
    sink::{Failure, Record, Retry, Sink},
};
use async_trait::async_trait;
use checkrein_core::{
    signal::{Notification, Severity},
    time::Timestamp,
};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls_platform_verifier::BuilderVerifierExt as _;
use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket, lookup_host},
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// Records of one [`Sink::feed`].
const FEED_BATCH: usize = 500;
/// What every receiver must take.
const LEAST: usize = 480;

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In datagrams: nothing tells whether they arrive.
    Udp,
    /// Over TCP, readable by everybody on the way.
    Tcp,
    /// Over TLS; the receiver's certificate is verified.
    Tls,
}

/// Where and how.
#[derive(Clone, Debug)]
pub struct SyslogConfig {
    /// `host:port`, e.g. `siem.example:6514`.
    pub address: String,
    /// How messages travel.
    pub transport: Transport,
    /// Whether it may connect to addresses that are not public, and send without TLS.
    pub allow_private: bool,
    /// A PEM file with the only authorities that it trusts, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The facility, 0 to 23; 13 is "log audit".
    pub facility: u8,
    /// What stands for this machine: at most 255 visible ASCII characters; absent: `-`.
    pub hostname: Option<String>,
    /// Bytes of one message, at most; at least 480.
    pub max_bytes: usize,
    /// How long a whole delivery may take.
    pub timeout: Duration,
}

impl SyslogConfig {
    /// With everything else as it is by default: facility 13, 2048 bytes over UDP and 8192 otherwise, 15 s.
    pub fn new(address: impl Into<String>, transport: Transport) -> Self {
        Self {
            address: address.into(),
            transport,
            allow_private: false,
            ca_file: None,
            facility: 13,
            hostname: None,
            max_bytes: if transport == Transport::Udp { 2048 } else { 8192 },
            timeout: Duration::from_secs(15),
        }
    }
}

/// The sink.
pub struct Syslog {
    config: SyslogConfig,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl std::fmt::Debug for Syslog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Syslog").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Syslog {
    /// A sink for `config`.
    ///
    /// # Errors
    /// When the address has no port, a setting is out of its range, `ca_file` cannot be read, or the transport is
    /// readable by others and that is not permitted.
    pub fn new(config: SyslogConfig) -> Result<Self, String> {
        let host = match config.address.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => host,
            _ => return Err("`address` is a host and a port, e.g. siem.example:6514".to_owned()),
        };
        if config.transport != Transport::Tls && !config.allow_private {
            return Err("this sends without TLS: use `transport = \"tls\"`, or set `allow_private = true` for this sink"
                .to_owned());
        }
        if config.facility > 23 {
            return Err("`facility` is a number from 0 to 23".to_owned());
        }
        if !(LEAST..=64_000).contains(&config.max_bytes) {
            return Err(format!("`max_bytes` is a number from {LEAST} to 64000"));
        }
        let named = config.hostname.as_deref().unwrap_or("-");
        if named.is_empty() || named.len() > 255 || !named.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("`hostname` is at most 255 visible ASCII characters without a space".to_owned());
        }
        let tls = match config.transport {
            Transport::Tls => {
                let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                let name =
                    ServerName::try_from(host).map_err(|e| format!("`address`: no name of a host: {e}"))?;
                Some((connector(config.ca_file.as_ref())?, name))
            }
            Transport::Tcp | Transport::Udp => None,
        };
        Ok(Self { config, tls })
    }

    /// `<PRI>1 TIME HOST APP PROCID MSGID [data] message`
    fn line(
        &self,
        at: Timestamp,
        severity: Severity,
        kind: &str,
        data: &[(&str, &str)],
        cef: impl Fn(usize) -> String,
    ) -> String {
        let priority = u32::from(self.config.facility) * 8 + u32::from(cef::severities(severity).0);
        let host = self.config.hostname.as_deref().unwrap_or("-");
        let id: String = kind.chars().filter(char::is_ascii_graphic).take(32).collect();
        let mut head = format!("<{priority}>1 {at} {host} checkrein - {id} [checkrein@32473");
        for (name, value) in data {
            let value = crate::text::fit(value, crate::text::Medium::Plain, 64);
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]");
            head.push_str(&format!(" {name}=\"{value}\""));
        }
        // It says that the text is UTF-8.
        head.push_str("] \u{feff}");
        let room = self.config.max_bytes.saturating_sub(head.len());
        head + &cef(room)
    }

    async fn send(&self, lines: &[String]) -> Result<(), Failure> {
        let delivery = async {
            let addresses = self.addresses().await?;
            match self.config.transport {
                Transport::Udp => datagrams(&addresses, lines).await,
                Transport::Tcp => exchange(TcpStream::connect(addresses.as_slice()).await?, lines).await,
                Transport::Tls => {
                    let stream = TcpStream::connect(addresses.as_slice()).await?;
                    let Some((tls, name)) = &self.tls else { return Err(io::ErrorKind::Unsupported.into()) };
                    exchange(tls.connect(name.clone(), stream).await?, lines).await
                }
            }
        };
        let address = &self.config.address;
        let (cause, next) = match timeout(self.config.timeout, delivery).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) if error.to_string().contains("certificate") => {
                (error.to_string(), "If your own authority signed it, name that in `ca_file`")
            }
            Ok(Err(error)) => (error.to_string(), "Does the receiver listen there for this transport?"),
            Err(_) => (
                "it did not take everything in time".to_owned(),
                "Is it overloaded, or does it keep connections open that were ended?",
            ),
        };
        Err(Failure { retry: Retry::Later, reason: format!("syslog at {address}: {cause}. {next}") })
    }

    /// Where to connect to: what may not be connected to is not among them.
    async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let mut found: Vec<_> = lookup_host(&self.config.address).await?.collect();
        let first = found.first().copied();
        found.retain(|address| self.config.allow_private || is_public(address.ip()));
        match (first, found.is_empty()) {
            (None, _) => Err(io::Error::other("its name has no address")),
            (Some(first), true) => Err(io::Error::other(format!(
                "{} is not a public address, and `allow_private` is not set for this sink",
                first.ip()
            ))),
            _ => Ok(found),
        }
    }
}

#[async_trait]
impl Sink for Syslog {
    async fn notify(&self, message: &Notification) -> Result<(), Failure> {
        let kind = crate::message::newest(message).map_or("signal", |signal| signal.kind.as_str());
        let data = [("delivery_id", message.delivery_id.as_str()), ("dedup_key", message.dedup_key.as_str())];
        let line = self.line(message.last_at, message.severity, kind, &data, |max| cef::alert(message, max));
        self.send(&[line]).await
    }

    fn feed_batch(&self) -> usize {
        FEED_BATCH
    }

    async fn feed(&self, records: &[Record]) -> Result<(), Failure> {
        let line = |record: &Record| {
            let severity = cef::severity_of(record);
            let seq = record.seq.to_string();
            self.line(record.at, severity, record.kind, &[("seq", &seq)], |max| cef::record(record, max))
        };
        self.send(&records.iter().map(line).collect::<Vec<_>>()).await
    }
}

async fn datagrams(addresses: &[SocketAddr], lines: &[String]) -> io::Result<()> {
    let Some(to) = addresses.first() else { return Err(io::ErrorKind::NotFound.into()) };
    let local: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(to).await?;
    for line in lines {
        socket.send(line.as_bytes()).await?;
    }
    Ok(())
}

/// Sends everything, ends, and waits for the other end.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, lines: &[String]) -> io::Result<()> {
    let counted: Vec<_> = lines.iter().map(|line| format!("{} {line}", line.len())).collect();
    stream.write_all(counted.concat().as_bytes()).await?;
    stream.flush().await?;
    stream.shutdown().await?;
    let mut ignored = [0; 512];
    loop {
        match stream.read(&mut ignored).await {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            // Many end a connection under TLS without saying so.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn connector(ca_file: Option<&PathBuf>) -> Result<TlsConnector, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("TLS cannot be used here: {e}"))?;
    let config = match ca_file {
        Some(file) => {
            let shown = file.display();
            let unreadable = |e| format!("`ca_file` {shown} cannot be read: {e}");
            let mut store = rustls::RootCertStore::empty();
            for certificate in CertificateDer::pem_file_iter(file).map_err(unreadable)? {
                store.add(certificate.map_err(unreadable)?).map_err(|e| format!("`ca_file` {shown}: {e}"))?;
            }
            if store.is_empty() {
                return Err(format!("`ca_file` {shown} holds no certificate in PEM form"));
            }
            builder.with_root_certificates(store)
        }
        None => builder
            .with_platform_verifier()
            .map_err(|e| format!("the system's authorities cannot be read: {e}. Name a file in `ca_file`"))?,
    };
    Ok(TlsConnector::from(Arc::new(config.with_no_client_auth())))
}
