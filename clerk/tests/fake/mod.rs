//! A store of one process for the clerk's own tests: the `kv` service over real connections on free ports, answering by
//! script. It knows no consensus; who leads is whoever the test says.

#![allow(dead_code, unreachable_pub, reason = "a module of several test programs, none needs all of it")]
#![expect(clippy::unwrap_used, reason = "test code: what fails here fails the test")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use clerk::ClerkConfig;
use proto::kv::{self, Code, Kv, KvDispatcher};
use rpc::{ProviderConfig, Reactor, ReactorConfig, Reply, RpcProvider};

/// What all fake nodes share: the data and the sessions.
#[derive(Default)]
pub struct Shared {
    pub data: BTreeMap<Bytes, Bytes>,
    pub sessions: u64,
    /// Sessions up to this number are forgotten.
    pub expired: u64,
    /// By session and seq: executed, with the version.
    pub executed: BTreeMap<(u64, u64), u64>,
    pub version: u64,
    pub leader: usize,
    /// Addresses that hints name, by node.
    pub addresses: Vec<String>,
    /// Calls seen, by node.
    pub calls: Vec<u32>,
    pub faults: Faults,
}

/// What goes wrong next; each number counts down.
#[derive(Default)]
pub struct Faults {
    /// Writes that are executed, but whose reply is lost: the call fails as a broken server would let it.
    pub lost_replies: u32,
    /// Calls that are never answered. Their replies are kept here.
    pub silences: u32,
    pub kept: Vec<Box<dyn Send>>,
    pub busy: u32,
    /// Gets that are refused for good.
    pub invalid: u32,
    pub no_hints: bool,
}

pub struct FakeNode {
    number: usize,
    shared: Arc<Mutex<Shared>>,
}

/// Fake nodes on one reactor.
pub struct FakeCluster {
    pub shared: Arc<Mutex<Shared>>,
    pub addresses: Vec<String>,
    providers: Vec<RpcProvider>,
    reactor: Reactor,
}

impl FakeCluster {
    pub fn start(nodes: usize) -> FakeCluster {
        let reactor = Reactor::start("fake-nodes", ReactorConfig::default()).unwrap();
        let shared = Arc::new(Mutex::new(Shared { calls: vec![0; nodes], ..Shared::default() }));
        let mut addresses = Vec::new();
        let mut providers = Vec::new();
        for number in 0..nodes {
            let provider = RpcProvider::new(&reactor, ProviderConfig::default());
            let node = FakeNode { number, shared: Arc::clone(&shared) };
            provider.notify_service(Arc::new(KvDispatcher::new(Arc::new(node)))).unwrap();
            addresses.push(provider.listen("127.0.0.1:0").unwrap().to_string());
            providers.push(provider);
        }
        shared.lock().unwrap().addresses = addresses.clone();
        FakeCluster { shared, addresses, providers, reactor }
    }

    pub fn set(&self, change: impl FnOnce(&mut Shared)) {
        change(&mut self.shared.lock().unwrap());
    }

    /// Connections to this node end, new ones are refused.
    pub fn kill(&self, node: usize) {
        self.providers[node].stop();
    }
}

impl Drop for FakeCluster {
    fn drop(&mut self) {
        self.reactor.stop(Duration::from_secs(1));
    }
}

/// Short times, so that the slow paths are tried quickly; a fixed seed.
pub fn quick() -> ClerkConfig {
    ClerkConfig {
        operation_timeout: Duration::from_secs(10),
        attempt_timeout: Duration::from_millis(100),
        seed: Some(1),
        ..ClerkConfig::default()
    }
}

fn outcome(code: Code) -> Option<kv::Outcome> {
    Some(kv::Outcome { code: code.into(), ..kv::Outcome::default() })
}

/// What happens to a call before it is looked at.
enum Fate {
    Answer,
    Refuse(Option<kv::Outcome>),
    Silence,
}

impl FakeNode {
    fn fate(&self, shared: &mut Shared) -> Fate {
        shared.calls[self.number] += 1;
        if shared.faults.silences > 0 {
            shared.faults.silences -= 1;
            return Fate::Silence;
        }
        if shared.leader != self.number {
            let leader = shared.addresses.get(shared.leader).filter(|_| !shared.faults.no_hints);
            let leader_address = leader.cloned().unwrap_or_default();
            let refusal =
                kv::Outcome { code: Code::NotLeader.into(), leader_address, ..kv::Outcome::default() };
            return Fate::Refuse(Some(refusal));
        }
        if shared.faults.busy > 0 {
            shared.faults.busy -= 1;
            return Fate::Refuse(outcome(Code::Busy));
        }
        Fate::Answer
    }

