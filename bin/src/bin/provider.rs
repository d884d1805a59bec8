//! The demo of the origin, server side: a friend list as an RPC service.
//!
//! `provider --addr 127.0.0.1:8000`, then call it with `consumer`, or with the origin's C++ consumer. Exit code 0: ended
//! by Ctrl-C or SIGTERM; 1: it cannot serve; 2: usage.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that says where it listens, or why not"
)]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use proto::friend::{FiendServiceRpc, FiendServiceRpcDispatcher};
use proto::friend::{GetFriendsListRequest, GetFriendsListResponse, ResultCode};
use rpc::{ProviderConfig, Reactor, ReactorConfig, Reply, RpcProvider};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Serves the friend list of user 1000, the demo of the RPC framework.
#[derive(Parser)]
#[command(name = "provider", version)]
struct Arguments {
    /// Address to listen on, HOST:PORT.
    #[arg(long, env = "PROVIDER_ADDR", default_value = "127.0.0.1:8000")]
    addr: String,
}

struct FriendService;

impl FiendServiceRpc for FriendService {
    fn get_friends_list(&self, request: GetFriendsListRequest, reply: Reply<GetFriendsListResponse>) {
        if request.userid == 1000 {
            let friends = ["gao yang", "liu hong", "wang shuo"].map(Into::into).to_vec();
            reply.send(&GetFriendsListResponse { result: Some(ResultCode::default()), friends });
        } else {
            let errmsg = format!("there is no user {}", request.userid).into();
            reply.send(&GetFriendsListResponse {
                result: Some(ResultCode { errcode: 1, errmsg }),
                friends: Vec::new(),
            });
        }
    }
}

fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot wait for signals")?;
    let reactor = Reactor::start("reactor-0", ReactorConfig::default())?;
    let provider = RpcProvider::new(&reactor, ProviderConfig::default());
    provider.notify_service(Arc::new(FiendServiceRpcDispatcher::new(Arc::new(FriendService))))?;
    println!("listening on {}; Ctrl-C ends", provider.listen(&arguments.addr)?);
    signals.forever().next();
    provider.stop();
    reactor.stop(Duration::from_secs(1));
    Ok(())
}

fn main() -> ExitCode {
    let Err(error) = serve(&Arguments::parse()) else { return ExitCode::SUCCESS };
    eprintln!("provider: {error:#}");
    ExitCode::FAILURE
}
