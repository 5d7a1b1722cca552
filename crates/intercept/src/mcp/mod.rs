//! The MCP gateway: between a client and a server of the Model Context Protocol, 2024-11-05 to 2026-07-28.
//!
//! ```text
//! client ──► message::read ──► tools/call? ──► Gateway::judge ──► server
//!                                   │ no             │ not allowed
//!                                   └──► server      └──► client: a result that says why
//! client ◄── the same bytes ◄── Gateway::heard ◄──────────── server
//! ```
//!
//! Every `tools/call` is checked. Everything else passes byte for byte, so no typed model of the protocol stands
//! on its way: what a model does not know it would lose. [`stdio`] and [`http`] are the two transports; what
//! they have in common is [`Gateway`].

mod detour;
pub mod http;
mod message;
mod recent;
mod reply;
pub mod stdio;
mod watch;
mod words;

pub use watch::{Watch, WatchError};

use crate::gate::{Answer, Gate, Held, Ticket};
use async_trait::async_trait;
use checkrein_api::Check;
use detour::{About, Detour, Detours};
use message::Call;
use serde_json::json;
use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use watch::Change;

/// The largest message that is read, in bytes.
pub const DEFAULT_MAX_MESSAGE: usize = 64 * 1024 * 1024;
/// How often one call may be sent back to wait (2026-07-28); clients give up after ten times.
const ROUNDS: u32 = 8;
/// Changes of one server's tools that go on record before their tools are called.
const TOLD: usize = 1_000;

/// How one server is fronted.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the server is called: its tools are checked as `mcp__NAME__TOOL`.
    pub name: Option<String>,
    /// The session on record; absent: that of the protocol, or a new one.
    pub session: Option<String>,
    /// How long a call waits for a person.
    pub wait: Duration,
    /// The largest message, in bytes.
    pub max_message: usize,
}

/// Judges the calls of one server's tools.
#[derive(Debug)]
pub struct Gateway {
    gate: Arc<Gate>,
    options: Options,
    watch: Watch,
    detours: Detours,
    /// Changes that are on record.
    told: Mutex<HashSet<String>>,
}

/// What becomes of a call.
#[derive(Debug)]
enum Fate {
    /// It is passed on: as it came, or as this instead.
    Run(Ticket, Option<String>),
    /// The client gets this answer, and the server nothing.
    Answer(String),
}

/// A way to ask the user of a client during a call (2025-06-18 to 2025-11-25).
#[async_trait]
trait Asks: Send + Sync {
    /// Whether they want to go on waiting; `None` if nobody will answer.
    async fn ask(&self, question: &str) -> Option<bool>;
}

impl Gateway {
    /// Asks through `gate`, and remembers in `watch` what the tools were.
    pub fn new(gate: Arc<Gate>, watch: Watch, options: Options) -> Self {
        Self { gate, options, watch, detours: Detours::default(), told: Mutex::default() }
    }

    /// Sends what is still to be reported.
    pub async fn finish(&self) {
        self.gate.finish().await;
    }

    /// What is to become of a call. It can take as long as a person may take; dropping it is safe.
    async fn judge(&self, call: &Call, session: Option<&str>, asks: Option<&dyn Asks>) -> Fate {
        let answer = |text: &str| Fate::Answer(words::result(&call.id, text, call.modern));
        let resumed = match self.detours.take(call) {
            Ok(resumed) => resumed,
            Err(held) => return answer(&words::declined(&held)),
        };
        let ends = Instant::now() + self.options.wait;
        let (mut about, mut next) = match &resumed {
            Some(detour) => (detour.about.clone(), Some(detour.held.clone())),
            None => match self.about(call) {
                Some(about) => (about, None),
                None => return answer(&words::unasked()),
            },
        };
        loop {
            let judged = match next.take() {
                Some(held) => {
                    let left = ends.saturating_duration_since(Instant::now());
                    match self.wait(call, held, left, asks).await {
                        Ok(judged) => judged,
                        Err(declined) => return answer(&words::declined(&declined)),
                    }
                }
                None => self.gate.ask(self.question(call, &about, session)).await,
            };
            match (judged, &about) {
                (Answer::Allow { ticket, .. }, About::Call) => {
                    // It may have changed while the call was being judged.
                    match self.about(call) {
                        Some(About::Call) => {}
                        Some(About::Change(change)) => {
                            return answer(&words::changed(&call.tool, &change.parts));
                        }
                        None => return answer(&words::unasked()),
                    }
                    return match Detours::original(call, resumed) {
                        Some(message) => Fate::Run(ticket, message),
                        None => answer(&words::unasked()),
                    };
                }
                (Answer::Allow { ticket, approved: true }, About::Change(change)) => {
                    let tool = change.tool.escape_debug();
                    match self.watch.accept(change) {
                        Ok(true) => tracing::info!("the change of the tool {tool} was accepted"),
                        Ok(false) => tracing::warn!("the tool {tool} is no longer what was approved"),
                        Err(error) => {
                            tracing::error!("{error}");
                            return answer(&words::unasked());
                        }
                    }
                    ticket.ended(checkrein_api::OutcomeStatus::Ok, None);
                    // What it has changed to since is another question.
                    about = match self.about(call) {
                        Some(about) => about,
                        None => return answer(&words::unasked()),
                    };
                }
                (Answer::Allow { .. }, About::Change(change)) => {
                    return answer(&words::changed(&call.tool, &change.parts));
                }
                (Answer::Block(decision), _) => return answer(&words::blocked(&decision)),
                (Answer::Unasked, _) => return answer(&words::unasked()),
                (Answer::Hold(held), _) if call.modern && call.elicits => {
                    let rounds = resumed.as_ref().map_or(0, |detour| detour.rounds) + 1;
                    if rounds > ROUNDS {
                        return answer(&words::unanswered(&held));
                    }
                    let question = words::question(&call.tool, &held);
                    let unanswered = words::unanswered(&held);
                    return match Detour::of(call, about, held, rounds, resumed) {
                        Some(detour) => {
                            let state = self.detours.keep(detour);
                            Fate::Answer(words::input_required(&call.id, &question, &state))
                        }
                        None => answer(&unanswered),
                    };
                }
                (Answer::Hold(held), _) if Instant::now() >= ends => {
                    return answer(&words::unanswered(&held));
                }
                (Answer::Hold(held), _) => next = Some(held),
            }
        }
    }

