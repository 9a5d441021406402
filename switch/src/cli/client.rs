//! The commands' side of the control API: one HTTP request over the unix socket, one JSON answer.

use std::{
    fs,
    io::{self, ErrorKind},
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, StatusCode,
    body::{Bytes, Incoming},
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, time::timeout};

use super::{BAD_USAGE, NOT_SO};
use crate::{
    control::api::{
        explanation::{ExplainRequest, Explanation},
        live::{LiveEvent, LiveRequest},
        mdb::{MdbRequest, MdbState},
        model::{
            ApiError, BridgeState, DropCount, FdbEntry, Flushed, Happening, Ledger, NeighEntry, PortState, Reloaded,
            Status, VtepState,
        },
        mtu::MtuState,
        request::{BridgeRequest, FdbRequest, FlushRequest, NeighRequest, PortRequest},
    },
    wire::MacAddr,
};

/// How long an answer may take: all of them come from memory, but making a port waits for the kernel.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running weft, as its commands see it. Each request has a connection of its own.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// The weft that answers on this socket.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The switch as a whole.
    ///
    /// # Errors
    /// As every request: nobody answers, or the answer is a refusal.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get("/v1/status").await
    }

    /// All bridges.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn bridges(&self) -> Result<Vec<BridgeState>, ClientError> {
        self.get("/v1/bridges").await
    }

    /// All ports.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn ports(&self) -> Result<Vec<PortState>, ClientError> {
        self.get("/v1/ports").await
    }

    /// The FDB, or one bridge's.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn fdb(&self, bridge: Option<&str>) -> Result<Vec<FdbEntry>, ClientError> {
        match bridge {
            Some(bridge) => self.get(&target("/v1/fdb", &[("bridge", bridge)])).await,
            None => self.get("/v1/fdb").await,
        }
    }

    /// The neighbours of all bridges, or of one.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn neigh(&self, bridge: Option<&str>) -> Result<Vec<NeighEntry>, ClientError> {
        match bridge {
            Some(bridge) => self.get(&target("/v1/neigh", &[("bridge", bridge)])).await,
            None => self.get("/v1/neigh").await,
        }
    }

    /// The multicast databases of all bridges, or of one.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn mdb(&self, bridge: Option<&str>) -> Result<Vec<MdbState>, ClientError> {
        match bridge {
            Some(bridge) => self.get(&target("/v1/mdb", &[("bridge", bridge)])).await,
            None => self.get("/v1/mdb").await,
        }
    }

    /// The MTUs of paths and ports.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn mtu(&self) -> Result<MtuState, ClientError> {
        self.get("/v1/mtu").await
    }

    /// All VTEPs.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn vteps(&self) -> Result<Vec<VtepState>, ClientError> {
        self.get("/v1/vteps").await
    }

    /// All drops.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn drops(&self) -> Result<Vec<DropCount>, ClientError> {
        self.get("/v1/drops").await
    }

    /// The account of all frames.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn ledger(&self) -> Result<Ledger, ClientError> {
        self.get("/v1/ledger").await
    }

    /// Adds a static entry.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn add_fdb(&self, request: &FdbRequest) -> Result<(), ClientError> {
        self.send(Method::POST, "/v1/fdb", Some(request)).await.map(drop)
    }

    /// Takes a static or learned entry out.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn del_fdb(&self, bridge: &str, mac: MacAddr) -> Result<(), ClientError> {
        self.delete(&target("/v1/fdb", &[("bridge", bridge), ("mac", &mac.to_string())])).await
    }

    /// Takes many entries out.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn flush_fdb(&self, request: &FlushRequest) -> Result<Flushed, ClientError> {
        self.post("/v1/fdb/flush", Some(request)).await
    }

    /// Adds a neighbour.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn add_neigh(&self, request: &NeighRequest) -> Result<(), ClientError> {
        self.send(Method::POST, "/v1/neigh", Some(request)).await.map(drop)
    }

    /// Takes a neighbour out.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn del_neigh(&self, bridge: &str, ip: IpAddr) -> Result<(), ClientError> {
        self.delete(&target("/v1/neigh", &[("bridge", bridge), ("ip", &ip.to_string())])).await
    }

    /// Adds a permanent member of a multicast group.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn add_mdb(&self, request: &MdbRequest) -> Result<(), ClientError> {
        self.send(Method::POST, "/v1/mdb", Some(request)).await.map(drop)
    }

    /// Takes a permanent member of a multicast group out.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn del_mdb(&self, request: &MdbRequest) -> Result<(), ClientError> {
        let mut query = vec![("bridge", request.bridge.as_str()), ("group", &request.group)];
        query.extend(request.source.as_deref().map(|source| ("source", source)));
        query.extend(request.port.as_deref().map(|port| ("port", port)));
        self.delete(&target("/v1/mdb", &query)).await
    }

    /// Adds a port.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn add_port(&self, request: &PortRequest) -> Result<(), ClientError> {
        self.send(Method::POST, "/v1/ports", Some(request)).await.map(drop)
    }

    /// Takes a port out.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn del_port(&self, full_name: &str) -> Result<(), ClientError> {
        self.delete(&target("/v1/ports", &[("name", full_name)])).await
    }

    /// Adds a bridge.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn add_bridge(&self, request: &BridgeRequest) -> Result<(), ClientError> {
        self.send(Method::POST, "/v1/bridges", Some(request)).await.map(drop)
    }

    /// Takes a bridge out.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn del_bridge(&self, name: &str) -> Result<(), ClientError> {
        self.delete(&target("/v1/bridges", &[("name", name)])).await
    }

    /// What would happen to a frame.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn explain(&self, request: &ExplainRequest) -> Result<Explanation, ClientError> {
        self.post("/v1/explain", Some(request)).await
    }

    /// Makes the switch read its configuration again.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn reload(&self) -> Result<Reloaded, ClientError> {
        self.post("/v1/reload", None::<&()>).await
    }

    /// What happens from now on: each line as it came, and what it says, until `more` says false or the switch ends.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn events(&self, more: impl FnMut(&str, &Happening) -> bool) -> Result<(), ClientError> {
        self.lines(self.request(Method::GET, "/v1/events", None::<&()>)?, more).await
    }

    /// Frames as they pass, explained, in the same way.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn explain_live(
        &self,
        request: &LiveRequest,
        more: impl FnMut(&str, &LiveEvent) -> bool,
    ) -> Result<(), ClientError> {
        self.lines(self.request(Method::POST, "/v1/explain/live", Some(request))?, more).await
    }

    async fn lines<T: DeserializeOwned>(
        &self,
        request: Request<Full<Bytes>>,
        mut more: impl FnMut(&str, &T) -> bool,
    ) -> Result<(), ClientError> {
        let (status, mut body) = self.begin(request).await?;
        if !status.is_success() {
            let body = body.collect().await.map_err(|error| self.garbled(error))?;
            return Err(refused(status, &body.to_bytes()));
        }
        let mut waiting = Vec::new();
        while let Some(frame) = body.frame().await {
            // Cut off: the switch has ended.
            let Ok(frame) = frame else { return Ok(()) };
            waiting.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = waiting.drain(..=end).collect();
                let said = self.understand(&line[..end])?;
                if !more(&String::from_utf8_lossy(&line[..end]), &said) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, ClientError> {
        let body = self.send(Method::GET, target, None::<&()>).await?;
        self.understand(&body)
    }

    async fn post<T: DeserializeOwned>(
        &self,
        target: &str,
        request: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        let body = self.send(Method::POST, target, request).await?;
        self.understand(&body)
    }

    async fn delete(&self, target: &str) -> Result<(), ClientError> {
        self.send(Method::DELETE, target, None::<&()>).await.map(drop)
    }

    /// One request; the body of a good answer.
    async fn send(&self, method: Method, target: &str, body: Option<&impl Serialize>) -> Result<Bytes, ClientError> {
        let exchange = self.exchange(method, target, body);
        let (status, body) = timeout(PATIENCE, exchange).await.map_err(|_| self.garbled("no answer within 30 s"))??;
        if status.is_success() {
            return Ok(body);
        }
        Err(refused(status, &body))
    }

    async fn exchange(
        &self,
        method: Method,
        target: &str,
        body: Option<&impl Serialize>,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let (status, body) = self.begin(self.request(method, target, body)?).await?;
        let body = body.collect().await.map_err(|error| self.garbled(error))?;
        Ok((status, body.to_bytes()))
    }

    fn request(
        &self,
        method: Method,
        target: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let request = Request::builder().method(method).uri(target).header(HOST, "weft");
        let request = match body {
            Some(body) => {
                let body = serde_json::to_vec(body).map_err(|error| self.garbled(error))?;
                request.header(CONTENT_TYPE, "application/json").body(Full::new(Bytes::from(body)))
            }
            None => request.body(Full::default()),
        };
        request.map_err(|error| self.garbled(error))
    }

    /// Sends a request; the answer's status, and its body as it comes.
    async fn begin(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Incoming), ClientError> {
        let stream =
            UnixStream::connect(&self.socket).await.map_err(|error| ClientError::connect(&self.socket, error))?;
        let user = stream.peer_cred().map(|peer| peer.uid());
        if let Some(user) = user.ok().filter(|user| is_foreign(&self.socket, *user)) {
            return Err(ClientError::Foreign { socket: self.socket.clone(), user });
        }
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.garbled(error))?;
        // ends by itself when `sender` is gone
        tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(|error| self.garbled(error))?;
        Ok((answer.status(), answer.into_body()))
    }

    fn understand<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|error| self.garbled(error))
    }

    fn garbled(&self, what: impl ToString) -> ClientError {
        ClientError::Garbled { socket: self.socket.clone(), what: what.to_string() }
    }
}

