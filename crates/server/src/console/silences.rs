//! Silences: what is kept back from sinks for a time, keeping it back, and ending that.

use super::{
    Here,
    page::{self, Frame},
    request::{self, Form, Sent, Visitor},
    session::Session,
    text::{Moment, moment},
};
use crate::{
    app::{App, Error},
    config,
};
use askama::{Template, filters::Safe};
use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse as _, Redirect, Response},
};
use checkrein_api::{Matcher, NewSilence, Severity, SilenceView};
use checkrein_core::name::Pattern;

const SEVERITIES: [Severity; 4] = [Severity::Info, Severity::Notice, Severity::Warning, Severity::Critical];

struct Line {
    id: String,
    about: String,
    owner: String,
    comment: String,
    from: Safe<Moment>,
    until: Safe<Moment>,
    /// Made by somebody, and not by the configuration.
    ours: bool,
}

fn line(silence: SilenceView) -> Line {
    Line {
        about: about(&silence.matcher),
        ours: !silence.id.starts_with("sil_config_"),
        id: silence.id,
        owner: silence.owner,
        comment: silence.comment,
        from: moment(silence.from),
        until: moment(silence.until),
    }
}

/// What is kept back, in words.
fn about(matcher: &Matcher) -> String {
    let kinds: Vec<String> = matcher.kinds.iter().map(ToString::to_string).collect();
    let mut parts = vec![if kinds.is_empty() { "everything".to_owned() } else { kinds.join(", ") }];
    let mut add =
        |words: &str, what: Option<String>| parts.extend(what.map(|what| format!("{words} {what}")));
    add("of", matcher.agent.as_ref().map(ToString::to_string));
    add("in", matcher.environment.map(|environment| environment.as_str().to_owned()));
    add("by the policy", matcher.policy.as_ref().map(ToString::to_string));
    add("from severity", matcher.severity_at_least.map(|severity| severity.as_str().to_owned()));
    add("up to severity", matcher.severity_at_most.map(|severity| severity.as_str().to_owned()));
    parts.join(" ")
}

/// The fields of the form, as they were sent.
#[derive(Default)]
struct Wanted {
    kinds: String,
    agent: String,
    policy: String,
    severity: String,
    lasting: String,
    comment: String,
}

impl Wanted {
    fn of(form: &Form) -> Self {
        let field = |name: &str| form.get(name).trim().to_owned();
        Self {
            kinds: field("kinds"),
            agent: field("agent"),
            policy: field("policy"),
            severity: field("severity"),
            lasting: field("for"),
            comment: field("comment"),
        }
    }

    /// Each severity, and whether it is the one chosen.
    fn severities(&self) -> impl Iterator<Item = (&'static str, bool)> {
        SEVERITIES.into_iter().map(|s| (s.as_str(), s.as_str() == self.severity))
    }

    fn silence(&self, app: &App) -> Result<NewSilence, Error> {
        let kinds = self.kinds.split([',', ' ']).filter(|kind| !kind.is_empty());
        let kinds = kinds.map(|kind| Pattern::new(kind).map_err(|e| Error::Invalid(format!("kinds: {e}"))));
        let lasting = config::duration(&self.lasting).map_err(|e| Error::Invalid(format!("for: {e}")))?;
        let seconds = i64::try_from(lasting.as_secs()).unwrap_or(i64::MAX);
        Ok(NewSilence {
            matcher: Matcher {
                kinds: kinds.collect::<Result<_, _>>()?,
                agent: request::pattern("agent", &self.agent)?,
                policy: request::pattern("policy", &self.policy)?,
                severity_at_most: SEVERITIES.into_iter().find(|s| s.as_str() == self.severity),
                ..Matcher::default()
            },
            until: app.now().plus_seconds(seconds),
            comment: self.comment.clone(),
        })
    }
}

#[derive(Template)]
#[template(path = "silences.html")]
struct SilencesPage {
    frame: Frame,
    lines: Vec<Line>,
    wanted: Wanted,
    /// Why what was just asked for was not done.
    problem: Option<String>,
}

async fn one(
    app: &App,
    session: &Session,
    wanted: Wanted,
    problem: Option<(StatusCode, String)>,
) -> Result<Response, Error> {
    let status = problem.as_ref().map_or(StatusCode::OK, |(status, _)| *status);
    let page = SilencesPage {
        frame: Frame::of(session, "sinks", "Silences"),
        lines: app.list_silences().await?.silences.into_iter().map(line).collect(),
        wanted,
        problem: problem.map(|(_, why)| why),
    };
    Ok(page::send_with(status, &page))
}

pub(super) async fn list(State(here): State<Here>, Visitor(session): Visitor) -> Result<Response, Error> {
    let wanted = Wanted { lasting: "1h".to_owned(), ..Wanted::default() };
    one(&here.app, &session, wanted, None).await
}

/// Keeps signals back.
pub(super) async fn add(State(here): State<Here>, Sent { by, form }: Sent) -> Result<Response, Error> {
    let wanted = Wanted::of(&form);
    let made = match wanted.silence(&here.app) {
        Ok(silence) => here.app.create_silence(&by.caller, silence).await,
        Err(error) => Err(error),
    };
    match made {
        Ok(_) => Ok(Redirect::to("/silences").into_response()),
        Err(error @ Error::Invalid(_)) => {
            one(&here.app, &by, wanted, Some((StatusCode::BAD_REQUEST, error.to_string()))).await
        }
        Err(error) => Err(error),
    }
}

/// Ends a silence before its time.
pub(super) async fn end(
    State(here): State<Here>,
    Path(id): Path<String>,
    Sent { by, .. }: Sent,
) -> Result<Response, Error> {
    here.app.end_silence(&by.caller, &id).await?;
    Ok(Redirect::to("/silences").into_response())
}
