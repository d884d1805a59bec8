//! mprpc: protobuf services over persistent TCP connections, on a hand-written reactor.

mod client;
mod config;
mod controller;
mod error;
pub mod protocol;
mod reactor;
mod server;

pub use client::channel::{Method, RpcChannel};
pub use config::{ChannelConfig, ProviderConfig, ReactorConfig};
pub use controller::RpcController;
pub use error::RpcError;
pub use protocol::status::Status;
pub use reactor::cork::{DIRECT_FLUSH_CONNECTIONS_MAX, corked};
pub use reactor::deadlines::TimerId;
pub use reactor::{EndOfTurn, Reactor};
pub use server::provider::RpcProvider;
pub use server::responder::{Reply, Responder};
pub use server::service::{Call, CallContext, Service, dispatch, no_such_method};
