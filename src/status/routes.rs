//! What is answered at which path.

use actix_web::{
    HttpRequest, HttpResponse,
    guard::{self, GuardContext},
    http::{StatusCode, header},
    web::{self, Data, ServiceConfig},
};
use maud::Markup;
use tokio::sync::Semaphore;

use super::{Report, Window, api, keeping, live, lookup, metrics, page, report::PeerList, why};

/// What the pages may load and do: nothing but their own style and script, and the questions that they ask of this daemon.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// How the daemon names itself to those who ask whether it is well.
const SERVER: &str = concat!("apt-huddle/", env!("CARGO_PKG_VERSION"));

/// Questions that may go through the catalogue at once; further ones wait for their turn.
const QUESTIONS: usize = 1;

/// Who may go through the catalogue now.
pub(super) struct Turns(pub(super) Semaphore);

impl Default for Turns {
    fn default() -> Self {
        Self(Semaphore::new(QUESTIONS))
    }
}

/// Adds the pages to a server.
pub(super) fn add(config: &mut ServiceConfig) {
    let route = |handler: actix_web::Route| handler.guard(guard::fn_guard(names_this_host));
    config
        .route("/", route(web::get().to(home)))
        .route("/why", route(web::get().to(why_page)))
        .route("/why/{file:.+}", route(web::get().to(why_page_of)))
        .route("/live", route(web::get().to(live::live)))
        .route("/style.css", route(web::get().to(|| asset("text/css; charset=utf-8", page::STYLE))))
        .route("/live.js", route(web::get().to(|| asset("text/javascript; charset=utf-8", page::SCRIPT))))
        .route("/icon.svg", route(web::get().to(|| asset("image/svg+xml", page::ICON))))
        .route("/api/v1/status", route(web::get().to(status)))
        .route("/api/v1/peers", route(web::get().to(peers)))
        .route("/api/v1/why", route(web::get().to(why)))
        .route("/api/v1/lookup", route(web::get().to(look_up)))
        .route("/api/v1/openapi.json", route(web::get().to(|| asset("application/json", api::text()))))
        .route("/metrics", route(web::get().to(metrics)))
        .configure(keeping::pages)
        .route("/healthz", web::get().to(healthz));
}

/// A page of another site, resolved to this host by a trick of its DNS, must not read this one: only addresses and
/// `localhost` are taken for a name of it.
fn names_this_host(context: &GuardContext<'_>) -> bool {
    let host = context.head().headers().get(header::HOST);
    is_this_host(host.and_then(|host| host.to_str().ok()).unwrap_or_default())
}

/// Whether a `Host` is an address or `localhost`.
pub(super) fn is_this_host(host: &str) -> bool {
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
        .map_or(host, |(name, _)| name);
    name.eq_ignore_ascii_case("localhost") || name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok()
}

async fn home(window: Data<Window>) -> HttpResponse {
    let report = window.into_inner().look().await;
    html(StatusCode::OK, page::render(&report))
}

async fn why_page(request: HttpRequest, window: Data<Window>, turns: Data<Turns>) -> HttpResponse {
    match asked(&request).filter(|text| !text.trim().is_empty()) {
        Some(text) => explained(text, window, &turns).await,
        None => html(StatusCode::OK, why::page::render("", None)),
    }
}

async fn why_page_of(file: web::Path<String>, window: Data<Window>, turns: Data<Turns>) -> HttpResponse {
    explained(file.into_inner(), window, &turns).await
}

async fn explained(text: String, window: Data<Window>, turns: &Turns) -> HttpResponse {
    let answer = window.into_inner().explain(text.clone(), turns).await;
    let status = answer.as_ref().map_or_else(why::NoAnswer::status, |_| StatusCode::OK);
    html(status, why::page::render(&text, Some(&answer)))
}

/// What the daemon does.
#[utoipa::path(get, path = "/api/v1/status", tag = "daemon", responses((status = 200, description = "The daemon at this moment.", body = Report)))]
async fn status(window: Data<Window>) -> HttpResponse {
    json(window.into_inner().look().await)
}

/// Who is there.
#[utoipa::path(get, path = "/api/v1/peers", tag = "daemon", responses((status = 200, description = "The peers at this moment.", body = PeerList)))]
async fn peers(window: Data<Window>) -> HttpResponse {
    json(PeerList::of(&window))
}

async fn metrics(window: Data<Window>) -> HttpResponse {
    let report = window.into_inner().look().await;
    HttpResponse::Ok()
        .content_type(metrics::CONTENT_TYPE)
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(metrics::text(&report))
}

/// On what a file's hash hangs.
#[utoipa::path(
    get,
    path = "/api/v1/why",
    tag = "daemon",
    params(("q" = String, Query, description = "A path in a repository, a URL, a file name, a package (hello, hello:amd64, hello=2.10-3), or a SHA-256.")),
    responses(
        (status = 200, description = "What vouches for it, or why nothing does.", body = why::Answer),
        (status = 400, description = "The question cannot be read.", body = why::Trouble),
        (status = 500, description = "The catalogue cannot be read.", body = why::Trouble),
    ),
)]
async fn why(request: HttpRequest, window: Data<Window>, turns: Data<Turns>) -> HttpResponse {
    let text = asked(&request).unwrap_or_default();
    match window.into_inner().explain(text, &turns).await {
        Ok(answer) => json(answer),
        Err(error) => HttpResponse::build(error.status())
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .json(why::Trouble { error: error.to_string() }),
    }
}

/// Who has a file. Strangers are asked, so that it is only done for what apt could ask for as well.
#[utoipa::path(
    get,
    path = "/api/v1/lookup",
    tag = "daemon",
    params(("q" = String, Query, description = "The SHA-256 of the file, in 64 hexadecimal digits.")),
    responses(
        (status = 200, description = "Who says that they have it.", body = lookup::Answer),
        (status = 400, description = "That is no SHA-256.", body = why::Trouble),
        (status = 503, description = "The catalogue cannot be read.", body = why::Trouble),
    ),
)]
async fn look_up(request: HttpRequest, window: Data<Window>, turns: Data<Turns>) -> HttpResponse {
    let trouble = |status: StatusCode, error: String| {
        let mut answer = HttpResponse::build(status);
        answer.insert_header((header::CACHE_CONTROL, "no-store")).json(why::Trouble { error })
    };
    let Some(hash) = asked(&request).and_then(|text| text.trim().parse().ok()) else {
        return trouble(StatusCode::BAD_REQUEST, "expected the 64 hexadecimal digits of a SHA-256".to_owned());
    };
    let _turn = turns.0.acquire().await.expect("never closed");
    match lookup::Answer::of(&window, hash).await {
        Ok(answer) => json(answer),
        Err(error) => trouble(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    }
}

/// The value of `q` in the query.
fn asked(request: &HttpRequest) -> Option<String> {
    let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string()).ok()?.into_inner();
    pairs.into_iter().find(|(name, _)| name == "q").map(|(_, value)| value)
}

fn json(answer: impl serde::Serialize) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .json(answer)
}

async fn asset(content_type: &'static str, text: impl Into<String>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(content_type)
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .body(text.into())
}

fn html(status: StatusCode, markup: Markup) -> HttpResponse {
    HttpResponse::build(status)
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .body(markup.into_string())
}

/// Says that this is apt-huddle too: what asks before apt is led here must not take another program for it.
async fn healthz() -> HttpResponse {
    HttpResponse::Ok().insert_header((header::SERVER, SERVER)).body("ok\n")
}
