//! What nodes take from each other over real connections: only what belongs to their cluster, answers too; and a node that
//! has stopped keeps nobody waiting.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use proto::raft_rpc::{
    AppendEntriesArgs, AppendEntriesReply, Envelope, InstallSnapshotRequest, InstallSnapshotResponse,
    ProbeArgs, ProbeReply, RaftRpc, RaftRpcDispatcher, RaftRpcStub, ReadIndexArgs, ReadIndexReply,
    RequestVoteArgs, RequestVoteReply, TimeoutNowArgs, TimeoutNowReply, WatchArgs, WatchReply,
};
use raft::core::{Body, Index, Message, NodeId, ReplyToken, Term};
use raft::driver::Transport;
use raft::net::{
    AddressBook, Admission, Answers, Border, ChunkAnswer, Inbox, PeerTransport, RaftService, SnapshotReceiver,
};
use raft::storage::DataDirectory;
use rpc::{
    ChannelConfig, ProviderConfig, Reactor, ReactorConfig, Reply, RpcChannel, RpcController, RpcError,
    RpcProvider, Service, Status,
};

/// Far more than anything here takes; it ends a test that would hang.
const LONG: Duration = Duration::from_secs(20);

const CLUSTER: &str = "ours";

#[derive(Debug)]
enum Heard {
    Message(Message),
    Lost(NodeId),
    Disowned(String),
}

/// Hands on what the core would hear.
struct Ear(Mutex<Sender<Heard>>);

impl Ear {
    fn new() -> (Arc<Ear>, Receiver<Heard>) {
        let (sender, receiver) = channel();
        (Arc::new(Ear(Mutex::new(sender))), receiver)
    }

    fn hand_on(&self, heard: Heard) {
        self.0.lock().unwrap().send(heard).unwrap();
    }
}

impl Inbox for Ear {
    fn receive(&self, message: Message) {
        self.hand_on(Heard::Message(message));
    }

    fn lost(&self, peer: NodeId) {
        self.hand_on(Heard::Lost(peer));
    }

    fn gone(&self, _: NodeId) {}

    fn disowned(&self, why: &str) {
        self.hand_on(Heard::Disowned(why.to_owned()));
    }
}

struct NoSnapshots;

impl SnapshotReceiver for NoSnapshots {
    fn chunk(&self, _: NodeId, _: InstallSnapshotRequest, _: ChunkAnswer) {}
}

/// A provider on a free port; its address and what keeps it alive.
fn serve(reactor: &Reactor, service: Arc<dyn Service>) -> (RpcProvider, String) {
    let provider = RpcProvider::new(reactor, ProviderConfig::default());
    provider.notify_service(service).unwrap();
    let address = provider.listen("127.0.0.1:0").unwrap().to_string();
    (provider, address)
}

fn border(cluster: &str, node: u64, address: &str) -> Border {
    let members = (0..3).map(|id| (NodeId(id), address.to_owned()));
    Border::new(cluster, NodeId(node), AddressBook::new(members))
}

fn controller() -> RpcController {
    let controller = RpcController::new();
    controller.set_timeout(LONG);
    controller
}

fn heartbeat() -> AppendEntriesArgs {
    let envelope = Some(border(CLUSTER, 0, "unused:1").envelope(NodeId(1)));
    AppendEntriesArgs { term: 1, heartbeat: true, envelope, ..AppendEntriesArgs::default() }
}

fn watch() -> WatchArgs {
    WatchArgs { envelope: heartbeat().envelope, known_incarnation: None }
}

fn is_shutting_down<R: std::fmt::Debug>(result: &Result<R, RpcError>) -> bool {
    matches!(result, Err(RpcError::Status { status: Status::ShuttingDown, .. }))
}