    /// Executes a write once; says its outcome and version, or nothing if the reply is to be lost.
    fn write(
        &self,
        shared: &mut Shared,
        stamp: Option<kv::Stamp>,
        execute: impl FnOnce(&mut BTreeMap<Bytes, Bytes>) -> Code,
    ) -> Option<(Option<kv::Outcome>, u64)> {
        let stamp = stamp.expect("each write is stamped");
        assert!(stamp.seq >= stamp.acked_below && stamp.seq > 0);
        if stamp.client_id <= shared.expired || stamp.client_id > shared.sessions {
            return Some((outcome(Code::SessionExpired), 0));
        }
        let place = (stamp.client_id, stamp.seq);
        let mut code = Code::Ok;
        if !shared.executed.contains_key(&place) {
            shared.version += 1;
            shared.executed.insert(place, shared.version);
            code = execute(&mut shared.data);
        }
        if shared.faults.lost_replies > 0 {
            shared.faults.lost_replies -= 1;
            return None;
        }
        Some((outcome(code), shared.executed[&place]))
    }
}

impl Kv for FakeNode {
    fn open_session(&self, _: kv::OpenSessionRequest, reply: Reply<kv::OpenSessionReply>) {
        let mut shared = self.shared.lock().unwrap();
        match self.fate(&mut shared) {
            Fate::Silence => shared.faults.kept.push(Box::new(reply)),
            Fate::Refuse(outcome) => reply.send(&kv::OpenSessionReply { outcome, client_id: 0 }),
            Fate::Answer => {
                shared.sessions += 1;
                let client_id = shared.sessions;
                reply.send(&kv::OpenSessionReply { outcome: outcome(Code::Ok), client_id });
            }
        }
    }

    fn get(&self, request: kv::GetRequest, reply: Reply<kv::GetReply>) {
        let mut shared = self.shared.lock().unwrap();
        match self.fate(&mut shared) {
            Fate::Silence => shared.faults.kept.push(Box::new(reply)),
            Fate::Refuse(outcome) => reply.send(&kv::GetReply { outcome, ..kv::GetReply::default() }),
            Fate::Answer if shared.faults.invalid > 0 => {
                shared.faults.invalid -= 1;
                let text = "the key is empty".to_string();
                let outcome =
                    Some(kv::Outcome { code: Code::Invalid.into(), text, ..kv::Outcome::default() });
                reply.send(&kv::GetReply { outcome, ..kv::GetReply::default() });
            }
            Fate::Answer => {
                let found = shared.data.get(&request.key).cloned();
                let code = if found.is_some() { Code::Ok } else { Code::NotFound };
                let value = found.unwrap_or_default();
                reply.send(&kv::GetReply { outcome: outcome(code), value, version: shared.version });
            }
        }
    }

    fn put(&self, request: kv::PutRequest, reply: Reply<kv::PutReply>) {
        let mut shared = self.shared.lock().unwrap();
        match self.fate(&mut shared) {
            Fate::Silence => shared.faults.kept.push(Box::new(reply)),
            Fate::Refuse(outcome) => reply.send(&kv::PutReply { outcome, version: 0 }),
            Fate::Answer => {
                let execute = |data: &mut BTreeMap<Bytes, Bytes>| {
                    data.insert(request.key, request.value);
                    Code::Ok
                };
                match self.write(&mut shared, request.stamp, execute) {
                    Some((outcome, version)) => reply.send(&kv::PutReply { outcome, version }),
                    None => reply.fail(rpc::Status::Internal, "lost"),
                }
            }
        }
    }

    fn append(&self, request: kv::AppendRequest, reply: Reply<kv::AppendReply>) {
        let mut shared = self.shared.lock().unwrap();
        match self.fate(&mut shared) {
            Fate::Silence => shared.faults.kept.push(Box::new(reply)),
            Fate::Refuse(outcome) => reply.send(&kv::AppendReply { outcome, version: 0 }),
            Fate::Answer => {
                let execute = |data: &mut BTreeMap<Bytes, Bytes>| {
                    let before = data.get(&request.key).cloned().unwrap_or_default();
                    data.insert(request.key, [before, request.value].concat().into());
                    Code::Ok
                };
                match self.write(&mut shared, request.stamp, execute) {
                    Some((outcome, version)) => reply.send(&kv::AppendReply { outcome, version }),
                    None => reply.fail(rpc::Status::Internal, "lost"),
                }
            }
        }
    }

    fn delete(&self, request: kv::DeleteRequest, reply: Reply<kv::DeleteReply>) {
        let mut shared = self.shared.lock().unwrap();
        match self.fate(&mut shared) {
            Fate::Silence => shared.faults.kept.push(Box::new(reply)),
            Fate::Refuse(outcome) => reply.send(&kv::DeleteReply { outcome, version: 0 }),
            Fate::Answer => {
                let execute = |data: &mut BTreeMap<Bytes, Bytes>| match data.remove(&request.key) {
                    Some(_) => Code::Ok,
                    None => Code::NotFound,
                };
                match self.write(&mut shared, request.stamp, execute) {
                    Some((outcome, version)) => reply.send(&kv::DeleteReply { outcome, version }),
                    None => reply.fail(rpc::Status::Internal, "lost"),
                }
            }
        }
    }
}
