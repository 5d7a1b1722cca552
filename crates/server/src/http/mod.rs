//! The HTTP API: translates between requests and [`App`], and decides nothing.

mod agents;
mod approvals;
pub(crate) mod body;
mod breakers;
mod checks;
mod executions;
mod grants;
mod hooks;
mod keys;
mod links;
mod listen;
mod places;
mod policies;
mod problem;
mod signals;
mod snapshots;
mod stream;
mod system;
mod targets;

pub use listen::Tls;
pub(crate) use problem::Draft;

use crate::{
    app::{App, Caller, Error},
    console,
};
use axum::{
    Router,
    extract::{FromRequestParts, Request},
    handler::Handler as _,
    http::{HeaderValue, Method, Uri, header, request::Parts},
    response::Response,
};
use checkrein_core::{fingerprint::hex, key::Role};
use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicU64, Ordering},
};
use tokio::net::TcpListener;
use tower::Service as _;
use utoipa::OpenApi as _;
use utoipa_axum::{router::OpenApiRouter, routes};

/// Shared by all handlers.
pub(crate) type Shared = Arc<App>;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Checkrein",
        description = "The checkpoint that every action of an AI agent passes before it runs. Every request but those \
                       to `/healthz`, `/readyz`, `/metrics`, `/openapi.json`, `/approve/…` and `/v1/hooks/slack` needs a key: `Authorization: Bearer ck_…`. \
                       Errors are RFC 9457 problem documents.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    modifiers(&KeyScheme),
    security(("key" = [])),
    components(schemas(checkrein_api::Problem))
)]
struct ApiDoc;

struct KeyScheme;

impl utoipa::Modify for KeyScheme {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
        let scheme =
            HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("A key: `ck_…`")).build();
        openapi.components.get_or_insert_default().add_security_scheme("key", SecurityScheme::Http(scheme));
    }
}

fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(ApiDoc::openapi())
        .routes(routes!(checks::create, checks::list))
        .routes(routes!(checks::show))
        .routes(routes!(checks::outcome))
        .routes(routes!(checks::withdraw))
        .routes(routes!(executions::create))
        .routes(routes!(snapshots::list, snapshots::create))
        .routes(routes!(snapshots::show))
        .routes(routes!(snapshots::seal))
        .routes(routes!(snapshots::rollback))
        .routes(routes!(snapshots::export))
        .routes(routes!(policies::list, policies::create, policies::apply))
        .routes(routes!(policies::show, policies::replace, policies::delete))
        .routes(routes!(policies::replay))
        .routes(routes!(approvals::list))
        .routes(routes!(approvals::show))
        .routes(routes!(approvals::sample))
        .routes(routes!(approvals::decide))
        .routes(routes!(agents::list))
        .routes(routes!(agents::show))
        .routes(routes!(agents::accept))
        .routes(routes!(agents::rebuild))
        .routes(routes!(breakers::list))
        .routes(routes!(breakers::show, breakers::set))
        .routes(routes!(breakers::set_of_agent))
        .routes(routes!(approvals::comment))
        .routes(routes!(approvals::link))
        .routes(routes!(links::show, links::answer))
        .routes(routes!(grants::list, grants::create))
        .routes(routes!(grants::show, grants::revoke))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::revoke))
        .routes(routes!(signals::list))
        .routes(routes!(signals::replay))
        .routes(routes!(signals::sinks))
        .routes(routes!(signals::test))
        .routes(routes!(signals::silences, signals::silence))
        .routes(routes!(signals::end_silence))
        .routes(routes!(targets::list))
        .routes(routes!(targets::test))
        .routes(routes!(hooks::claude_code::hook))
        .routes(routes!(hooks::litellm::guardrail))
        .routes(routes!(hooks::slack::click))
        .routes(routes!(stream::stream))
        .routes(routes!(system::healthz))
        .routes(routes!(system::readyz))
        .routes(routes!(system::metrics))
        .routes(routes!(system::openapi))
}

/// The description of the API.
pub(crate) fn openapi() -> utoipa::openapi::OpenApi {
    routes().split_for_parts().1
}

