//! Keeping: what may be seen and decided of the files held, over the local API.
//!
//! ```text
//!  GET  /api/v1/objects                        all that is held                      -> Objects
//!  POST /api/v1/pin?q=TEXT, /api/v1/unpin      keeps it whatever room is needed      -> Objects
//!  POST /api/v1/gc[?dry_run]                   gives up what is superseded           -> Rubbish
//!  POST /api/v1/verify[?after=SHA256][&repair] hashes the objects behind that one    -> Checked
//!  POST /api/v1/import?path=PATH&...[&private] takes in files of this host           -> Taken
//! ```
//!
//! A verification and an import go on as long as their caller asks for more: each request does some of it and says where it
//! stands, so that nothing has to be stopped or remembered here. Paths come in the query, since the door takes no bodies.
//!
//! **Security.** All of these change what the daemon holds, or read files of this host. They are for programs on this host
//! alone: the client's address is loopback, and no page of another site sent the request (`Origin` says which one did; a
//! browser sends it along with every `POST`).

use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web::{self, Data, ServiceConfig},
};
use serde::{Deserialize, Serialize};

use crate::{
    archive::{Location, Repository},
    flow::{Answer, Ask},
    hash::ContentHash,
    mirror::header::HeaderMap,
    store::{self, Chosen, How, Imported, Item, Role, Store, StoreError, Unvouched},
};

use super::{Window, routes::is_this_host, why::Trouble};

/// Bytes hashed for one request.
const PART: u64 = 64 << 20;
/// Paths of one import.
pub const PATHS_MAX: usize = 64;

/// Files held.
#[derive(Debug, Serialize, Deserialize)]
pub struct Objects {
    /// Those that would go first before others.
    pub objects: Vec<Object>,
}

/// A file held.
#[derive(Debug, Serialize, Deserialize)]
pub struct Object {
    /// Its digest.
    pub sha256: String,
    /// Its length in bytes.
    pub size: u64,
    /// What it is to its archive.
    pub role: Role,
    /// Whether it stays whatever room is needed.
    pub pinned: bool,
    /// Whether it was hashed since it was found.
    pub proven: bool,
    /// How many uses of other files came after its last one.
    pub unused_for: u64,
    /// Where it was fetched from.
    pub repository: Option<String>,
    /// Its path there.
    pub path: Option<String>,
}

/// What was given up, or would be.
#[derive(Debug, Serialize, Deserialize)]
pub struct Rubbish {
    /// Superseded files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Interrupted downloads.
    pub leftovers: usize,
    /// Bytes of what they left.
    pub left: u64,
}

/// Part of a verification.
#[derive(Debug, Serialize, Deserialize)]
pub struct Checked {
    /// Files hashed.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Files that turned out damaged, and are set aside.
    pub damaged: Vec<Damage>,
    /// Where to go on; nothing at the end.
    pub last: Option<String>,
    /// Files held in all.
    pub of_files: usize,
    /// Their bytes.
    pub of_bytes: u64,
}

/// A damaged file.
#[derive(Debug, Serialize, Deserialize)]
pub struct Damage {
    /// Its digest.
    pub sha256: String,
    /// Where it was fetched from.
    pub from: Option<String>,
    /// Whether it is held again.
    pub repaired: bool,
}

/// What became of the files of an import, in their order.
#[derive(Debug, Serialize, Deserialize)]
pub struct Taken {
    /// One for each path.
    pub files: Vec<Imported>,
}

/// What became of a file that was imported.
pub fn became(file: Imported) -> String {
    let how = |how| match how {
        How::Cloned => "cloned",
        How::Linked => "linked",
        How::Copied => "copied",
    };
    match file {
        Imported::Held => "held already".to_owned(),
        Imported::Kept(by) => format!("kept, {}", how(by)),
        Imported::Private(by) => format!("kept as private, {}", how(by)),
        Imported::Unvouched => "left out: no signed index names them".to_owned(),
        Imported::NoFile => "left out: no plain files".to_owned(),
        Imported::Unreadable => "left out: the daemon may not read them".to_owned(),
        Imported::Full => "left out: there is no room".to_owned(),
        Imported::Changed => "left out: they were written to meanwhile".to_owned(),
    }
}

/// Adds the questions to a server.
pub(super) fn pages(config: &mut ServiceConfig) {
    config
        .route("/api/v1/objects", web::get().to(objects))
        .route("/api/v1/pin", web::post().to(pin))
        .route("/api/v1/unpin", web::post().to(unpin))
        .route("/api/v1/gc", web::post().to(collect))
        .route("/api/v1/verify", web::post().to(verify))
        .route("/api/v1/import", web::post().to(import));
}

/// Why a question is not answered.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("only programs on this host may ask for this")]
    Foreign,
    #[error("{0}")]
    Question(&'static str),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl actix_web::ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Foreign => StatusCode::FORBIDDEN,
            Self::Question(_) => StatusCode::BAD_REQUEST,
            Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn error_response(&self) -> HttpResponse {
        answer(self.status_code(), Trouble { error: self.to_string() })
    }
}

type Result<T> = std::result::Result<T, Refusal>;

fn answer(status: StatusCode, body: impl Serialize) -> HttpResponse {
    HttpResponse::build(status).insert_header((header::CACHE_CONTROL, "no-store")).json(body)
}

/// Whether a program on this host sent it, and no page of another site made it do so.
fn admit(request: &HttpRequest) -> Result<()> {
    let field = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let is_local = request.peer_addr().is_some_and(|client| client.ip().to_canonical().is_loopback());
    let is_named = is_this_host(field(header::HOST).unwrap_or_default());
    let is_own = match (request.headers().contains_key(header::ORIGIN), field(header::ORIGIN), field(header::HOST)) {
        (false, ..) => true,
        (true, Some(origin), Some(host)) => origin.strip_prefix("http://") == Some(host),
        (true, ..) => false,
    };
    if is_local && is_named && is_own { Ok(()) } else { Err(Refusal::Foreign) }
}

