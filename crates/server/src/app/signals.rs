//! Signals: what became of them, the sinks that they go to, and the silences that keep them back.

use super::{App, Caller, Error, outbox};
use crate::config::{Config, SinkSettings};
use checkrein_api::{
    DeliveryView, NewSilence, SignalPage, SignalReplay, SignalReplayed, SignalView, SilenceList, SilenceView,
    SinkExample, SinkList, SinkReport, SinkView,
};
use checkrein_core::{
    event::Event,
    name::is_invisible,
    signal::{Delivery, Place, Routing, Silence, Standing},
};
use checkrein_signals::{Dispatcher, examples};
use checkrein_store::{AppendError, SignalFilter, SignalRow};
use std::{collections::BTreeMap, sync::RwLock};

/// How long a silence may last, in seconds.
const LONGEST_SILENCE: i64 = 30 * 86_400;
/// Bytes of a silence's comment, at most.
const MAX_COMMENT: usize = 1024;
/// Signals a page, where nothing else is asked for, and at most.
const PAGE: usize = 50;
const MAX_PAGE: usize = 500;

/// Which signals, how many, and where to go on.
#[derive(Clone, Debug, Default)]
pub struct SignalQuery {
    /// Which.
    pub filter: SignalFilter,
    /// Before this one.
    pub cursor: Option<Place>,
    /// At most so many.
    pub limit: Option<usize>,
}

/// What the application knows of the way out.
pub(super) struct WayOut {
    pub(super) dispatcher: Dispatcher,
    /// What the configuration in force says.
    set: RwLock<(BTreeMap<String, SinkSettings>, Routing)>,
    /// Silences are made and ended one after the other, so that the last word is in force.
    changing: tokio::sync::Mutex<()>,
}

fn of(config: &Config) -> (BTreeMap<String, SinkSettings>, Routing) {
    let sinks: BTreeMap<_, _> = config.sinks.iter().map(|sink| (sink.name.clone(), sink.clone())).collect();
    let mut routing = config.routing.clone();
    routing.sinks = sinks.values().filter(|sink| sink.signals).map(|sink| sink.name.clone()).collect();
    (sinks, routing)
}

impl WayOut {
    pub(super) fn new(dispatcher: Dispatcher, config: &Config) -> Self {
        Self { dispatcher, set: RwLock::new(of(config)), changing: tokio::sync::Mutex::default() }
    }

    fn set(&self) -> (BTreeMap<String, SinkSettings>, Routing) {
        self.set.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl App {
    /// Puts the sinks and routes of a new configuration into force.
    pub(super) async fn reload_sinks(&self, config: &Config) -> Result<(), Error> {
        let _one_at_a_time = self.way_out.changing.lock().await;
        let silences = self.store.silences(self.clock.now()).await?;
        *self.way_out.set.write().unwrap_or_else(std::sync::PoisonError::into_inner) = of(config);
        self.way_out.dispatcher.change(outbox::setup(config, silences));
        Ok(())
    }

    /// Signals, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list_signals(&self, query: SignalQuery) -> Result<SignalPage, Error> {
        let limit = query.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE);
        let page = self.store.signals(query.filter, query.cursor, limit).await?;
        Ok(SignalPage {
            signals: page.rows.into_iter().map(signal_view).collect(),
            next_cursor: page.next.map(Place::id),
        })
    }

    /// Sends a signal again.
    ///
    /// # Errors
    /// When there is no such signal or sink, or no route takes it.
    pub async fn replay_signal(&self, id: &str, request: SignalReplay) -> Result<SignalReplayed, Error> {
        let missing = || Error::NotFound("signal", id.chars().take(64).collect());
        let place = Place::of(id).ok_or_else(missing)?;
        let SignalRow { signal, mut deliveries, .. } = self.store.signal(place).await?.ok_or_else(missing)?;
        let (sinks, routing) = self.way_out.set();
        // One for a sink that is not there any more goes where the routes lead now.
        let is_there = |name: &String| sinks.get(name).is_some_and(|sink| sink.signals);
        deliveries.retain(|delivery| delivery.standing == Standing::Dead && is_there(&delivery.sink));
        let sent_to = match request.sink {
            Some(sink) if is_there(&sink) => {
                deliveries.retain(|delivery| delivery.sink == sink);
                if deliveries.is_empty() { vec![sink] } else { Vec::new() }
            }
            Some(sink) => return Err(Error::NotFound("sink for signals", sink.chars().take(64).collect())),
            None if deliveries.is_empty() => {
                routing.to(&signal).into_iter().map(|(sink, _)| sink.to_owned()).collect()
            }
            None => Vec::new(),
        };
        if deliveries.is_empty() && sent_to.is_empty() {
            return Err(Error::Conflict(
                "no route leads this signal anywhere; name a sink, or change [[routes]]".to_owned(),
            ));
        }
        let tried_again = deliveries.len() as u64;
        self.way_out.dispatcher.replay(deliveries, (place, signal), sent_to.clone());
        Ok(SignalReplayed { tried_again, sent_to })
    }

