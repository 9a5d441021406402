//! The control API: HTTP with JSON over a unix socket.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `GET /v1/status` | | [`model::Status`] |
//! | `GET /v1/bridges` | | list of [`model::BridgeState`] |
//! | `GET /v1/ports` | | list of [`model::PortState`] |
//! | `GET /v1/fdb?bridge=` | | list of [`model::FdbEntry`] |
//! | `GET /v1/neigh?bridge=` | | list of [`model::NeighEntry`] |
//! | `GET /v1/mdb?bridge=` | | list of [`mdb::MdbState`] |
//! | `GET /v1/mtu` | | [`mtu::MtuState`] |
//! | `GET /v1/vteps` | | list of [`model::VtepState`] |
//! | `GET /v1/drops` | | list of [`model::DropCount`] |
//! | `GET /v1/ledger` | | [`model::Ledger`] |
//! | `GET /v1/events` | | one [`model::Happening`] a line, from now on, without end |
//! | `POST /v1/bridges` | [`request::BridgeRequest`] | - |
//! | `DELETE /v1/bridges?name=` | | - |
//! | `POST /v1/ports` | [`request::PortRequest`] | - |
//! | `DELETE /v1/ports?name=` | | - |
//! | `POST /v1/fdb` | [`request::FdbRequest`] | - |
//! | `DELETE /v1/fdb?bridge=&mac=` | | - |
//! | `POST /v1/fdb/flush` | [`request::FlushRequest`] | [`model::Flushed`] |
//! | `POST /v1/neigh` | [`request::NeighRequest`] | - |
//! | `DELETE /v1/neigh?bridge=&ip=` | | - |
//! | `POST /v1/explain` | [`explanation::ExplainRequest`] | [`explanation::Explanation`] |
//! | `POST /v1/explain/live` | [`live::LiveRequest`] | one [`live::LiveEvent`] a line, until the last one |
//! | `POST /v1/mdb` | [`mdb::MdbRequest`] | - |
//! | `DELETE /v1/mdb?bridge=&group=&source=&port=` | | - |
//! | `POST /v1/reload` | | [`model::Reloaded`] |
//!
//! A status of 400 or above comes with a [`model::ApiError`]; 400 is for requests that can't be right, 404 for things that
//! are not there.

pub mod explanation;
pub mod live;
pub mod mdb;
pub mod model;
pub mod mtu;
pub mod request;
pub mod server;