/// Node 1 as it stands at this border, what it hears, and the incarnation of its directory.
fn node_1(border: Border) -> (Arc<RaftService>, Receiver<Heard>, u64) {
    let directory = tempfile::tempdir().unwrap();
    let directory = DataDirectory::open(&directory.path().join("node1"), CLUSTER, NodeId(1)).unwrap();
    let incarnation = directory.identity().incarnation;
    let admission = Arc::new(Admission::new(border.clone(), directory, false));
    let service = Arc::new(RaftService::new(border, Arc::new(Answers::default()), admission));
    let (ear, heard) = Ear::new();
    service.open(ear, Arc::new(NoSnapshots));
    (service, heard, incarnation)
}

#[test]
fn a_node_hears_of_a_log_that_knows_it_with_other_data_also_from_a_node_that_its_file_does_not_name() {
    let reactor = Reactor::start("between-nodes", ReactorConfig::default()).unwrap();
    let alone = AddressBook::new([(NodeId(1), "unused:1".to_owned())]);
    let (service, heard, incarnation) = node_1(Border::new(CLUSTER, NodeId(1), alone));
    let (_provider, address) = serve(&reactor, Arc::new(RaftRpcDispatcher::new(service)));
    let stub = RaftRpcStub::new(RpcChannel::new(&reactor, &address, ChannelConfig::default()));
    let ask = |cluster, known| {
        let envelope = Some(border(cluster, 0, "unused:1").envelope(NodeId(1)));
        let refused = stub.watch(&controller(), &WatchArgs { envelope, known_incarnation: known });
        assert!(matches!(&refused, Err(RpcError::Status { status: Status::BadRequest, .. })), "{refused:?}");
    };
    for (cluster, known) in [(CLUSTER, None), (CLUSTER, Some(incarnation)), ("theirs", Some(incarnation ^ 1))]
    {
        ask(cluster, known);
        assert!(heard.try_recv().is_err(), "{cluster} {known:?} proves nothing");
    }
    ask(CLUSTER, Some(incarnation ^ 1));
    let Ok(Heard::Disowned(why)) = heard.try_recv() else { panic!("nothing was heard") };
    assert!(why.contains("the log of node 0 knows node 1 with other data"), "{why}");
    reactor.stop(LONG);
}

#[test]
fn a_member_that_knows_a_node_with_other_data_proves_nothing() {
    let reactor = Reactor::start("between-nodes", ReactorConfig::default()).unwrap();
    let (service, heard, incarnation) = node_1(border(CLUSTER, 1, "unused:1"));
    let (_provider, address) = serve(&reactor, Arc::new(RaftRpcDispatcher::new(Arc::clone(&service))));
    let stub = RaftRpcStub::new(RpcChannel::new(&reactor, &address, ChannelConfig::default()));

    let claim = WatchArgs { known_incarnation: Some(incarnation ^ 1), ..watch() };
    let (watched, farewell) = channel();
    stub.watch_async(&controller(), &claim, move |result| watched.send(result).unwrap());
    stub.append_entries_async(&controller(), &heartbeat(), |_| {});
    // The watch went before it on the same connection: it is not what was heard.
    assert!(matches!(heard.recv_timeout(LONG), Ok(Heard::Message(_))));
    service.say_farewell();
    assert!(farewell.recv_timeout(LONG).unwrap().is_ok(), "it has watched as any other");
    reactor.stop(LONG);
}

#[test]
fn a_node_that_has_stopped_keeps_no_peer_waiting() {
    let reactor = Reactor::start("between-nodes", ReactorConfig::default()).unwrap();
    let (service, heard, _) = node_1(border(CLUSTER, 1, "unused:1"));
    let (_provider, address) = serve(&reactor, Arc::new(RaftRpcDispatcher::new(Arc::clone(&service))));
    let stub = RaftRpcStub::new(RpcChannel::new(&reactor, &address, ChannelConfig::default()));

    let (watched, farewell) = channel();
    stub.watch_async(&controller(), &watch(), move |result| watched.send(result).unwrap());
    let (answered, answer) = channel();
    stub.append_entries_async(&controller(), &heartbeat(), move |result| answered.send(result).unwrap());
    // The watch went before it on the same connection: both have been filed.
    assert!(matches!(heard.recv_timeout(LONG), Ok(Heard::Message(_))));

    service.say_farewell();
    assert!(farewell.recv_timeout(LONG).unwrap().is_ok());
    assert!(stub.watch(&controller(), &watch()).is_ok(), "who watches later learns it, too");
    service.refuse_waiting();
    assert!(is_shutting_down(&answer.recv_timeout(LONG).unwrap()));
    assert!(is_shutting_down(&stub.append_entries(&controller(), &heartbeat())), "nobody would answer it");
    reactor.stop(LONG);
}

