//! Grants: giving, listing and revoking them, and how a hold finds the one that answers it.

use super::{
    App, Caller, Error,
    approvals::said,
    checks::{Asked, Settled, new_id},
};
use crate::config;
use checkrein_api::{GrantPage, GrantView, NewGrant};
use checkrein_core::{
    decision::Verdict,
    event::Event,
    grant::{Cover, Grant, MAX_SECONDS, Refused, State, Transition},
    key::Role,
    name::{Name, Pattern},
    policy::Facts,
};
use checkrein_store::{AppendError, GrantFilter};
use std::{fmt::Write as _, time::Duration};

/// Grants a page.
const MAX_PAGE: usize = 500;
/// Grants of which it is said why they do not cover an action.
const MAX_NOTES: usize = 3;

/// What `GET /v1/grants` selects.
#[derive(Clone, Debug, Default)]
pub struct GrantQuery {
    /// What to select.
    pub filter: GrantFilter,
    /// Where the page before ended.
    pub cursor: Option<u64>,
    /// How many; 50 when absent, at most 500.
    pub limit: Option<usize>,
}

/// Whether a grant answers a hold.
pub(super) enum Granted {
    /// One does.
    By(Box<Covering>),
    /// None does: why not, where one nearly does. Sentences, each after a blank.
    Not(String),
}

/// A grant that covers an action.
pub(super) struct Covering {
    grant: Grant,
    records: u64,
}

impl Covering {
    /// How the check `check_id` is settled by it, and its use. The store refuses the use when the grant has
    /// not enough left by then.
    pub(super) fn uses(self, check_id: &str) -> (Settled, Event) {
        let Self { grant, records } = self;
        let reason = format!(
            "Granted by {}: {} ({}, {records} of its {} records, until {}).",
            grant.given_by.name, grant.reason, grant.id, grant.max_records, grant.expires_at
        );
        let transition = Transition::Use { check_id: check_id.to_owned(), records };
        let used = Event::GrantChanged { id: grant.id, transition };
        (Settled { verdict: Verdict::Allow, reason, approval_id: None }, used)
    }
}

impl App {
    /// The grant that answers the hold of `asked`, the oldest first.
    pub(super) async fn granted(&self, asked: &Asked) -> Result<Granted, Error> {
        let mut notes = String::new();
        let mut said = 0;
        if asked.look.wants_a_person() {
            // Whoever gave a grant had the agent's normal work in mind.
            return Ok(Granted::Not(notes));
        }
        let facts = Facts::of(&asked.action, asked.check.details(), asked.at);
        for grant in self.store.open_grants(&asked.action.agent).await? {
            match grant.covers(&facts, &asked.blast_radius, asked.judgement.approvals) {
                Cover::Yes(records) => return Ok(Granted::By(Box::new(Covering { grant, records }))),
                Cover::No(why) if said < MAX_NOTES => {
                    said += 1;
                    let _infallible = write!(notes, " The grant {} does not cover it: {why}.", grant.id);
                }
                Cover::No(_) | Cover::Other => {}
            }
        }
        Ok(Granted::Not(notes))
    }

    /// Gives a grant.
    ///
    /// # Errors
    /// When the caller is an agent, the request makes no sense, or it could not be recorded.
    pub async fn give_grant(&self, caller: &Caller, new: NewGrant) -> Result<GrantView, Error> {
        caller.require(Role::Operator)?;
        let grant = self.grant_of(caller, new)?;
        self.append(vec![Event::GrantGiven(Box::new(grant.clone()))]).await?;
        Ok(self.grant_view(grant))
    }

