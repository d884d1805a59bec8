//! The server's side: a provider listens, a dispatcher finds the service of a call, a responder answers it.

pub(crate) mod dispatcher;
mod entrance;
pub(crate) mod in_flight;
pub(crate) mod provider;
pub(crate) mod responder;
pub(crate) mod service;
pub(crate) mod streams;
pub(crate) mod thread_pool;
pub(crate) mod watch;
