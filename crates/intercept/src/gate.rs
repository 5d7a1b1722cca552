//! Asking about an action, waiting for a person, and telling what came of it.
//!
//! Nothing but a complete `allow` for the check that was asked lets an action run. Who is told to run gets a
//! [`Ticket`]; whatever then happens, cancellation and crashes of a task included, the outcome is reported.

use checkrein_api::{Check, Client, ClientError, Decision, OutcomeReport, OutcomeStatus, Verdict};
use checkrein_core::{
    action::Category,
    classify::{Catalogue, CatalogueConfig},
    name::Name,
};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{
        Semaphore,
        mpsc::{self, error::TrySendError},
    },
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, timeout},
};

/// Checks under way at a time; what is more waits its turn.
const ASKING: usize = 128;
/// Requests that wait at the server for a person at a time.
const WAITING: usize = 64;
/// The longest that one such request waits, in seconds.
const POLL: u64 = 20;
/// Outcomes under way at a time.
const REPORTING: usize = 16;
/// Outcomes that wait to be reported. Of a check whose outcome finds no place here, none is on record.
const OUTCOMES: usize = 10_000;
/// Characters of an error that are put on record.
const ERROR_TEXT: usize = 1_000;

/// What to do with a call while the server cannot be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnreachable {
    /// It does not run.
    #[default]
    Block,
    /// It runs if the built-in catalogue takes it for a read.
    AllowReads,
}

/// How a gate asks.
#[derive(Clone, Debug)]
pub struct GateOptions {
    /// Who acts; absent: the agent of the key.
    pub agent: Option<String>,
    /// The most that a check may take.
    pub timeout: Duration,
    /// What to do while the server cannot be reached.
    pub on_unreachable: OnUnreachable,
}

/// Asks one server, with one key, for one agent.
pub struct Gate {
    client: Client,
    options: GateOptions,
    catalogue: Option<Catalogue>,
    asking: Semaphore,
    waiting: Semaphore,
    outcomes: Mutex<Option<mpsc::Sender<Reported>>>,
    reporter: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("options", &self.options).finish_non_exhaustive()
    }
}

struct Reported {
    check: String,
    report: OutcomeReport,
}

/// What is to become of an action.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It may run, now and once. `approved`: a person says so.
    Allow { ticket: Ticket, approved: bool },
    /// A person has to answer first.
    Hold(Held),
    /// It must not run.
    Block(Decision),
    /// Nobody judged it, so it must not run.
    Unasked,
}

/// An action that a person has to approve.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// `chk_…`.
    pub(crate) check: String,
    /// `apr_…`.
    pub(crate) approval: String,
    /// Why it is held.
    pub(crate) reason: String,
}

impl Gate {
    /// For the server and key of `client`. Must be called within a tokio runtime.
    pub fn new(client: Client, options: GateOptions) -> Self {
        let catalogue = match options.on_unreachable {
            OnUnreachable::Block => None,
            OnUnreachable::AllowReads => Catalogue::new(&CatalogueConfig::default()).ok(),
        };
        let (outcomes, reported) = mpsc::channel(OUTCOMES);
        let reporter = tokio::spawn(report(client.clone(), options.timeout, reported));
        Self {
            client,
            options,
            catalogue,
            asking: Semaphore::new(ASKING),
            waiting: Semaphore::new(WAITING),
            outcomes: Mutex::new(Some(outcomes)),
            reporter: Mutex::new(Some(reporter)),
        }
    }

