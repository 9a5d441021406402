//! The server's side of the control API.

use std::{
    fs, io,
    os::unix::{fs::MetadataExt, net as unix},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{FromRequest, FromRequestParts, Query, Request, State},
    http::{Method, StatusCode, Uri, header::CONTENT_TYPE, request::Parts},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::stream;
use rustix::{fs::Mode, net::sockopt, process::umask};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{
    net::UnixListener,
    sync::{Mutex, broadcast::error::RecvError},
};
use tracing::{debug, error};

use super::{
    explanation::ExplainRequest,
    live::LiveRequest,
    mdb::MdbRequest,
    model::{ApiError, Flushed, Happening, Reloaded, Status},
    request::{BridgeQuery, FdbKey, FlushRequest, NameQuery, NeighKey},
};
use crate::{
    control::{
        config::{Config, ConfigErrors},
        switch::{ExplainError, RuntimeError, Switch},
    },
    isolation,
    sys::{opener, users::Identity},
};

/// What every request can reach.
#[derive(Clone)]
pub struct Api {
    /// The switch.
    pub switch: Arc<Mutex<Switch>>,
    /// The file that a reload reads.
    pub config: PathBuf,
    /// When weft started.
    pub started: Instant,
}

/// Why the control socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another weft answers there.
    #[error("{path} belongs to a weft that runs already{}", pid.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    Taken {
        /// The socket.
        path: PathBuf,
        /// The process at the other end, if the kernel says so.
        pid: Option<i32>,
    },
    /// Something that is no socket is in the way.
    #[error("{0} exists and is no socket")]
    NotASocket(PathBuf),
    /// The kernel says no.
    #[error("can't listen at {path}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The control socket, owned: its file goes when this does.
pub struct ControlSocket {
    listener: Option<unix::UnixListener>,
    path: PathBuf,
    inode: u64,
}

impl ControlSocket {
    /// Listens at `path`, for the own user only (mode 0600). The file of a weft that was killed is taken over.
    ///
    /// # Errors
    /// See [`SocketError`].
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let failed = |source| SocketError::Io { path: path.to_owned(), source };
        if let Some(directory) = path.parent()
            && directory == Path::new("/run/weft")
        {
            fs::create_dir_all(directory).map_err(failed)?;
        }
        make_way(path)?;
        let before = umask(Mode::from_raw_mode(0o177));
        let bound = unix::UnixListener::bind(path);
        umask(before);
        let listener = bound.map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let inode = fs::metadata(path).map_err(failed)?.ino();
        Ok(Self { listener: Some(listener), path: path.to_owned(), inode })
    }

    /// Makes it another user's, for whom alone it is then, and root.
    ///
    /// # Errors
    /// Needs CAP_CHOWN.
    pub fn give_to(&self, user: &Identity) -> Result<(), SocketError> {
        let failed = |source| SocketError::Io { path: self.path.clone(), source };
        std::os::unix::fs::lchown(&self.path, Some(user.uid()), Some(user.gid())).map_err(failed)
    }

    /// Answers requests until the runtime ends. To be called inside of it.
    pub async fn serve(&mut self, api: Api) -> io::Result<()> {
        match self.listener.take() {
            Some(listener) => axum::serve(UnixListener::from_std(listener)?, router(api)).await,
            None => Ok(()),
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let is_ours = fs::metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode);
        if is_ours && let Err(error) = opener::remove_socket(&self.path) {
            debug!(%error, path = %self.path.display(), "can't remove the control socket");
        }
    }
}

/// Removes the socket file of a weft that is no more; refuses if there is one that answers.
fn make_way(path: &Path) -> Result<(), SocketError> {
    match unix::UnixStream::connect(path) {
        Ok(stream) => {
            let pid = sockopt::socket_peercred(&stream).ok().map(|peer| peer.pid.as_raw_nonzero().get());
            Err(SocketError::Taken { path: path.to_owned(), pid })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(_) if !is_socket(path) => Err(SocketError::NotASocket(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|source| SocketError::Io { path: path.to_owned(), source })
        }
        Err(source) => Err(SocketError::Io { path: path.to_owned(), source }),
    }
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/bridges", get(bridges).post(add_bridge).delete(remove_bridge))
        .route("/v1/ports", get(ports).post(add_port).delete(remove_port))
        .route("/v1/fdb", get(fdb).post(add_entry).delete(remove_entry))
        .route("/v1/fdb/flush", post(flush))
        .route("/v1/neigh", get(neigh).post(add_neigh).delete(remove_neigh))
        .route("/v1/mdb", get(mdb).post(add_mdb).delete(remove_mdb))
        .route("/v1/mtu", get(mtu))
        .route("/v1/vteps", get(vteps))
        .route("/v1/events", get(events))
        .route("/v1/drops", get(drops))
        .route("/v1/ledger", get(ledger))
        .route("/v1/explain", post(explain))
        .route("/v1/explain/live", post(explain_live))
        .route("/v1/reload", post(reload))
        .fallback(unknown)
        .method_not_allowed_fallback(not_allowed)
        .layer(from_fn(to_the_end))
        .with_state(api)
}

/// Answers a request whether its client waits for the answer or not: what a client that leaves had asked for would
/// otherwise stop at the next `await`, which may be in the middle of a change.
async fn to_the_end(request: Request, next: Next) -> Response {
    tokio::spawn(next.run(request)).await.unwrap_or_else(|error| {
        error!(%error, "a request was not answered");
        complaint(StatusCode::INTERNAL_SERVER_ERROR, "weft failed to answer; see its log".to_owned())
    })
}

/// The JSON that a request carries.
struct Sent<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Sent<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        match Json::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) => {
                // JSON that says something else than it should is as wrong as none.
                let status = match rejection.status() {
                    StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
                    status => status,
                };
                Err(complaint(status, rejection.body_text()))
            }
        }
    }
}