/// Whether whoever listens may have put himself there: where everybody makes files, as in `/tmp`, anybody can have been first.
fn is_foreign(socket: &Path, user: u32) -> bool {
    let directory =
        socket.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let is_everybodys = fs::metadata(directory).is_ok_and(|directory| directory.mode() & 0o002 != 0);
    is_everybodys && user != 0 && user != rustix::process::geteuid().as_raw()
}

/// What a refusal says; a proxy in between, or a panic, has no body of ours.
fn refused(status: StatusCode, body: &[u8]) -> ClientError {
    let refusal = serde_json::from_slice(body).unwrap_or_else(|_| ApiError {
        error: String::from_utf8_lossy(body).trim().to_owned(),
        help: None,
        mistakes: Vec::new(),
    });
    ClientError::Refused { status, refusal }
}

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no such socket.
    #[error("no weft answers at {}; is it running? (--socket PATH)", .0.display())]
    Absent(PathBuf),
    /// There is a socket that nobody listens on.
    #[error("nobody listens at {}: the weft that made this socket is gone; start it again", .0.display())]
    Stale(PathBuf),
    /// The socket is somebody else's.
    #[error("no permission to talk to the weft at {}; try as the user who started it", .0.display())]
    Forbidden(PathBuf),
    /// In a directory that is everybody's, somebody else listens where the own weft's socket would be.
    #[error("{} is a socket of user {user}'s and not of your weft; name yours (--socket PATH)", socket.display())]
    Foreign {
        /// The socket.
        socket: PathBuf,
        /// Who listens there.
        user: u32,
    },
    /// Anything else that the kernel says.
    #[error("can't reach the weft at {}", socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Whoever answered is no weft, or not one of this version.
    #[error("the answer at {} makes no sense: {what}", socket.display())]
    Garbled {
        /// The socket.
        socket: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// weft says no.
    #[error("{}", shown(refusal, *status))]
    Refused {
        /// HTTP's word for it.
        status: StatusCode,
        /// weft's.
        refusal: ApiError,
    },
}

