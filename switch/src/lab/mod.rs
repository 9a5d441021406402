//! Namespace topologies as code.