/// What stands behind the question mark of a request.
struct Params<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(rejection) => Err(complaint(rejection.status(), rejection.body_text())),
        }
    }
}

async fn status(State(api): State<Api>) -> Response {
    let workers = api.switch.lock().await.config().switch.workers;
    let status = Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_s: api.started.elapsed().as_secs(),
        workers,
        config: Some(api.config.display().to_string()),
        held: isolation::held(),
    };
    Json(status).into_response()
}

async fn bridges(State(api): State<Api>) -> Response {
    Json(api.switch.lock().await.bridges()).into_response()
}

async fn ports(State(api): State<Api>) -> Response {
    Json(api.switch.lock().await.ports()).into_response()
}

async fn fdb(State(api): State<Api>, Params(query): Params<BridgeQuery>) -> Response {
    let switch = api.switch.lock().await;
    match named_bridge(&switch, &query) {
        Ok(bridge) => Json(switch.fdb(bridge)).into_response(),
        Err(error) => refused(&error),
    }
}

async fn neigh(State(api): State<Api>, Params(query): Params<BridgeQuery>) -> Response {
    let switch = api.switch.lock().await;
    match named_bridge(&switch, &query) {
        Ok(bridge) => Json(switch.neigh(bridge)).into_response(),
        Err(error) => refused(&error),
    }
}

async fn mdb(State(api): State<Api>, Params(query): Params<BridgeQuery>) -> Response {
    let switch = api.switch.lock().await;
    match named_bridge(&switch, &query) {
        Ok(bridge) => Json(switch.mdb(bridge)).into_response(),
        Err(error) => refused(&error),
    }
}

fn named_bridge<'q>(switch: &Switch, query: &'q BridgeQuery) -> Result<Option<&'q str>, RuntimeError> {
    match &query.bridge {
        Some(name) if switch.config().bridge(name).is_none() => {
            Err(RuntimeError::NotFound { what: "bridge", name: name.clone() })
        }
        bridge => Ok(bridge.as_deref()),
    }
}

async fn mtu(State(api): State<Api>) -> Response {
    Json(api.switch.lock().await.mtu().await).into_response()
}

async fn vteps(State(api): State<Api>) -> Response {
    Json(api.switch.lock().await.vteps().await).into_response()
}

async fn drops(State(api): State<Api>) -> Response {
    Json(api.switch.lock().await.drops()).into_response()
}

async fn ledger(State(api): State<Api>) -> Response {
    Json(api.switch.lock().await.ledger()).into_response()
}

