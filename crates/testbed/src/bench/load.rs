//! The load generator: a closed loop on each of a number of connections, on one thread, for a while.
//!
//! It runs in a process of its own (see [`run_child`]), so that its work is not counted as the server's.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::Error;
use super::http1::{Connection, Request};

/// No round is allowed more than this, whatever its plan says.
const MAX_REQUESTS: u64 = 2_000_000;
const MAX_DURATION: Duration = Duration::from_secs(60);

/// What to send, how, and for how long.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// `127.0.0.1:PORT`; anything but loopback is refused.
    pub address: String,
    /// The path to POST to.
    pub path: String,
    /// Whole header lines.
    pub headers: Vec<String>,
    /// JSON; may contain [`super::http1::UNIQUE`].
    pub body: String,
    /// The first answer on each connection must contain this.
    pub expect: String,
    /// Connections, each with one request at a time.
    pub connections: usize,
    /// Unmeasured time before the measured.
    pub warm_up_ms: u64,
    /// Measured time.
    pub measure_ms: u64,
}

/// What was seen while measuring. Times are in nanoseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Requests answered with 200, while warming up too: the server spent CPU on those as well.
    pub requests: u64,
    /// Of those, the ones that were measured.
    pub measured: u64,
    /// Measured requests per second.
    pub per_second: f64,
    /// Median time to the answer.
    pub p50: f64,
    /// Time within which 99% were answered.
    pub p99: f64,
}

/// Runs the plan in a child process, which is this program started with `load PLAN`.
///
/// # Errors
/// If the child cannot be started, or said that the run failed.
pub fn run_child(plan: &Plan) -> Result<Report, Error> {
    let output = super::process::command(&std::env::current_exe()?)
        .arg("load")
        .arg(serde_json::to_string(plan)?)
        .stderr(std::process::Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("the load on {} failed", plan.address).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Runs the plan here.
///
/// # Errors
/// Any answer but 200, a first answer without the expected text, or a failing connection: a figure is only
/// worth something if every request was served.
pub fn run(plan: &Plan) -> Result<Report, Error> {
    if !plan.address.starts_with("127.0.0.1:") {
        return Err(format!("load is for loopback only, not for {}", plan.address).into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let limit = MAX_DURATION + Duration::from_secs(10);
        tokio::time::timeout(limit, drive(plan)).await.map_err(|_| "the server stopped answering")?
    })
}

async fn drive(plan: &Plan) -> Result<Report, Error> {
    let began = Instant::now();
    let warm_until = began + Duration::from_millis(plan.warm_up_ms);
    let until = warm_until + Duration::from_millis(plan.measure_ms).min(MAX_DURATION);
    // Unique among runs too, and growing over all connections, as the keys of the SDKs do: the clock in the
    // upper digits, the request in the lower.
    let base = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())? % 10_000_000_000;
    let mut connections = JoinSet::new();
    let numbers = Arc::new(AtomicU64::new(base * 1_000_000_000));
    for _ in 0..plan.connections {
        connections.spawn(closed_loop(plan.clone(), Arc::clone(&numbers), warm_until, until));
    }
    let mut total = Totals::new()?;
    while let Some(finished) = connections.join_next().await {
        total.add(&finished??)?;
    }
    let measured = total.latencies.len();
    if measured == 0 {
        return Err("not one request was answered in the measured time".into());
    }
    let seconds = until.duration_since(warm_until).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let report = Report {
        requests: total.requests,
        measured,
        per_second: measured as f64 / seconds,
        p50: total.latencies.value_at_quantile(0.5) as f64,
        p99: total.latencies.value_at_quantile(0.99) as f64,
    };
    Ok(report)
}

struct Totals {
    requests: u64,
    latencies: Histogram<u32>,
}

impl Totals {
    fn new() -> Result<Self, Error> {
        let longest = u64::try_from(MAX_DURATION.as_nanos())?;
        Ok(Self { requests: 0, latencies: Histogram::new_with_bounds(1_000, longest, 3)? })
    }

    fn add(&mut self, other: &Self) -> Result<(), Error> {
        self.requests += other.requests;
        self.latencies.add(&other.latencies)?;
        Ok(())
    }
}

/// Sends one request after the other. An answer that comes after the end is not measured.
async fn closed_loop(
    plan: Plan,
    numbers: Arc<AtomicU64>,
    warm_until: Instant,
    until: Instant,
) -> Result<Totals, Error> {
    let mut request = Request::new("POST", &plan.path, &plan.headers, &plan.body);
    let mut connection = Connection::open(&plan.address).await?;
    let mut totals = Totals::new()?;
    loop {
        request.stamp(numbers.fetch_add(1, Ordering::Relaxed));
        let sent = Instant::now();
        let response = connection.send(&request).await?;
        let answered = Instant::now();
        if response.status != 200 || (totals.requests == 0 && !contains(response.body, &plan.expect)) {
            let body = String::from_utf8_lossy(response.body).into_owned();
            return Err(format!("{} answered {}: {body}", plan.address, response.status).into());
        }
        totals.requests += 1;
        if answered >= until || totals.requests >= MAX_REQUESTS {
            return Ok(totals);
        }
        if sent >= warm_until {
            totals.latencies.saturating_record(u64::try_from((answered - sent).as_nanos())?);
        }
    }
}

fn contains(body: &[u8], text: &str) -> bool {
    text.is_empty() || body.windows(text.len()).any(|window| window == text.as_bytes())
}
