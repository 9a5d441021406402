//! What weft's benches share: the frames that they measure with, and a switch in memory that carries them.

pub mod frames;
pub mod side_by_side;
pub mod switch;
