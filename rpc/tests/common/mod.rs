//! What the tests of two ends share: an echo service written by hand, and time limits.

#![allow(dead_code, unreachable_pub, reason = "each test file includes this and uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test's helper fails as the test does")]

pub mod raw;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rpc::{
    Call, ChannelConfig, Method, ProviderConfig, Reactor, ReactorConfig, Reply, Responder, RpcChannel,
    RpcController, RpcError, RpcProvider, Service, Status,
};

/// Far longer than anything here takes.
pub const LONG: Duration = Duration::from_secs(20);

/// Request and reply of the test service.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Text {
    #[prost(bytes = "bytes", tag = "1")]
    pub text: Bytes,
}

impl Text {
    pub fn new(text: impl AsRef<[u8]>) -> Text {
        Text { text: Bytes::copy_from_slice(text.as_ref()) }
    }
}

pub const ECHO: Method = Method::new("test", "Echo");
pub const KEEP: Method = Method::new("test", "Keep");
pub const DROP: Method = Method::new("test", "Drop");
pub const PANIC: Method = Method::new("test", "Panic");
pub const EMPTY: Method = Method::new("test", "Empty");
pub const LATER: Method = Method::new("test", "Later");
pub const WAIT: Method = Method::new("test", "Wait");
pub const MISSING: Method = Method::new("test", "Missing");

/// Answers as the method's name says.
#[derive(Default)]
pub struct TestService {
    pub calls: AtomicUsize,
    pub turns: AtomicUsize,
    /// Replies that `Keep` kept.
    pub kept: Mutex<Vec<(Text, Reply<Text>)>>,
    /// Told of each kept call.
    pub on_keep: Mutex<Option<Sender<()>>>,
    pub refuses_legacy: bool,
}

impl Service for TestService {
    fn name(&self) -> &str {
        "test"
    }

    fn accepts_legacy(&self) -> bool {
        !self.refuses_legacy
    }

    fn call(&self, call: Call<'_>, responder: Responder) {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match call.method {
            b"Echo" => rpc::dispatch(call, responder, |request: Text, reply| reply.send(&request)),
            b"Keep" => rpc::dispatch(call, responder, |request: Text, reply| {
                self.kept.lock().unwrap().push((request, reply));
                if let Some(sender) = &*self.on_keep.lock().unwrap() {
                    sender.send(()).unwrap();
                }
            }),
            b"Drop" => drop(responder),
            b"Panic" => panic!("as asked"),
            b"Bytes" => rpc::dispatch(call, responder, |request: Text, reply| {
                let bytes = std::str::from_utf8(&request.text).unwrap().parse().unwrap();
                reply.send(&Text { text: vec![7; bytes].into() });
            }),
            b"Empty" => responder.send(&Text::default()),
            b"Later" => responder.send_after(Duration::from_millis(30), Text::new("later")),
            b"Wait" => {
                let text = format!("{} ms", responder.context().timeout.as_millis());
                responder.fail(Status::Overloaded, &text);
            }
            _ => rpc::no_such_method(&call, responder),
        }
    }

    fn end_of_turn(&self) {
        self.turns.fetch_add(1, Ordering::SeqCst);
    }
}

/// A served [`TestService`] and a reactor for clients.
pub struct Ends {
    pub service: Arc<TestService>,
    pub provider: Arc<RpcProvider>,
    pub server: Reactor,
    pub client: Reactor,
    pub address: SocketAddr,
}

impl Ends {
    pub fn new() -> Ends {
        Ends::with(ProviderConfig::default(), TestService::default())
    }

    pub fn with(config: ProviderConfig, service: TestService) -> Ends {
        let server = Reactor::start("server", ReactorConfig::default()).unwrap();
        let client = Reactor::start("client", ReactorConfig::default()).unwrap();
        let service = Arc::new(service);
        let provider = Arc::new(RpcProvider::new(&server, config));
        provider.notify_service(service.clone()).unwrap();
        let address = provider.listen("127.0.0.1:0").unwrap();
        Ends { service, provider, server, client, address }
    }

    pub fn channel(&self) -> RpcChannel {
        self.channel_with(ChannelConfig::default())
    }

    pub fn channel_with(&self, config: ChannelConfig) -> RpcChannel {
        RpcChannel::new(&self.client, &self.address.to_string(), config)
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.client.stop(LONG);
        self.server.stop(LONG);
    }
}

/// A blocking call with the default time-out.
pub fn call(channel: &RpcChannel, method: &Method, text: impl AsRef<[u8]>) -> Result<Text, RpcError> {
    channel.call(method, &RpcController::new(), &Text::new(text))
}
