//! The demo of the origin, client side: asks a provider for a friend list.
//!
//! `consumer --addr 127.0.0.1:8000`. Exit code 0: here is the list; 1: the service says no; 2: usage; 3: no answer.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints what it was told")]

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use proto::friend::{FiendServiceRpcStub, GetFriendsListRequest, GetFriendsListResponse};
use rpc::{ChannelConfig, Reactor, ReactorConfig, RpcChannel, RpcController, RpcError};

/// Asks a provider for the friends of a user and prints them.
#[derive(Parser)]
#[command(name = "consumer", version)]
struct Arguments {
    /// Address of the provider, HOST:PORT.
    #[arg(long, env = "PROVIDER_ADDR", default_value = "127.0.0.1:8000", value_parser = conf::parse_host_port)]
    addr: String,
    /// The user whose friends are asked for.
    #[arg(long, default_value_t = 1000)]
    userid: u32,
    /// The provider is a program of the origin.
    #[arg(long)]
    legacy: bool,
}

fn friends(arguments: &Arguments) -> Result<GetFriendsListResponse, RpcError> {
    let reactor = Reactor::start("reactor-0", ReactorConfig::default())?;
    let config = ChannelConfig { legacy: arguments.legacy, ..ChannelConfig::default() };
    let stub = FiendServiceRpcStub::new(RpcChannel::new(&reactor, &arguments.addr, config));
    let request = GetFriendsListRequest { userid: arguments.userid };
    let response = stub.get_friends_list(&RpcController::new(), &request);
    reactor.stop(Duration::from_secs(1));
    response
}

fn main() -> ExitCode {
    let response = match friends(&Arguments::parse()) {
        Ok(response) => response,
        Err(error) => {
            eprintln!("consumer: {error}");
            return ExitCode::from(3);
        }
    };
    let result = response.result.unwrap_or_default();
    if result.errcode != 0 {
        eprintln!("consumer: {} (error {})", String::from_utf8_lossy(&result.errmsg), result.errcode);
        return ExitCode::from(1);
    }
    for (index, name) in response.friends.iter().enumerate() {
        println!("index: {} name: {}", index + 1, String::from_utf8_lossy(name));
    }
    ExitCode::SUCCESS
}
