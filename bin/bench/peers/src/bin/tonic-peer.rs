//! The same echo on tonic, client and server each on one thread.

use std::time::Duration;

use rpc_bench::load::Load;
use rpc_bench_peers::{lanes, sides};
use tokio::net::TcpListener;
use tonic::transport::{Endpoint, Server, server::TcpIncoming};
use tonic::{Request, Response, Status};

mod echo {
    tonic::include_proto!("bench");
}
use echo::Echo;
use echo::bench_client::BenchClient;
use echo::bench_server::{Bench, BenchServer};

struct EchoService;

#[tonic::async_trait]
impl Bench for EchoService {
    async fn echo(&self, request: Request<Echo>) -> Result<Response<Echo>, Status> {
        Ok(Response::new(request.into_inner()))
    }
}

async fn serve(addr: &str) -> anyhow::Result<()> {
    let listener = TcpListener::bind(addr).await?;
    println!("listening on {}", listener.local_addr()?);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Server::builder().add_service(BenchServer::new(EchoService)).serve_with_incoming(incoming).await?;
    Ok(())
}

async fn call(load: &Load) -> anyhow::Result<String> {
    let payload = bytes::Bytes::from(load.payload());
    let mut clients = Vec::new();
    for _ in 0..load.conns {
        let endpoint = Endpoint::from_shared(format!("http://{}", load.addr))?;
        let endpoint = endpoint.tcp_nodelay(true).timeout(Duration::from_secs(5));
        clients.push(BenchClient::new(endpoint.connect().await?));
    }
    let tally = lanes::begin(load);
    let tasks = tokio::task::LocalSet::new();
    for client in clients {
        for _ in 0..load.inflight {
            let (client, payload) = (client.clone(), payload.clone());
            tasks.spawn_local(lanes::run(tally.clone(), move || {
                let (mut client, payload) = (client.clone(), payload.clone());
                async move {
                    let reply = client.echo(Echo { payload: payload.clone() }).await;
                    reply.is_ok_and(|reply| reply.get_ref().payload == payload)
                }
            }));
        }
    }
    tasks.await;
    Ok(tally.borrow().report(load.measured()).line())
}

fn main() -> anyhow::Result<()> {
    let runtime = lanes::runtime()?;
    sides::run(|addr| runtime.block_on(serve(addr)), |load| runtime.block_on(call(load)))
}