    /// The sinks, and how they are.
    pub fn list_sinks(&self) -> SinkList {
        let reports = self.way_out.dispatcher.reports().all();
        let head = self.store.head().seq;
        let view = |sink: SinkSettings| {
            let report = reports.get(&sink.name).cloned().unwrap_or_default();
            let (last_error_at, last_error) = report.last_error.unzip();
            SinkView {
                name: sink.name,
                kind: sink.kind.to_owned(),
                signals: sink.signals,
                actions: sink.actions,
                failing: report.failing,
                circuit: report.circuit.as_str().to_owned(),
                queued: report.queued,
                delivered: report.delivered,
                failed: report.failed,
                dead: report.dead,
                records: report.records,
                records_lost: report.lost,
                records_behind: report.fed.map(|fed| head.saturating_sub(fed)),
                last_delivered_at: report.last_delivered_at,
                last_error_at,
                last_error,
            }
        };
        SinkList { sinks: self.way_out.set().0.into_values().map(view).collect() }
    }

    /// Sends a harmless example of each kind to a sink, past the queue.
    ///
    /// # Errors
    /// When there is no such sink.
    pub async fn test_sink(&self, name: &str) -> Result<SinkReport, Error> {
        let missing = || Error::NotFound("sink", name.chars().take(64).collect());
        let sink = self.way_out.set().0.remove(name).ok_or_else(missing)?;
        let mut tried = Vec::new();
        let now = self.clock.now();
        let number = uuid::Uuid::now_v7().simple().to_string();
        for message in sink.signals.then(|| examples::messages(now, &number)).into_iter().flatten() {
            let kind = message.signals.first().map(|signal| signal.kind.clone()).unwrap_or_default();
            tried.push((kind, sink.sink.notify(&message).await));
            if tried.last().is_some_and(|(_, answer)| answer.is_err()) {
                // What is wrong with one is wrong with all, nearly always.
                break;
            }
        }
        if sink.actions {
            tried.push(("record".to_owned(), sink.sink.feed(&[examples::record(now)]).await));
        }
        let examples: Vec<_> = tried
            .into_iter()
            .map(|(kind, answer)| SinkExample {
                kind,
                ok: answer.is_ok(),
                error: answer.err().map(|e| e.reason),
            })
            .collect();
        Ok(SinkReport { ok: examples.iter().all(|example| example.ok), examples })
    }

    /// The silences that are in force or will be, those of the configuration too.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list_silences(&self) -> Result<SilenceList, Error> {
        let now = self.clock.now();
        let mut all = self.store.silences(now).await?;
        all.extend(self.way_out.set().1.silences.into_iter().filter(|silence| silence.until > now));
        all.sort_by_key(|silence| silence.until);
        Ok(SilenceList { silences: all.into_iter().map(silence_view).collect() })
    }

    /// Keeps signals back for a time. Who wants it is told by the key.
    ///
    /// # Errors
    /// When the request makes no sense or cannot be recorded.
    pub async fn create_silence(&self, by: &Caller, new: NewSilence) -> Result<SilenceView, Error> {
        let now = self.clock.now();
        if new.until <= now || new.until > now.plus_seconds(LONGEST_SILENCE) {
            return Err(Error::Invalid("until: a time within the next 30 days".to_owned()));
        }
        let comment = new.comment.trim();
        if comment.is_empty() || comment.len() > MAX_COMMENT || comment.chars().any(is_invisible) {
            return Err(Error::Invalid(format!(
                "comment: 1 to {MAX_COMMENT} bytes without invisible characters, so that others know why"
            )));
        }
        let silence = Silence {
            id: format!("sil_{}", uuid::Uuid::now_v7().simple()),
            matcher: new.matcher,
            owner: by.actor().name,
            comment: comment.to_owned(),
            from: now,
            until: new.until,
        };
        let event = Event::SilenceCreated { silence: Box::new(silence.clone()), by: by.actor() };
        self.change_silences(event).await?;
        Ok(silence_view(silence))
    }

    /// Ends a silence before its time.
    ///
    /// # Errors
    /// When there is none, or it comes from the configuration.
    pub async fn end_silence(&self, by: &Caller, id: &str) -> Result<(), Error> {
        if self.way_out.set().1.silences.iter().any(|silence| silence.id == id) {
            return Err(Error::Conflict(
                "this silence comes from the configuration; take it out there and reload".to_owned(),
            ));
        }
        self.change_silences(Event::SilenceEnded { id: id.to_owned(), by: by.actor() }).await
    }

    async fn change_silences(&self, event: Event) -> Result<(), Error> {
        let _one_at_a_time = self.way_out.changing.lock().await;
        let id: String = event.subject().chars().take(64).collect();
        match self.store.append(vec![event], self.clock.now()).await {
            Ok(_) => {}
            Err(AppendError::NotFound(_)) => return Err(Error::NotFound("silence", id)),
            Err(error) => return Err(error.into()),
        }
        let mut all = self.store.silences(self.clock.now()).await?;
        all.extend(self.way_out.set().1.silences);
        self.way_out.dispatcher.silence(all);
        Ok(())
    }
}

fn signal_view(row: SignalRow) -> SignalView {
    SignalView { signal: row.signal, deliveries: row.deliveries.into_iter().map(delivery_view).collect() }
}

fn delivery_view(delivery: Delivery) -> DeliveryView {
    DeliveryView {
        id: delivery.notification.delivery_id,
        sink: delivery.sink,
        status: delivery.standing,
        count: delivery.notification.count,
        queued_at: delivery.queued_at,
        attempts: delivery.attempts,
        settled_at: delivery.settled_at,
        error: delivery.error,
    }
}

fn silence_view(silence: Silence) -> SilenceView {
    let Silence { id, matcher, owner, comment, from, until } = silence;
    SilenceView { id, matcher, owner, comment, from, until }
}
