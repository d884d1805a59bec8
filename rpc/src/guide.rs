//! Guides, one page each. The files stand in `docs`, too.

#[doc = include_str!("../docs/deadlines.md")]
pub mod deadlines {}

#[doc = include_str!("../docs/overload.md")]
pub mod overload {}

#[doc = include_str!("../docs/streaming.md")]
pub mod streaming {}

#[doc = include_str!("../docs/middleware.md")]
pub mod middleware {}

#[doc = include_str!("../docs/wire.md")]
pub mod wire {}
