//! mprpc: protobuf services over persistent TCP connections, on a hand-written reactor, without an async runtime.
//!
//! Why it exists: to call protobuf services from plain threads, fast, and to talk to the C++ programs built on mprpc that
//! exist already. A server registers services at an [`RpcProvider`]; a client calls them over an [`RpcChannel`]; both hang
//! on a [`Reactor`], which is one thread and serves as many of either as you like:
//!
//! ```
//! use std::sync::Arc;
//! use rpc::{Call, ChannelConfig, Method, ProviderConfig, Reactor, ReactorConfig};
//! use rpc::{Responder, RpcChannel, RpcController, RpcError, RpcProvider, Service};
//!
//! #[derive(Clone, PartialEq, prost::Message)]
//! struct Greeting {
//!     #[prost(string, tag = "1")]
//!     text: String,
//! }
//!
//! struct Greeter;
//!
//! impl Service for Greeter {
//!     fn name(&self) -> &str {
//!         "Greeter"
//!     }
//!     fn call(&self, call: Call<'_>, responder: Responder) {
//!         match call.method {
//!             b"Greet" => rpc::dispatch(call, responder, |request: Greeting, reply| {
//!                 reply.send(&Greeting { text: format!("hello, {}", request.text) });
//!             }),
//!             _ => rpc::no_such_method(&call, responder),
//!         }
//!     }
//! }
//!
//! fn main() -> Result<(), RpcError> {
//!     let reactor = Reactor::start("reactor-0", ReactorConfig::default())?;
//!     let provider = RpcProvider::new(&reactor, ProviderConfig::default());
//!     provider.notify_service(Arc::new(Greeter))?;
//!     let address = provider.listen("127.0.0.1:0")?;
//!
//!     let channel = RpcChannel::new(&reactor, &address.to_string(), ChannelConfig::default());
//!     let (greet, request) = (Method::new("Greeter", "Greet"), Greeting { text: "world".to_owned() });
//!     let reply: Greeting = channel.call(&greet, &RpcController::new(), &request)?;
//!     assert_eq!(reply.text, "hello, world");
//!     Ok(())
//! }
//! ```
//!
//! # Services from `.proto` files
//!
//! Messages, `Service` and the typed call need not be written by hand. With `rpc-codegen` among the build dependencies, and
//! `prost` 0.14 and `bytes` beside `rpc`, `rpc_codegen::compile(&["proto/greeter.proto"])` is all that `main` in `build.rs` does;
//! it needs no `protoc`. The file it makes has the name of the `.proto` file's package; fields of `bytes` are `bytes::Bytes`. Of
//! this file
//!
//! ```proto
#![doc = include_str!("../docs/greeter/greeter.proto")]
//! ```
//!
//! come the messages and, for each service, a trait `Greeter` to implement, a `GreeterDispatcher` that makes a [`Service`] of
//! what implements it, and a `GreeterStub` whose methods `greet` and `greet_async` call it; `docs/greeter/greeting.txt` has
//! it all:
//!
//! ```
//! use std::sync::Arc;
//! use rpc::{Reply, RpcChannel, RpcController, RpcError, RpcProvider};
//!
//! # #[cfg(any())]
//! include!(concat!(env!("OUT_DIR"), "/greeting.rs"));
//! # // The same, as it was generated.
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/greeter/greeting.txt"));
//!
//! struct Polite;
//!
//! impl Greeter for Polite {
//!     fn greet(&self, request: Greeting, reply: Reply<Greeting>) {
//!         reply.send(&Greeting { text: format!("good evening, {}", request.text) });
//!     }
//! }
//!
//! fn serve(provider: &RpcProvider) -> Result<(), RpcError> {
//!     provider.notify_service(Arc::new(GreeterDispatcher::new(Arc::new(Polite))))
//! }
//!
//! fn greet(channel: &RpcChannel, name: &str) -> Result<String, RpcError> {
//!     let request = Greeting { text: name.to_owned() };
//!     Ok(GreeterStub::new(channel.clone()).greet(&RpcController::new(), &request)?.text)
//! }
//! # fn main() {
//! #     let reactor = rpc::Reactor::start("reactor-0", rpc::ReactorConfig::default()).unwrap();
//! #     let provider = RpcProvider::new(&reactor, rpc::ProviderConfig::default());
//! #     serve(&provider).unwrap();
//! #     let address = provider.listen("127.0.0.1:0").unwrap().to_string();
//! #     let channel = RpcChannel::new(&reactor, &address, rpc::ChannelConfig::default());
//! #     assert_eq!(greet(&channel, "world").unwrap(), "good evening, world");
//! # }
//! ```
//!
//! # What to know
//!
//! - **A handler must not block.** It runs on the reactor's thread. It keeps its [`Responder`] (or typed [`Reply`]) and
//!   whoever has the answer uses it, from any thread ([`ThreadPool`] does this for a whole service). A dropped responder answers
//!   `INTERNAL`; a handler that panics, too.
//! - **Every call ends exactly once,** with a reply or an [`RpcError`] that says where it failed and, by
//!   [`RpcError::may_have_run`], whether the server may have executed it. Calls have a deadline by default (5 s), which the
//!   server is told and keeps, too; a handler can ask what is left and whether anybody still waits, and its own calls
//!   inherit it ([`CallContext`]).
//! - **One write per connection and turn.** Calls of one poll turn are dispatched together, then the services' and hooks'
//!   `end_of_turn` run, then each connection is written once. Other threads get the same by [`corked`]. A turn lasts a few
//!   milliseconds at most, however many connections are busy: the others have their turns in the next one.
//! - **Large `bytes` are copied neither in nor out.** What comes in is a slice of what was received. Out goes a field of
//!   16 KiB and more as it stands: generated code takes it out of its message and sends it last ([`LargestLast`]). It does so
//!   with messages of plain fields; bytes inside of other messages or of repeated fields are copied once.
//! - **Nothing is unbounded.** The limits are fields of [`ReactorConfig`], [`ProviderConfig`] and [`ChannelConfig`], and
//!   [`protocol::decoder::HEADER_BYTES_MAX`]; each says what happens beyond it.
//! - **Bytes from outside can be anything.** At worst they close their own connection.
//!
//! # The wire
//!
//! A frame is the header's length as a varint, the header (`RpcHeader`, `RpcReplyHeader`), and the arguments or the reply.
//! A first frame without any field of ours makes the connection one of an origin program: one call at a time, the bare
//! message as the reply, in one write, and the single byte `0x00` for whatever cannot be said. A channel with
//! [`ChannelConfig::legacy`] speaks to origin servers. Module [`protocol`] does all this without sockets.
//!
//! # Guides
//!
//! [`guide::deadlines`] (time, cancellation, sending again), [`guide::overload`] (limits, going away),
//! [`guide::middleware`] (tokens, logs, counters, and how to write one), [`guide::streaming`] (many messages in one call),
//! [`guide::wire`] (for clients in other languages).
//!
//! # The rooms
//!
//! `protocol` is sans-IO; `reactor` owns sockets and time; `server` and `client` give the frames their meaning. Arrows go
//! from the latter two to the former two, and from the reactor to the sides of a connection. `middleware` is asked by both
//! sides, `inherit` is what a handler's calls get from its own, `stream` what a call with many messages has on either side.
//! `simulation` takes the system's place ([`Simulation`]) for tests of clients and servers in one thread, without sockets and
//! sleeps. This crate knows no Raft.