    /// Whether the action may run. Never an error: what cannot be asked does not run.
    pub(crate) async fn ask(self: &Arc<Self>, mut check: Check) -> Answer {
        check.agent.clone_from(&self.options.agent);
        // Asked again after a failure it is the same question, recorded once.
        check.idempotency_key = Some(format!("mcp-{}", uuid::Uuid::now_v7()));
        match self.decide(&check).await {
            Ok(decision) => self.answer(decision),
            Err(failure) => {
                tracing::error!("a call could not be checked: {failure}");
                if failure.unreachable && self.reads(&check) {
                    tracing::warn!("it only reads, and --on-unreachable allow-reads lets it run unchecked");
                    let ticket = Ticket { gate: Arc::clone(self), check: None, sent: false };
                    return Answer::Allow { ticket, approved: false };
                }
                Answer::Unasked
            }
        }
    }

    /// What a held action has come to, after at most `patience`.
    pub(crate) async fn settle(self: &Arc<Self>, held: Held, patience: Duration) -> Answer {
        let ends = Instant::now() + patience;
        loop {
            let left = ends.saturating_duration_since(Instant::now());
            let Some(decision) = self.look(&held, left).await else {
                if ends.saturating_duration_since(Instant::now()).is_zero() {
                    return Answer::Hold(held);
                }
                continue;
            };
            return match decision.verdict {
                Verdict::Hold => Answer::Hold(held),
                _ => self.answer(decision),
            };
        }
    }

    /// One look at a held check; `None` while nothing has changed or nothing could be found out.
    async fn look(&self, held: &Held, left: Duration) -> Option<Decision> {
        let began = Instant::now();
        let (found, waited) = {
            let _place = self.waiting.acquire().await.ok()?;
            // With many in line each one only looks, so that all have their turn.
            let wait = if self.waiting.available_permits() > 0 { left.as_secs().min(POLL) } else { 0 };
            let asked = self.client.get_check(&held.check, wait);
            (timeout(Duration::from_secs(wait) + self.options.timeout, asked).await, wait)
        };
        match found {
            Ok(Ok(view)) if view.decision.id == held.check && view.decision.verdict != Verdict::Hold => {
                return Some(view.decision);
            }
            Ok(Err(error)) => tracing::warn!("cannot look whether {} is approved: {error}", held.approval),
            Err(_) => tracing::warn!("looking whether {} is approved took too long", held.approval),
            Ok(Ok(_)) => {}
        }
        // A server that does not wait must not be asked in a tight loop.
        let least = Duration::from_secs(waited).min(Duration::from_secs(1)).max(Duration::from_millis(500));
        sleep(least.saturating_sub(began.elapsed()).min(left)).await;
        None
    }

    async fn decide(&self, check: &Check) -> Result<Decision, Unjudged> {
        // Whoever floods the gateway must not make the server look as if it were not there.
        let late = |what: &str| Unjudged {
            unreachable: false,
            cause: format!(
                "{what} within {:?}; is it overloaded? --timeout gives it longer",
                self.options.timeout
            ),
        };
        let Ok(_place) = timeout(self.options.timeout, self.asking.acquire()).await else {
            return Err(late("so many checks are under way that this one was not asked"));
        };
        let ask = async {
            match self.client.check(check).await {
                // A connection that broke, or a server that starts again: once more, the same question.
                Err(ClientError::Unreachable { .. }) => {
                    sleep(Duration::from_millis(100)).await;
                    self.client.check(check).await
                }
                answered => answered,
            }
        };
        match timeout(self.options.timeout, ask).await {
            Ok(answered) => answered.map_err(Unjudged::from),
            Err(_) => Err(late("the server did not answer")),
        }
    }

    fn answer(self: &Arc<Self>, decision: Decision) -> Answer {
        match (decision.verdict, &decision.approval_id) {
            (Verdict::Allow, _) => {
                let approved = decision.approval_id.is_some();
                let ticket = Ticket { gate: Arc::clone(self), check: Some(decision.id), sent: false };
                Answer::Allow { ticket, approved }
            }
            (Verdict::Hold, Some(approval)) => {
                Answer::Hold(Held { approval: approval.clone(), check: decision.id, reason: decision.reason })
            }
            (Verdict::Hold, None) | (Verdict::Block, _) => Answer::Block(decision),
        }
    }