/// A peer that answers heartbeats with this envelope.
struct Peer(Option<Envelope>);

impl RaftRpc for Peer {
    fn append_entries(&self, _: AppendEntriesArgs, reply: Reply<AppendEntriesReply>) {
        let envelope = self.0.clone();
        reply.send(&AppendEntriesReply {
            term: 1,
            heartbeat: true,
            envelope,
            ..AppendEntriesReply::default()
        });
    }

    fn request_vote(&self, _: RequestVoteArgs, reply: Reply<RequestVoteReply>) {
        let envelope = self.0.clone();
        reply.send(&RequestVoteReply {
            term: 1,
            vote_granted: true,
            envelope,
            ..RequestVoteReply::default()
        });
    }

    fn read_index(&self, _: ReadIndexArgs, reply: Reply<ReadIndexReply>) {
        reply.send(&ReadIndexReply { envelope: self.0.clone(), ..ReadIndexReply::default() });
    }

    fn timeout_now(&self, _: TimeoutNowArgs, reply: Reply<TimeoutNowReply>) {
        reply.send(&TimeoutNowReply { envelope: self.0.clone() });
    }

    fn install_snapshot(&self, _: InstallSnapshotRequest, reply: Reply<InstallSnapshotResponse>) {
        let envelope = self.0.clone();
        reply.send(&InstallSnapshotResponse { envelope, ..InstallSnapshotResponse::default() });
    }

    fn watch(&self, _: WatchArgs, reply: Reply<WatchReply>) {
        reply.send(&WatchReply { envelope: self.0.clone() });
    }

    fn probe(&self, _: ProbeArgs, reply: Reply<ProbeReply>) {
        reply.send(&ProbeReply { envelope: self.0.clone(), ..ProbeReply::default() });
    }
}

/// What node 0 hears when it asks node 1 and the answer carries this envelope.
fn heard_of(envelope: Option<Envelope>) -> Heard {
    let reactor = Reactor::start("between-nodes", ReactorConfig::default()).unwrap();
    let (_provider, address) = serve(&reactor, Arc::new(RaftRpcDispatcher::new(Arc::new(Peer(envelope)))));
    let (ear, heard) = Ear::new();
    let inbox: Arc<dyn Inbox> = ear;
    let answers = Arc::new(Answers::default());
    let ours = border(CLUSTER, 0, &address);
    let transport = PeerTransport::new(&reactor, ours, answers, Arc::downgrade(&inbox));
    let body = Body::Heartbeat { leader_commit: Index(0), read_context: 0, fresh: None };
    let (from, to) = (NodeId(0), NodeId(1));
    transport.queue(vec![Message { from, to, term: Term(1), token: ReplyToken(0), body }]);
    transport.flush();
    let heard = heard.recv_timeout(LONG).unwrap();
    reactor.stop(LONG);
    heard
}

#[test]
fn an_answer_that_is_not_of_this_cluster_counts_as_lost() {
    let good = border(CLUSTER, 1, "unused:1").envelope(NodeId(0));
    let answer = heard_of(Some(good.clone()));
    assert!(matches!(&answer, Heard::Message(message) if message.from == NodeId(1)), "{answer:?}");
    let foreign = Envelope { cluster_id: Bytes::from_static(b"theirs"), ..good.clone() };
    let of_another_version = Envelope { version: 99, ..good.clone() };
    let of_another_node = Envelope { from: 2, ..good };
    for envelope in [None, Some(foreign), Some(of_another_version), Some(of_another_node)] {
        let answer = heard_of(envelope.clone());
        assert!(matches!(answer, Heard::Lost(NodeId(1))), "{envelope:?}: {answer:?}");
    }
}
