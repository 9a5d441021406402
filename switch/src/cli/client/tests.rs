use std::os::unix::fs::PermissionsExt;

use axum::{
    Json, Router,
    extract::Query,
    routing::{get, post},
};
use serde_json::{Value, json};

use super::*;
use crate::control::{
    api::{
        model::FdbOrigin,
        request::{BridgeQuery, FdbKey, NameQuery},
    },
    config::Config,
};

/// A server on a socket of its own, as long as the directory lives.
fn serve(router: Router) -> (Client, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("weft.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (Client::new(socket), directory)
}

#[tokio::test]
async fn events_are_read_line_by_line_until_enough() {
    let lines = "{\"event\":\"aged\",\"entries\":1}\n{\"event\":\"lost\",\"events\":2}\n{\"event\":\"aged\",";
    let (client, _directory) = serve(Router::new().route("/v1/events", get(async move || lines)));
    let mut told = Vec::new();
    client
        .events(|_, happening| {
            told.push(happening.clone());
            told.len() < 2
        })
        .await
        .unwrap();
    assert_eq!(told, [Happening::Aged { entries: 1 }, Happening::Lost { events: 2 }]);
}

#[tokio::test]
async fn lists_are_fetched_and_queries_arrive_whole() {
    let fdb = async |Query(query): Query<BridgeQuery>| {
        assert_eq!(query.bridge.as_deref(), Some("blue & co"));
        Json(json!([{"bridge": "blue", "mac": "02:00:00:00:00:01", "port": null, "vtep": "192.0.2.2",
            "origin": "static", "age_s": null, "locked": false}]))
    };
    let (client, _directory) = serve(Router::new().route("/v1/fdb", get(fdb)));
    let entries = client.fdb(Some("blue & co")).await.unwrap();
    assert_eq!(entries[0].vtep, Some("192.0.2.2".parse().unwrap()));
    assert_eq!(entries[0].origin, FdbOrigin::Static);
}

#[tokio::test]
async fn requests_arrive_as_they_were_sent() {
    let add = async |Json(request): Json<Value>| {
        assert_eq!(request, json!({"name": "eth0", "netns": "left", "bridge": "blue"}));
        StatusCode::CREATED
    };
    let del = async |Query(query): Query<NameQuery>| {
        assert_eq!(query.name, "pid:12/eth+0");
        StatusCode::NO_CONTENT
    };
    let forget = async |Query(key): Query<FdbKey>| {
        assert_eq!((key.bridge.as_str(), key.mac), ("blue", MacAddr::new([2, 0, 0, 0, 0, 1])));
    };
    let flush = async |Json(request): Json<FlushRequest>| {
        assert!(request.include_static && request.bridge.is_none());
        Json(Flushed { flushed: 7 })
    };
    let router = Router::new()
        .route("/v1/ports", post(add).delete(del))
        .route("/v1/fdb", axum::routing::delete(forget))
        .route("/v1/fdb/flush", post(flush));
    let (client, _directory) = serve(router);
    let request = PortRequest {
        name: "eth0".into(),
        netns: Some("left".into()),
        bridge: Some("blue".into()),
        ..PortRequest::default()
    };
    client.add_port(&request).await.unwrap();
    client.del_port("pid:12/eth+0").await.unwrap();
    client.del_fdb("blue", MacAddr::new([2, 0, 0, 0, 0, 1])).await.unwrap();
    let request = FlushRequest { include_static: true, ..FlushRequest::default() };
    assert_eq!(client.flush_fdb(&request).await.unwrap().flushed, 7);
}

#[tokio::test]
async fn a_refusal_is_shown_with_its_help() {
    let add = async |Json(request): Json<Value>| {
        let errors = Config::empty().with_bridge(&request).unwrap_err();
        (StatusCode::BAD_REQUEST, Json(ApiError::from(&errors)))
    };
    let (client, _directory) = serve(Router::new().route("/v1/bridges", post(add)));
    let error = client.add_bridge(&BridgeRequest { name: "a b".into(), ..BridgeRequest::default() }).await.unwrap_err();
    let shown = "`a b` can't be the name of a bridge\n  help: 1 to 15 characters of A-Z a-z 0-9 . _ -";
    assert_eq!((error.to_string().as_str(), error.exit_code()), (shown, 2));

    let error = client.reload().await.unwrap_err();
    assert_eq!((error.to_string().as_str(), error.exit_code()), ("refused: 404 Not Found", 1));
}

#[tokio::test]
async fn answers_that_make_no_sense_are_no_panic() {
    let (client, _directory) = serve(Router::new().route("/v1/ledger", get(async || "[1,2")));
    let error = client.ledger().await.unwrap_err();
    assert!(matches!(error, ClientError::Garbled { .. }), "{error}");
}

#[test]
fn where_everybody_makes_files_only_ones_own_weft_is_believed() {
    let directory = tempfile::tempdir().unwrap();
    let (socket, own) = (directory.path().join("weft.sock"), rustix::process::geteuid().as_raw());
    assert!(!is_foreign(&socket, own + 1), "whoever may write here is trusted");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    assert!(is_foreign(&socket, own + 1));
    assert!(!is_foreign(&socket, own) && !is_foreign(&socket, 0));
}

#[tokio::test]
async fn a_socket_that_nobody_serves_is_told_from_one_that_is_not_there() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("weft.sock");
    let client = Client::new(&socket);
    let error = client.status().await.unwrap_err();
    assert_eq!(error.to_string(), format!("no weft answers at {}; is it running? (--socket PATH)", socket.display()));
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let error = client.status().await.unwrap_err();
    assert!(matches!(error, ClientError::Stale(_)), "{error}");
}