impl ClientError {
    /// 2 if the request could never be right, 1 for everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused { status, .. } if *status == StatusCode::BAD_REQUEST => BAD_USAGE,
            Self::Refused { status, .. } if *status == StatusCode::UNPROCESSABLE_ENTITY => BAD_USAGE,
            Self::Absent(_)
            | Self::Stale(_)
            | Self::Forbidden(_)
            | Self::Foreign { .. }
            | Self::Unreachable { .. }
            | Self::Garbled { .. }
            | Self::Refused { .. } => NOT_SO,
        }
    }

    fn connect(socket: &Path, error: io::Error) -> Self {
        let socket = socket.to_owned();
        // every other kind of error has one meaning only: that of its own text
        #[allow(clippy::wildcard_enum_match_arm)]
        match error.kind() {
            ErrorKind::NotFound => Self::Absent(socket),
            ErrorKind::ConnectionRefused => Self::Stale(socket),
            ErrorKind::PermissionDenied => Self::Forbidden(socket),
            _ => Self::Unreachable { socket, source: error },
        }
    }
}

/// A refusal for people: each mistake with its cure on a line of its own.
fn shown(refusal: &ApiError, status: StatusCode) -> String {
    let line = |error: &str, help: Option<&str>| match help {
        Some(help) => format!("{error}\n  help: {help}"),
        None => error.to_owned(),
    };
    if !refusal.mistakes.is_empty() {
        let lines = refusal.mistakes.iter().map(|mistake| line(&mistake.to_string(), mistake.help.as_deref()));
        return lines.collect::<Vec<_>>().join("\n");
    }
    if refusal.error.is_empty() { format!("refused: {status}") } else { line(&refusal.error, refusal.help.as_deref()) }
}

/// A path with its query (RFC 3986 section 3.4).
fn target(path: &str, query: &[(&str, &str)]) -> String {
    let mut target = path.to_owned();
    for (index, (key, value)) in query.iter().enumerate() {
        target.push(if index == 0 { '?' } else { '&' });
        target.push_str(key);
        target.push('=');
        for byte in value.bytes() {
            match byte {
                // unreserved, and what a query may hold besides
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' => {
                    target.push(char::from(byte));
                }
                _ => target.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    target
}

#[cfg(test)]
mod tests;
