//! The client's side: a channel keeps one connection to one server and matches replies with calls.

mod around;
pub(crate) mod channel;
pub(crate) mod core;
mod ending;
mod link;
mod one_way;
pub(crate) mod pending_call;
mod pool;
pub(crate) mod replies;
pub(crate) mod retry;
mod silence;
pub(crate) mod state;
mod streams;
