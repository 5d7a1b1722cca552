//! `/v1/signals`, `/v1/sinks`, `/v1/silences`

use super::{
    AdminKey, OperatorKey, Shared,
    body::{Json, Path, Query, pattern},
};
use crate::app::{Error, SignalQuery, to_the_end};
use axum::{Json as Answer, extract::State, http::StatusCode};
use checkrein_api::{
    NewSilence, Problem, Severity, SignalPage, SignalReplay, SignalReplayed, SilenceList, SilenceView,
    SinkList, SinkReport, Standing,
};
use checkrein_core::signal::Place;
use checkrein_store::SignalFilter;
use serde::Deserialize;

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// Only those of which a message stands there: `queued`, `delivered` or `dead`.
    status: Option<Standing>,
    /// Only those of which a message went to this sink.
    sink: Option<String>,
    /// Only those of this kind; a pattern such as `approval.*`.
    kind: Option<String>,
    /// Only those at least this bad.
    severity: Option<Severity>,
    /// Only this agent's.
    agent: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Signals a page, 1 to 500; 50 if absent.
    limit: Option<usize>,
}

/// List signals, newest first, with the messages that speak for them.
#[utoipa::path(get, path = "/v1/signals", tag = "signals", params(ListParams), responses(
    (status = 200, description = "A page", body = SignalPage),
    (status = 403, description = "Not with an agent's key", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(app): State<Shared>,
    _: OperatorKey,
    Query(params): Query<ListParams>,
) -> Result<Answer<SignalPage>, Error> {
    let cursor = params.cursor.map(|text| {
        let wrong = || Error::Invalid("cursor: take it from `next_cursor` of the page before".to_owned());
        Place::of(&text).ok_or_else(wrong)
    });
    let query = SignalQuery {
        filter: SignalFilter {
            kind: pattern("kind", params.kind.as_deref())?,
            severity: params.severity,
            agent: pattern("agent", params.agent.as_deref())?,
            sink: params.sink,
            standing: params.status,
        },
        cursor: cursor.transpose()?,
        limit: params.limit,
    };
    app.list_signals(query).await.map(Answer)
}

/// Send a signal again.
#[utoipa::path(post, path = "/v1/signals/{id}/replay", tag = "signals", params(("id" = String, Path, description = "`sig_…`")), request_body = SignalReplay, responses(
    (status = 202, description = "What waits for its sinks now", body = SignalReplayed),
    (status = 404, description = "No such signal or sink", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "No route leads it anywhere", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "Not with an agent's key", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn replay(
    State(app): State<Shared>,
    _: OperatorKey,
    Path(id): Path,
    Json(request): Json<SignalReplay>,
) -> Result<(StatusCode, Answer<SignalReplayed>), Error> {
    app.replay_signal(&id, request).await.map(|replayed| (StatusCode::ACCEPTED, Answer(replayed)))
}

/// List the sinks, and how they are.
#[utoipa::path(get, path = "/v1/sinks", tag = "signals", responses(
    (status = 200, description = "All of them", body = SinkList),
    (status = 403, description = "Not with an agent's key", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn sinks(State(app): State<Shared>, _: OperatorKey) -> Answer<SinkList> {
    Answer(app.list_sinks())
}

/// Send a harmless example of each kind to a sink, past the queue.
#[utoipa::path(post, path = "/v1/sinks/{name}/test", tag = "signals", params(("name" = String, Path, description = "The sink's name")), responses(
    (status = 200, description = "What arrived; `ok` says whether all did", body = SinkReport),
    (status = 404, description = "No such sink", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "Not with this key", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn test(
    State(app): State<Shared>,
    _: AdminKey,
    Path(name): Path,
) -> Result<Answer<SinkReport>, Error> {
    app.test_sink(&name).await.map(Answer)
}

/// List the silences.
#[utoipa::path(get, path = "/v1/silences", tag = "signals", responses(
    (status = 200, description = "All that are not over", body = SilenceList),
    (status = 403, description = "Not with an agent's key", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn silences(
    State(app): State<Shared>,
    _: OperatorKey,
) -> Result<Answer<SilenceList>, Error> {
    app.list_silences().await.map(Answer)
}

/// Keep signals back for a time.
///
/// Who wants it is told by the key. It goes on record.
#[utoipa::path(post, path = "/v1/silences", tag = "signals", request_body = NewSilence, responses(
    (status = 201, description = "The silence", body = SilenceView),
    (status = 403, description = "Not with an agent's key", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn silence(
    State(app): State<Shared>,
    OperatorKey(caller): OperatorKey,
    Json(new): Json<NewSilence>,
) -> Result<(StatusCode, Answer<SilenceView>), Error> {
    let made = to_the_end(async move { app.create_silence(&caller, new).await }).await?;
    Ok((StatusCode::CREATED, Answer(made)))
}

/// End a silence before its time.
#[utoipa::path(delete, path = "/v1/silences/{id}", tag = "signals", params(("id" = String, Path, description = "`sil_…`")), responses(
    (status = 204, description = "It is over"),
    (status = 404, description = "No such silence", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "It comes from the configuration", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "Not with an agent's key", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "No valid key", body = Problem, content_type = "application/problem+json"),
    (status = 400, description = "The request makes no sense", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn end_silence(
    State(app): State<Shared>,
    OperatorKey(caller): OperatorKey,
    Path(id): Path,
) -> Result<StatusCode, Error> {
    to_the_end(async move { app.end_silence(&caller, &id).await }).await.map(|()| StatusCode::NO_CONTENT)
}