    fn reads(&self, check: &Check) -> bool {
        let Some(catalogue) = &self.catalogue else { return false };
        catalogue.classify(check, Name::default_agent()).is_ok_and(|action| action.category == Category::Read)
    }

    fn report(&self, check: String, status: OutcomeStatus, error: Option<String>) {
        let error = error.map(|text| text.chars().take(ERROR_TEXT).collect());
        let report = OutcomeReport { status, records: None, error };
        let outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outcomes) = &*outcomes {
            // When the reporter is gone, nobody is left to tell.
            if let Err(TrySendError::Full(Reported { check, .. })) =
                outcomes.try_send(Reported { check, report })
            {
                tracing::error!(
                    "the outcome of {check} is not reported: {OUTCOMES} are waiting; is the server reachable and fast enough?"
                );
            }
        }
    }

    /// Sends the outcomes that are still to be reported, for at most a few seconds.
    pub async fn finish(&self) {
        drop(self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).take());
        let reporter = self.reporter.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(reporter) = reporter
            && timeout(self.options.timeout, reporter).await.is_err()
        {
            tracing::warn!("some outcomes could not be reported in time");
        }
    }
}

async fn report(client: Client, patience: Duration, mut reported: mpsc::Receiver<Reported>) {
    let mut under_way = JoinSet::new();
    while let Some(Reported { check, report }) = reported.recv().await {
        if under_way.len() >= REPORTING {
            under_way.join_next().await;
        }
        let client = client.clone();
        under_way.spawn(async move {
            for pause in [0, 200] {
                sleep(Duration::from_millis(pause)).await;
                match timeout(patience, client.outcome(&check, &report)).await {
                    Ok(Ok(_)) => return,
                    Ok(Err(error)) => {
                        let passing = match &error {
                            ClientError::Unreachable { .. } => true,
                            ClientError::Problem(problem) => problem.status >= 500,
                            ClientError::NotCheckrein { status, .. } => *status >= 500,
                        };
                        tracing::warn!("the outcome of {check} was not reported: {error}");
                        // What has been answered once is not answered otherwise a moment later.
                        if !passing {
                            return;
                        }
                    }
                    Err(_) => tracing::warn!("reporting the outcome of {check} took too long"),
                }
            }
        });
    }
    while under_way.join_next().await.is_some() {}
}

/// Why there is no decision.
struct Unjudged {
    /// No connection came about, so nobody was there to judge.
    unreachable: bool,
    cause: String,
}

impl fmt::Display for Unjudged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}

impl From<ClientError> for Unjudged {
    fn from(error: ClientError) -> Self {
        // Whoever answers at all, be it slowly, with a failure, with rubbish or with half an answer, may have been
        // about to say no.
        let unreachable = matches!(error, ClientError::Unreachable { connected: false, .. });
        Self { unreachable, cause: error.to_string() }
    }
}

/// Leave to run one action, once. What became of it is reported by [`Ticket::ended`]; when that is never
/// said, as `unknown` if the action was passed on and as an error if it never was.
#[derive(Debug)]
pub(crate) struct Ticket {
    gate: Arc<Gate>,
    /// None where the action runs unchecked.
    check: Option<String>,
    sent: bool,
}

impl Ticket {
    /// The action is passed on: from now on it may have run.
    pub(crate) fn sent(&mut self) {
        self.sent = true;
    }

    /// How it ended.
    pub(crate) fn ended(mut self, status: OutcomeStatus, error: Option<String>) {
        if let Some(check) = self.check.take() {
            self.gate.report(check, status, error);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let Some(check) = self.check.take() else { return };
        let (status, error) = if self.sent {
            (OutcomeStatus::Unknown, "no answer came")
        } else {
            (OutcomeStatus::Error, "cancelled before it ran")
        };
        self.gate.report(check, status, Some(error.to_owned()));
    }
}