    /// What has to be asked before the call may run; none if that cannot be found out.
    fn about(&self, call: &Call) -> Option<About> {
        match self.watch.changed(&call.tool) {
            Ok(None) => Some(About::Call),
            Ok(Some(change)) => Some(About::Change(change)),
            Err(error) => {
                tracing::error!("{error}");
                None
            }
        }
    }

    /// Waits for a person to approve; meanwhile the client's user may give up.
    async fn wait(
        &self,
        call: &Call,
        held: Held,
        patience: Duration,
        asks: Option<&dyn Asks>,
    ) -> Result<Answer, Held> {
        let settle = self.gate.settle(held.clone(), patience);
        let Some(asks) = asks else { return Ok(settle.await) };
        tokio::pin!(settle);
        let question = words::question(&call.tool, &held);
        tokio::select! {
            answer = &mut settle => Ok(answer),
            goes_on = asks.ask(&question) => match goes_on {
                Some(false) => Err(held),
                Some(true) | None => Ok(settle.await),
            },
        }
    }

    fn question(&self, call: &Call, about: &About, session: Option<&str>) -> Check {
        let session = self.options.session.as_deref().or(session).map(str::to_owned);
        match about {
            About::Call => Check {
                tool: Some(match &self.options.name {
                    Some(name) => format!("mcp__{name}__{}", call.tool),
                    None => call.tool.clone(),
                }),
                arguments: Some(call.arguments.clone()),
                session,
                traceparent: call.trace,
                ..Check::default()
            },
            About::Change(change) => Check { session, traceparent: call.trace, ..self.change_check(change) },
        }
    }

    fn change_check(&self, change: &Change) -> Check {
        let name = self.options.name.as_deref().unwrap_or("server");
        let shown = |look: &watch::Look| {
            let changed = look.texts.iter().filter(|(part, _)| change.parts.contains(part));
            changed.map(|(part, text)| (part.clone(), text.clone())).collect::<BTreeMap<_, _>>()
        };
        Check {
            action: Some("tool_changed".to_owned()),
            resource: Some(format!("mcp.{name}.{}", change.tool)),
            payload: Some(json!({
                "record_count": 1,
                "changed": change.parts,
                "description_before": change.before.description,
                "description_after": change.after.description,
                // With all digests an approval of one change is none of another.
                "digests_before": change.before.parts,
                "digests_after": change.after.parts,
                "text_before": shown(&change.before),
                "text_after": shown(&change.after),
            })),
            ..Check::default()
        }
    }

    /// Looks at what a server sent, before the client gets it.
    ///
    /// # Errors
    /// When it must not get it: two readers could understand it differently.
    fn heard<'a>(&self, bytes: &'a [u8]) -> Result<Vec<reply::Reply<'a>>, String> {
        let replies =
            reply::read(bytes).map_err(|e| format!("a message of the server cannot be read: {e}"))?;
        for list in replies.iter().filter_map(|reply| reply.tools) {
            for change in self.watch.saw(list.get()).map_err(|e| e.to_string())? {
                self.tell(&change);
            }
        }
        Ok(replies)
    }

    /// Puts a change on record, as soon as it is seen.
    fn tell(&self, change: &Change) {
        // A server that goes to and fro, or makes up tools, must not fill the log.
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.len() >= TOLD || !told.insert(change.digest()) {
                return;
            }
        }
        let (tool, parts) = (change.tool.escape_debug().to_string(), change.parts.join(" and "));
        tracing::warn!("the tool {tool} is not what it was: its {parts} changed; its calls are held");
        let (gate, check) = (Arc::clone(&self.gate), self.change_check(change));
        tokio::spawn(async move {
            // Whether it may be used is asked again when it is called. This is for whoever has to know.
            if let Answer::Allow { ticket, .. } = gate.ask(check).await {
                ticket.ended(checkrein_api::OutcomeStatus::Ok, None);
            }
        });
    }
}