    fn grant_of(&self, caller: &Caller, new: NewGrant) -> Result<Grant, Error> {
        let pattern =
            |field: &str, text: &str| Pattern::new(text).map_err(|e| Error::Invalid(format!("{field}: {e}")));
        let agent = Name::new(&new.agent).map_err(|e| Error::Invalid(format!("agent: {e}")))?;
        if agent.contains('*') {
            return Err(Error::Invalid(
                "agent: a grant is for one agent; name it without `*`, or give several".to_owned(),
            ));
        }
        for (field, number) in [("max_records", Some(new.max_records)), ("max_uses", new.max_uses)] {
            if number == Some(0) {
                return Err(Error::Invalid(format!(
                    "{field}: at least 1, or the grant lets nothing through"
                )));
            }
        }
        if new.reason.trim().is_empty() {
            return Err(Error::Invalid("reason: say why; it is shown with every use".to_owned()));
        }
        said("reason", &new.reason)?;
        let lasting = config::duration(&new.lasting).map_err(|e| Error::Invalid(format!("for: {e}")))?;
        let seconds = i64::try_from(lasting.as_secs()).unwrap_or(i64::MAX);
        if lasting < Duration::from_secs(1) || seconds > MAX_SECONDS {
            return Err(Error::Invalid(format!(
                "for: 1s to {}d; a grant is for a while, a policy is for good",
                MAX_SECONDS / 86_400
            )));
        }
        let given_at = self.clock.now();
        Ok(Grant {
            id: new_id("grt"),
            agent,
            action: pattern("action", &new.action)?,
            resource: pattern("resource", &new.resource)?,
            max_records: new.max_records,
            max_uses: new.max_uses,
            accept_declared: new.accept_declared,
            reason: new.reason,
            given_by: caller.actor(),
            given_at,
            expires_at: given_at.plus_seconds(seconds),
            state: State::Open,
            uses: 0,
            records: 0,
            last_used_by: None,
            last_used_at: None,
            revoked_by: None,
            revoked_at: None,
        })
    }

    /// A page of grants, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list_grants(&self, query: GrantQuery) -> Result<GrantPage, Error> {
        let limit = query.limit.unwrap_or(50).clamp(1, MAX_PAGE);
        let page = self.store.grants(query.filter, query.cursor, limit).await?;
        Ok(GrantPage {
            grants: page.rows.into_iter().map(|g| self.grant_view(g)).collect(),
            next_cursor: page.next.map(|seq| seq.to_string()),
        })
    }

    /// A grant.
    ///
    /// # Errors
    /// When there is none.
    pub async fn view_grant(&self, id: &str) -> Result<GrantView, Error> {
        self.store.grant(id).await?.map(|g| self.grant_view(g)).ok_or_else(|| missing(id))
    }

    /// Takes a grant back. What it let through before stays as it is.
    ///
    /// # Errors
    /// When the caller is an agent, there is no such grant, or it is over.
    pub async fn revoke_grant(&self, caller: &Caller, id: &str) -> Result<GrantView, Error> {
        caller.require(Role::Operator)?;
        let transition = Transition::Revoke { by: caller.actor() };
        let event = Event::GrantChanged { id: id.to_owned(), transition };
        match self.store.append(vec![event], self.clock.now()).await {
            Ok(_) => self.view_grant(id).await,
            Err(AppendError::NotFound(_)) => Err(missing(id)),
            Err(error) => Err(error.into()),
        }
    }

    /// Puts on record which grants have expired.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub(super) async fn expire_grants(&self) -> Result<(), Error> {
        for grant in self.store.due_grants(self.clock.now(), 1000).await? {
            let event = Event::GrantChanged { id: grant.id, transition: Transition::Expire };
            match self.append(vec![event]).await {
                // Revoked in the meantime: then it did not expire.
                Ok(()) | Err(Error::Grant(Refused::Over(_))) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn grant_view(&self, grant: Grant) -> GrantView {
        // One that is due and not yet marked has expired all the same.
        let late = grant.state == State::Open && self.clock.now() >= grant.expires_at;
        GrantView {
            state: if late { State::Expired } else { grant.state },
            id: grant.id,
            agent: grant.agent.to_string(),
            action: grant.action.to_string(),
            resource: grant.resource.to_string(),
            max_records: grant.max_records,
            records_used: grant.records,
            max_uses: grant.max_uses,
            uses: grant.uses,
            accept_declared: grant.accept_declared,
            reason: grant.reason,
            given_by: grant.given_by,
            given_at: grant.given_at,
            expires_at: grant.expires_at,
            last_used_by: grant.last_used_by,
            last_used_at: grant.last_used_at,
            revoked_by: grant.revoked_by,
            revoked_at: grant.revoked_at,
        }
    }
}

fn missing(id: &str) -> Error {
    Error::NotFound("grant", id.chars().take(64).collect())
}