/// The value of a key in the query; empty for one without.
fn asked(request: &HttpRequest, name: &str) -> Option<String> {
    let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string()).ok()?.into_inner();
    pairs.into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

/// Runs a question to the store where it may block.
async fn in_store<T: Send + 'static>(
    window: &Window,
    question: impl FnOnce(&Store) -> std::result::Result<T, StoreError> + Send + 'static,
) -> Result<T> {
    let store = window.store.clone();
    Ok(tokio::task::spawn_blocking(move || question(&store)).await.expect("the store does not panic")?)
}

async fn objects(request: HttpRequest, window: Data<Window>) -> Result<HttpResponse> {
    admit(&request)?;
    let items = in_store(&window, Store::list).await?;
    Ok(answer(StatusCode::OK, Objects { objects: items.into_iter().map(object).collect() }))
}

async fn pin(request: HttpRequest, window: Data<Window>) -> Result<HttpResponse> {
    set_pinned(&request, &window, true).await
}

async fn unpin(request: HttpRequest, window: Data<Window>) -> Result<HttpResponse> {
    set_pinned(&request, &window, false).await
}

async fn set_pinned(request: &HttpRequest, window: &Window, pinned: bool) -> Result<HttpResponse> {
    admit(request)?;
    let text = asked(request, "q").filter(|text| !text.trim().is_empty());
    let text = text.ok_or(Refusal::Question("expected a SHA-256, a path or a package"))?;
    let set = move |store: &Store| store.set_pinned(Chosen::parse(&text).expect("there is something"), pinned);
    let items = in_store(window, set).await?;
    Ok(answer(StatusCode::OK, Objects { objects: items.into_iter().map(object).collect() }))
}

async fn collect(request: HttpRequest, window: Data<Window>) -> Result<HttpResponse> {
    admit(&request)?;
    let dry_run = asked(&request, "dry_run").is_some();
    let store::Collected { files, bytes, leftovers, left } =
        in_store(&window, move |store| store.collect(dry_run)).await?;
    Ok(answer(StatusCode::OK, Rubbish { files, bytes, leftovers, left }))
}

async fn verify(request: HttpRequest, window: Data<Window>) -> Result<HttpResponse> {
    admit(&request)?;
    let after = asked(&request, "after").map(|text| text.parse::<ContentHash>()).transpose();
    let after = after.map_err(|_| Refusal::Question("expected the 64 hexadecimal digits of a SHA-256"))?;
    let repair = asked(&request, "repair").is_some();
    let checked = in_store(&window, move |store| store.verify(after, PART)).await?;
    let mut damaged = Vec::new();
    for store::Damaged { file, from } in checked.damaged {
        let repaired = match &from {
            Some((repository, path)) if repair => bring_again(&window, repository, path, file.hash).await,
            _ => false,
        };
        let from = from.map(|(repository, path)| format!("{repository}/{path}"));
        damaged.push(Damage { sha256: file.hash.to_string(), from, repaired });
    }
    let held = in_store(&window, |store| Ok(store.snapshot())).await?;
    Ok(answer(
        StatusCode::OK,
        Checked {
            files: checked.files,
            bytes: checked.bytes,
            damaged,
            last: checked.last.map(|last| last.to_string()),
            of_files: held.objects,
            of_bytes: held.bytes,
        },
    ))
}

/// Asks for a file as apt would, and says whether it is held then.
async fn bring_again(window: &Window, repository: &Repository, path: &str, hash: ContentHash) -> bool {
    // A repository is known by its name alone, whichever way it is reached.
    for scheme in ["http", "https"] {
        let Ok(location) = Location::parse(&format!("{scheme}://{repository}/{path}")) else { continue };
        let ask = Ask { location, is_local: true, head_only: false, headers: HeaderMap::default() };
        let is_there = match window.flow.serve(ask).await {
            Answer::Held(blob) => blob.expected.hash == hash,
            Answer::Growing(mut growing) => growing.expected().hash == hash && growing.kept().await.is_ok(),
            Answer::Whole { .. } | Answer::Passed { .. } | Answer::Refused { .. } => false,
        };
        if is_there {
            return true;
        }
    }
    false
}

async fn import(request: HttpRequest, window: Data<Window>) -> Result<HttpResponse> {
    admit(&request)?;
    let is_private = asked(&request, "private").is_some();
    let unvouched = if is_private { Unvouched::Private } else { Unvouched::Refused };
    // A path need not be text.
    let paths = request.query_string().split('&').filter_map(|pair| pair.strip_prefix("path="));
    let paths = paths.map(|path| percent_encoding::percent_decode_str(path).collect());
    let paths: Vec<_> = paths.map(|path| PathBuf::from(OsString::from_vec(path))).collect();
    if paths.len() > PATHS_MAX || paths.iter().any(|path| path.is_relative()) {
        return Err(Refusal::Question("expected a few absolute paths"));
    }
    let take = move |store: &Store| paths.iter().map(|path| store.import(path, unvouched)).collect();
    Ok(answer(StatusCode::OK, Taken { files: in_store(&window, take).await? }))
}

fn object(item: Item) -> Object {
    let (repository, path) = item.from.map(|(repository, path)| (repository.to_string(), path)).unzip();
    Object {
        sha256: item.file.hash.to_string(),
        size: item.file.size,
        role: item.role,
        pinned: item.pinned,
        proven: item.proven,
        unused_for: item.unused_for,
        repository,
        path,
    }
}
