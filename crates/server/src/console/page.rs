//! What every page has around it, and how one is sent.

use super::{
    assets,
    session::Session,
    text::{Moment, moment},
};
use crate::{
    app::{App, Error},
    http::Draft,
};
use askama::{Template, filters::Safe};
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};

/// The frame of a page.
pub(super) struct Frame {
    /// Its title.
    pub(super) title: String,
    /// The part of the console that it belongs to, as in the address.
    pub(super) section: &'static str,
    /// Who is signed in.
    pub(super) person: Option<Person>,
    pub(super) css: &'static str,
    pub(super) js: &'static str,
}

/// Who looks at a page.
pub(super) struct Person {
    pub(super) name: String,
    pub(super) role: &'static str,
    /// For the forms.
    pub(super) token: String,
}

impl Frame {
    /// A page for whoever is signed in.
    pub(super) fn of(session: &Session, section: &'static str, title: impl Into<String>) -> Self {
        let actor = session.caller.actor();
        let person = Person { name: actor.name, role: actor.role.as_str(), token: session.token.clone() };
        Self { person: Some(person), ..Self::open(section, title) }
    }

    /// A page for everybody.
    pub(super) fn open(section: &'static str, title: impl Into<String>) -> Self {
        Self { title: title.into(), section, person: None, css: assets::css(), js: assets::js() }
    }

    /// For the forms of the page.
    pub(super) fn token(&self) -> &str {
        self.person.as_ref().map_or("", |person| &person.token)
    }
}

/// Where a list that looks back through the log goes on.
pub(super) struct Earlier {
    /// `?…`.
    pub(super) link: String,
    /// How far was looked, where that found less than a page.
    pub(super) searched: Option<Safe<Moment>>,
    /// It found nothing at all.
    pub(super) nothing: bool,
}

impl Earlier {
    /// After a page of `lines` of at most `room`, whose next begins before the entry `cursor`.
    pub(super) async fn of(
        app: &App,
        cursor: Option<String>,
        (lines, room): (usize, usize),
        link: impl FnOnce(&str) -> String,
    ) -> Result<Option<Self>, Error> {
        let Some(cursor) = cursor else { return Ok(None) };
        let searched = match cursor.parse() {
            Ok(seq) if lines < room => app.store().entry(seq).await?.map(|entry| moment(entry.at)),
            _ => None,
        };
        Ok(Some(Self { link: link(&cursor), searched, nothing: lines == 0 }))
    }
}

/// Sends `page`.
pub(super) fn send(page: &impl Template) -> Response {
    send_with(StatusCode::OK, page)
}

/// Sends `page` with another status.
pub(super) fn send_with(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page could not be written");
            (StatusCode::INTERNAL_SERVER_ERROR, "this page could not be written; the server's log says why")
                .into_response()
        }
    }
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage {
    frame: Frame,
    status: u16,
    detail: String,
    errors: Vec<checkrein_api::ProblemItem>,
}

/// An error on its way out, as a page.
pub(super) fn of_error(mut response: Response) -> Response {
    let Some(draft) = response.extensions_mut().remove::<Draft>() else { return response };
    let status = draft.status();
    let page = ErrorPage {
        frame: Frame::open("", draft.title()),
        status: status.as_u16(),
        detail: draft.detail().to_owned(),
        errors: draft.errors().to_vec(),
    };
    let mut response = send_with(status, &page);
    if let Some(seconds) = draft.retry_after_seconds() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The parts of the console: as in [`Frame::section`], as people call it, where it is.
pub(super) const SECTIONS: &[(&str, &str, &str)] = &[
    ("now", "Now", "/"),
    ("approvals", "Approvals", "/approvals"),
    ("actions", "Actions", "/actions"),
    ("agents", "Agents", "/agents"),
    ("policies", "Policies", "/policies"),
    ("snapshots", "Snapshots", "/snapshots"),
    ("sinks", "Sinks", "/sinks"),
    ("log", "Log", "/log"),
];
