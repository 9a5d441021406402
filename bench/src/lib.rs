//! What weft's benches share: the frames that they measure with.

pub mod frames;