/// Answers at once, and then line by line.
async fn events(State(api): State<Api>) -> Response {
    let listener = api.switch.lock().await.listen();
    let lines = stream::unfold(listener, async |mut listener| {
        let happening = match listener.recv().await {
            Ok(happening) => happening,
            Err(RecvError::Lagged(events)) => Happening::Lost { events },
            Err(RecvError::Closed) => return None,
        };
        Some((json_line(&happening), listener))
    });
    ([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

async fn add_bridge(State(api): State<Api>, Sent(request): Sent<Value>) -> Response {
    answer(api.switch.lock().await.add_bridge(&request).await)
}

async fn remove_bridge(State(api): State<Api>, Params(query): Params<NameQuery>) -> Response {
    answer(api.switch.lock().await.remove_bridge(&query.name).await)
}

async fn add_port(State(api): State<Api>, Sent(request): Sent<Value>) -> Response {
    answer(api.switch.lock().await.add_port(&request).await)
}

async fn remove_port(State(api): State<Api>, Params(query): Params<NameQuery>) -> Response {
    answer(api.switch.lock().await.remove_port(&query.name).await)
}

async fn add_entry(State(api): State<Api>, Sent(request): Sent<Value>) -> Response {
    answer(api.switch.lock().await.add_entry(&request).await)
}

async fn remove_entry(State(api): State<Api>, Params(key): Params<FdbKey>) -> Response {
    answer(api.switch.lock().await.remove_entry(&key.bridge, key.mac).await)
}

async fn add_neigh(State(api): State<Api>, Sent(request): Sent<Value>) -> Response {
    answer(api.switch.lock().await.add_neigh(&request).await)
}

async fn remove_neigh(State(api): State<Api>, Params(key): Params<NeighKey>) -> Response {
    answer(api.switch.lock().await.remove_neigh(&key.bridge, key.ip).await)
}

async fn add_mdb(State(api): State<Api>, Sent(request): Sent<Value>) -> Response {
    answer(api.switch.lock().await.add_mdb(&request).await)
}

async fn remove_mdb(State(api): State<Api>, Params(request): Params<MdbRequest>) -> Response {
    answer(api.switch.lock().await.remove_mdb(&request).await)
}

async fn flush(State(api): State<Api>, Sent(request): Sent<FlushRequest>) -> Response {
    let flushed = api.switch.lock().await.flush(&request).await;
    answer(flushed.map(|entries| Flushed { flushed: entries as u64 }))
}

async fn explain(State(api): State<Api>, Sent(request): Sent<ExplainRequest>) -> Response {
    match api.switch.lock().await.explain(&request).await {
        Ok(explanation) => Json(explanation).into_response(),
        Err(error) => unexplained(error),
    }
}

/// Answers at once, and then line by line until the last one. Whoever leaves ends it.
async fn explain_live(State(api): State<Api>, Sent(request): Sent<LiveRequest>) -> Response {
    let live = match api.switch.lock().await.start_live(&request) {
        Ok(live) => live,
        Err(error) => return unexplained(error),
    };
    let lines = stream::unfold((live, api.switch), async |(mut live, switch)| {
        let event = live.next(&switch).await?;
        Some((json_line(&event), (live, switch)))
    });
    ([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

fn json_line(event: &impl serde::Serialize) -> serde_json::Result<String> {
    serde_json::to_string(event).map(|line| line + "\n")
}

fn unexplained(error: ExplainError) -> Response {
    let (status, help) = match &error {
        ExplainError::NotFound { .. } => (StatusCode::NOT_FOUND, None),
        ExplainError::Request { help, .. } => (StatusCode::BAD_REQUEST, Some(help.clone())),
        ExplainError::Busy { .. } => (StatusCode::CONFLICT, None),
    };
    (status, Json(ApiError { error: error.to_string(), help, mistakes: vec![] })).into_response()
}

async fn reload(State(api): State<Api>) -> Response {
    match reload_from(&api).await {
        Ok(changes) => Json(changes).into_response(),
        Err(error) => refused(&error),
    }
}

/// Reads the file again and makes the switch so, as SIGHUP does.
///
/// # Errors
/// The file is wrong or can't be had; the switch goes on as it was.
pub async fn reload_from(api: &Api) -> Result<Reloaded, RuntimeError> {
    let mut switch = api.switch.lock().await;
    let mut file = Config::load(&api.config)?;
    file.check_system()?;
    // `weft run --socket` wins over the file for the life of the process.
    file.switch.socket.clone_from(&switch.config().switch.socket);
    switch.reload(file).await
}

async fn unknown(uri: Uri) -> Response {
    complaint(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()))
}

async fn not_allowed(method: Method, uri: Uri) -> Response {
    complaint(StatusCode::METHOD_NOT_ALLOWED, format!("{} can't be asked to {method}", uri.path()))
}

fn complaint(status: StatusCode, error: String) -> Response {
    (status, Json(ApiError { error, help: None, mistakes: vec![] })).into_response()
}

fn answer<T: serde::Serialize>(result: Result<T, RuntimeError>) -> Response {
    match result {
        Ok(done) => Json(done).into_response(),
        Err(error) => refused(&error),
    }
}

fn refused(error: &RuntimeError) -> Response {
    let status = match error {
        RuntimeError::NotFound { .. } => StatusCode::NOT_FOUND,
        RuntimeError::Config(_) => StatusCode::BAD_REQUEST,
        RuntimeError::Apply(_) => StatusCode::CONFLICT,
    };
    (status, Json(body(error))).into_response()
}

fn body(error: &RuntimeError) -> ApiError {
    match error {
        RuntimeError::Config(errors) => config_errors(errors),
        RuntimeError::Apply(_) | RuntimeError::NotFound { .. } => {
            ApiError { error: chain(error), help: None, mistakes: vec![] }
        }
    }
}

fn config_errors(errors: &ConfigErrors) -> ApiError {
    ApiError::from(errors)
}

/// An error and everything that caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
