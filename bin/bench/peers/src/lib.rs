//! The peers of the comparison: what they share.

pub mod frames;
pub mod lanes;