/// Everything under `/`.
#[derive(Clone)]
pub struct Api {
    app: Shared,
    router: Router,
}

impl Api {
    /// What `app` answers with.
    pub fn new(app: Arc<App>) -> Self {
        let (router, _) = routes().split_for_parts();
        let router = router
            .merge(console::router(Arc::clone(&app)).with_state(()))
            .fallback(async |uri: Uri| Error::NotFound("address", uri.path().chars().take(128).collect()))
            .method_not_allowed_fallback(async || problem::MethodNotAllowed)
            .with_state(Arc::clone(&app));
        Self { app, router }
    }

    /// Answers a request. A check goes to its handler at once: finding the way there and back costs a tenth of it.
    pub async fn answer(self, request: Request) -> Response {
        let Self { app, mut router } = self;
        let response = if request.method() == Method::POST && request.uri().path() == "/v1/checks" {
            checks::create.call(request, Arc::clone(&app)).await
        } else {
            router.call(request).await.unwrap_or_else(|never| match never {})
        };
        finish(&app, response)
    }
}

impl listen::Answer for Api {
    fn answer(self, request: Request) -> impl Future<Output = Response> + Send + 'static {
        Self::answer(self, request)
    }
}

/// Serves `app` on at most `connections` at a time until it is stopping, then answers what is under way, for at most ten
/// seconds.
pub async fn serve(listener: TcpListener, tls: Option<Tls>, app: Arc<App>, connections: usize) {
    let stop = app.stopping();
    listen::serve(listener, tls, Api::new(app), connections, stop).await;
}

/// Gives every answer its request id, and every error its document.
fn finish(app: &App, mut response: Response) -> Response {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    static PREFIX: LazyLock<String> = LazyLock::new(|| format!("req_{:x}_", std::process::id()));
    let number = hex(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    let id = [PREFIX.as_str(), number.trim_start_matches('0')].concat();
    if let Some(draft) = response.extensions_mut().remove::<Draft>() {
        app.metrics().refused.inc();
        response = draft.into_response(&id);
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::try_from(id) {
        headers.insert("x-request-id", value);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Whoever holds the key of the request.
pub(crate) struct AnyKey(pub(crate) Arc<Caller>);
/// An operator or admin.
pub(crate) struct OperatorKey(pub(crate) Arc<Caller>);
/// An admin.
pub(crate) struct AdminKey(pub(crate) Arc<Caller>);

fn caller(parts: &Parts, app: &App, role: Role) -> Result<Arc<Caller>, Error> {
    let missing = Error::Unauthenticated(
        "no key came with this: set CHECKREIN_API_KEY, or send it as `Authorization: Bearer ck_…`",
    );
    let Some(header) = parts.headers.get(header::AUTHORIZATION) else { return Err(missing) };
    let key = header
        .to_str()
        .ok()
        .and_then(|h| h.split_once(' '))
        .filter(|(s, _)| s.eq_ignore_ascii_case("bearer"));
    let Some((_, key)) = key else { return Err(missing) };
    let caller = app.caller(key.trim())?;
    caller.require(role)?;
    within_bytes(parts, app, &caller)?;
    Ok(caller)
}

/// Counts what the request carries.
fn within_bytes(parts: &Parts, app: &App, caller: &Caller) -> Result<(), Error> {
    let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|l| l.to_str().ok()?.parse().ok());
    // What does not say how long it is may be as long as a body can be.
    let unsaid = || (!parts.method.is_safe()).then_some(app.body_limit() as u64);
    caller.within_bytes(length.or_else(unsaid).unwrap_or(0))
}

macro_rules! extract_key {
    ($name:ident, $role:expr) => {
        impl FromRequestParts<Shared> for $name {
            type Rejection = Error;
            async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Error> {
                caller(parts, app, $role).map(Self)
            }
        }
    };
}
extract_key!(AnyKey, Role::Agent);
extract_key!(OperatorKey, Role::Operator);
extract_key!(AdminKey, Role::Admin);
