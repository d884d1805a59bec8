//! The peers of the comparison: what they share.

pub mod floor;
pub mod frames;
pub mod lanes;
pub mod sides;
