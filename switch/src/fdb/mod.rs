//! Forwarding database.
