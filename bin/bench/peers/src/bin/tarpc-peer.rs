//! The same echo on tarpc, client and server each on one thread.

use std::time::{Duration, Instant};

use futures::StreamExt;
use rpc_bench::load::Load;
use rpc_bench_peers::{lanes, sides};
use serde::{Deserialize, Serialize};
use tarpc::server::{BaseChannel, Channel};
use tarpc::tokio_serde::formats::Bincode;
use tarpc::{client, context, serde_transport};

/// The payload; bytes, not a list of numbers, as a user would declare it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Echo {
    #[serde(with = "as_bytes")]
    payload: Vec<u8>,
}

mod as_bytes {
    //! Serde writes a `Vec<u8>` number by number; this writes it as one run of bytes.
    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    struct Bytes;

    impl Visitor<'_> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("bytes")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }

        fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
            Ok(bytes)
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        deserializer.deserialize_byte_buf(Bytes)
    }
}

#[tarpc::service]
trait Bench {
    async fn echo(request: Echo) -> Echo;
}

#[derive(Clone)]
struct EchoService;

impl Bench for EchoService {
    async fn echo(self, _: context::Context, request: Echo) -> Echo {
        request
    }
}

async fn serve(addr: &str) -> anyhow::Result<()> {
    let mut listener = serde_transport::tcp::listen(addr, Bincode::default).await?;
    println!("listening on {}", listener.local_addr());
    let tasks = tokio::task::LocalSet::new();
    tasks
        .run_until(async move {
            while let Some(Ok(transport)) = listener.next().await {
                let serving = BaseChannel::with_defaults(transport).execute(EchoService.serve());
                tokio::task::spawn_local(serving.for_each(|call| async {
                    tokio::task::spawn_local(call);
                }));
            }
        })
        .await;
    Ok(())
}

async fn call(load: &Load) -> anyhow::Result<String> {
    let request = Echo { payload: load.payload() };
    let mut clients = Vec::new();
    for _ in 0..load.conns {
        let transport = serde_transport::tcp::connect(&load.addr, Bincode::default).await?;
        clients.push(BenchClient::new(client::Config::default(), transport).spawn());
    }
    let tally = lanes::begin(load);
    let tasks = tokio::task::LocalSet::new();
    for client in clients {
        for _ in 0..load.inflight {
            let (client, request) = (client.clone(), request.clone());
            tasks.spawn_local(lanes::run(tally.clone(), move || {
                let (client, request) = (client.clone(), request.clone());
                async move {
                    let mut context = context::current();
                    context.deadline = Instant::now() + Duration::from_secs(5);
                    client.echo(context, request.clone()).await.is_ok_and(|echo| echo == request)
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