#[cfg(not(target_os = "linux"))]
compile_error!("this workspace builds on Linux only: its reactor, log and launcher use Linux system calls");

mod client;
mod config;
mod controller;
mod error;
pub mod guide;
mod inherit;
mod log_gate;
mod middleware;
mod primitives;
pub mod protocol;
mod reactor;
mod server;
mod simulation;
mod stream;

pub use client::channel::{Method, PendingReply, RpcChannel};
pub use client::retry::{RetryConfig, RetryPolicy};
pub use client::state::ChannelState;
pub use config::{ChannelConfig, ProviderConfig, ReactorConfig, Reserve};
pub use controller::RpcController;
pub use error::{RpcError, Step};
pub use inherit::detached;
pub use middleware::{
    AUTH_TOKEN_BYTES_MAX, AuthToken, CallInfo, CallLog, CallMetrics, CallSide, Ended, MetricsSnapshot,
    Middleware, MiddlewareStack, Refused, TokenAuth,
};
pub use protocol::payload::{LargestLast, TakeApart, take_largest};
pub use protocol::status::Status;
pub use reactor::cork::{DIRECT_FLUSH_CONNECTIONS_MAX, corked};
pub use reactor::deadlines::TimerId;
pub use reactor::{EndOfTurn, Reactor};
pub use server::provider::{ProviderGauges, RpcProvider};
pub use server::responder::{Reply, Responder};
pub use server::service::{Call, CallContext, Service, dispatch, no_such_method};
pub use server::streams::{dispatch_both_ways, dispatch_client_stream, dispatch_server_stream};
pub use server::thread_pool::{ThreadPool, ThreadPoolConfig};
pub use simulation::{Peer, PeerListener, Simulation};
pub use stream::reader::{StreamItem, StreamReader};
pub use stream::writer::{Replies, ReplyStream, Requests, StreamWriter};
