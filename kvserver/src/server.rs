//! One node of the store: everything put together, started, and stopped in an order.
//!
//! A node listens before it takes part, so that its peers can probe it; a node with a new data directory takes part
//! only after its peers were probed, too (see `raft::net::Admission`). The stop: no new requests, tickers, log
//! writer, applier, queue closed and drained, snapshotter, every waiter answered, reactor flushed. A leader hands over before all of it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use log::info;
use proto::admin::{AdminDispatcher, StatusReply};
use proto::kv::{ForwardDispatcher, KvDispatcher};
use proto::kv_server_rpc::KvServerRpcDispatcher;
use proto::raft_rpc::RaftRpcDispatcher;
use raft::driver::{Clock, LogWriter, Supervisor, SystemClock, TickTimes, Watched};
use raft::net::{Admission, Answers, Border, Inbox, PeerTransport, PeerWatch, RaftService};
use raft::sync::{StopSignal, locked};
use rpc::{ProviderConfig, Reactor, ReactorConfig, Reserve, RpcProvider};

use crate::config::ServerConfig;
use crate::error::StartError;
use crate::forwarder::Forwarder;
use crate::intake::Intake;
use crate::opened::Opened;
use crate::parts::{Parts, tick_times};
use crate::service::{AdminService, ForwardService, KvServerService, KvService, MemberDesk, RequestLimits};
use crate::snapshotter::{SnapshotDesk, Snapshotter};

/// What a request may have beside one key and one value: a batch of entries or a chunk of a snapshot between nodes.
const PEER_BYTES: usize = 4 << 20;

/// The services that are answered however many clients there are: the one that nodes call each other by, and the one that
/// says how a node is.
const RESERVED_SERVICES: [&str; 2] = ["raftRpc", "admin"];

/// Connections that one other node may need at a time: its channel, the watch over us, a probe, and those of before that
/// have not ended yet.
const PEER_CONNECTIONS: usize = 8;

/// Room is kept for at least so many other nodes: more may be added while this one runs.
const PEERS_MIN: usize = 7;

/// Connections beyond the nodes' for those who ask how the node is.
const ADMIN_CONNECTIONS: usize = 8;

/// Calls in flight that one other node may need at a time.
const PEER_CALLS: usize = 1024;

/// How long a connection beyond `connections_max` may take to show what it is for.
const FIRST_CALL_TIME: Duration = Duration::from_secs(1);

/// A leader that stops tries to hand over, and looks again after so long whether its choice is still there: all nodes of a
/// cluster may be stopped at once. Where a successor answers, it stands within milliseconds.
const HAND_OVER_LOOK: Duration = Duration::from_millis(5);

/// So many looks later it stops without a successor.
const HAND_OVER_LOOKS: u32 = 40;

/// How long the last replies may take to leave when the node stops.
const FLUSH_TIME: Duration = Duration::from_secs(1);

/// Why a node stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It was told to.
    Asked,
    /// Its disk, one of its threads or its start broke; in words.
    Failed(String),
}

/// A running node.
pub struct Server {
    reactor: Reactor,
    provider: RpcProvider,
    address: SocketAddr,
    shared: Arc<Shared>,
    admission: Mutex<Option<Watched>>,
}

/// What the starting thread and the server's handle share.
struct Shared {
    stop: Arc<StopSignal>,
    parts: Parts,
    times: TickTimes,
    raft_service: Arc<RaftService>,
    desk: Arc<SnapshotDesk>,
    running: Mutex<Option<Running>>,
}

/// The threads of a node that takes part.
struct Running {
    supervisor: Supervisor,
    apply_loop: Watched,
    snapshotter: Watched,
}

/// What becomes threads once the node is admitted.
struct Waiting {
    reactor: Reactor,
    border: Border,
    admission: Arc<Admission>,
    transport: Arc<PeerTransport>,
    raft_service: Arc<RaftService>,
    admin_service: Arc<AdminService>,
    writer: LogWriter,
    apply_loop: crate::apply_loop::ApplyLoop,
    snapshotter: Snapshotter,
    desk: Arc<SnapshotDesk>,
}

impl Server {
    /// Opens the data directory, recovers what is in it, listens, and takes part once the node is admitted.
    ///
    /// # Errors
    /// When the configuration, the directory, its data or the address cannot be used; nothing is left running.
    pub fn start(config: &ServerConfig) -> Result<Server, StartError> {
        let opened = Opened::open(config)?;
        let reactor = Reactor::start("reactor-0", ReactorConfig::default())?;
        match Server::assemble(config, opened, &reactor) {
            Ok(server) => Ok(server),
            Err(error) => {
                reactor.stop(Duration::ZERO);
                Err(error)
            }
        }
    }

    fn assemble(config: &ServerConfig, opened: Opened, reactor: &Reactor) -> Result<Server, StartError> {
        let stop = Arc::new(StopSignal::default());
        let node_id = raft::core::NodeId(config.node_id);
        let config = &ServerConfig { founders: opened.directory.identity().founders(), ..config.clone() };
        let (parts, apply_loop) =
            Parts::join(config, opened.log, &opened.state, &opened.desk, &stop, opened.random)?;
        let border = Border::new(&config.cluster_id, node_id, parts.book.clone());
        let answers = Arc::new(Answers::default());
        let node: Arc<dyn Inbox> = Arc::clone(&parts.node) as _;
        let inbox = Arc::downgrade(&node);
        let transport = Arc::new(PeerTransport::new(reactor, border.clone(), Arc::clone(&answers), inbox));
        parts.connect(Arc::clone(&transport) as _);
        if opened.is_convalescent {
            parts.convalesce();
        }
        let admission = Arc::new(Admission::new(border.clone(), opened.directory, config.joins));
        let raft_service = Arc::new(RaftService::new(border.clone(), answers, Arc::clone(&admission)));
        let admin_service =
            Arc::new(AdminService::new(fixed_status(config, &opened.file_system), opened.sync_times));
        let provider = RpcProvider::new(reactor, provider_config(config));
        provider.notify_service(Arc::new(RaftRpcDispatcher::new(Arc::clone(&raft_service))))?;
        provider.notify_service(Arc::new(AdminDispatcher::new(Arc::clone(&admin_service))))?;
        notify_client_services(&provider, config, &parts.intake, opened.start_number)?;
        let forward_service = ForwardService::new(Arc::clone(&parts.intake), border.clone());
        provider.notify_service(Arc::new(ForwardDispatcher::new(Arc::new(forward_service))))?;
        parts.intake.pass_on_by(Arc::new(Forwarder::new(reactor, border.clone())));
        connect_reactor(reactor, &parts);
        let address = provider.listen(&config.listen)?;
        info!("node {} of cluster \"{}\" listens on {address}", config.node_id, config.cluster_id);

        let snapshotter = Snapshotter::new(
            Arc::clone(&parts.node),
            Arc::clone(&opened.desk),
            Arc::clone(&opened.state),
            opened.snapshot_disk,
            opened.snapshots,
            Arc::clone(&transport) as _,
        );
        let spare_desk = Arc::clone(&opened.desk);
        let prepare_spare = move |plan| spare_desk.prepare_spare(plan).is_ok();
        let writer = LogWriter::new(opened.wal, opened.log_disk, prepare_spare);
        let desk = opened.desk;
        let waiting = Waiting {
            reactor: reactor.clone(),
            border,
            admission,
            transport,
            raft_service: Arc::clone(&raft_service),
            admin_service,
            writer,
            apply_loop,
            snapshotter,
            desk: Arc::clone(&desk),
        };
        let running = Mutex::default();
        let times = tick_times(config);
        let shared = Arc::new(Shared { stop, parts, times, raft_service, desk, running });
        let admission = {
            let shared_by_thread = Arc::clone(&shared);
            Watched::spawn(&shared.parts.node, "admission", move || waiting.take_part(&shared_by_thread))?
        };
        let admission = Mutex::new(Some(admission));
        Ok(Server { reactor: reactor.clone(), provider, address, shared, admission })
    }

    /// Where the node listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Blocks until the node has been told to stop or has failed. It must still be [`stopped`](Server::stop).
    pub fn wait(&self) -> Stopped {
        self.shared.stop.wait();
        self.shared.parts.application.failure().map_or(Stopped::Asked, Stopped::Failed)
    }

    /// A handle that ends [`wait`](Server::wait), for a signal handler's thread.
    pub fn stop_signal(&self) -> Arc<StopSignal> {
        Arc::clone(&self.shared.stop)
    }

    /// Stops every thread in order, answers everybody who waits, closes every connection. Idempotent.
    pub fn stop(&self) {
        self.shared.stop.stop();
        if let Some(admission) = locked(&self.admission).take() {
            admission.join();
        }
        let Shared { parts, raft_service, desk, running, .. } = &*self.shared;
        let threads = locked(running).take().map(|running| {
            hand_over(parts);
            running.supervisor.stop();
            (running.apply_loop, running.snapshotter)
        });
        // The last that peers hear: a heartbeat after it would make them believe in this leader again.
        parts.node.stop();
        raft_service.say_farewell();
        parts.queue.close();
        desk.close();
        if let Some((apply_loop, snapshotter)) = threads {
            apply_loop.join();
            snapshotter.join();
        }
        parts.shut_down();
        raft_service.refuse_waiting();
        self.provider.stop();
        self.reactor.stop(FLUSH_TIME);
    }
}

/// A leader that stops chooses its successor while it still can, so that nobody need notice its end.
fn hand_over(parts: &Parts) {
    for _ in 0..HAND_OVER_LOOKS {
        let Ok(Some(_)) = parts.node.with_core(|core| core.hand_over()) else { return };
        if parts.application.follows_within(HAND_OVER_LOOK) {
            return;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Waiting {
    /// The `admission` thread: waits until the node may take part, starts its threads, and ends.
    fn take_part(self, shared: &Shared) {
        if let Err(error) = self.admission.wait(&self.transport, &shared.stop) {
            if !shared.stop.is_stopped() {
                shared.parts.node.fail(&error.to_string());
            }
            return;
        }
        match self.start_threads(&shared.parts, shared.times) {
            Ok(running) => *locked(&shared.running) = Some(running),
            Err(error) => shared.parts.node.fail(&format!("a thread could not be started: {error}")),
        }
    }

    fn start_threads(self, parts: &Parts, times: TickTimes) -> std::io::Result<Running> {
        let Waiting { mut apply_loop, mut snapshotter, desk, .. } = self;
        let queue = Arc::clone(&parts.queue);
        let apply_loop = Watched::spawn(&parts.node, "apply-loop", move || apply_loop.run(&queue))?;
        let snapshotter = Watched::spawn(&parts.node, "snapshotter", move || snapshotter.run())?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        parts.node.keep_time(Arc::clone(&clock));
        let supervisor = Supervisor::start(&parts.node, &parts.applier, self.writer, &clock, times)?;
        self.raft_service.open(Arc::clone(&parts.node) as _, Arc::clone(&desk) as _);
        let inbox: Arc<dyn Inbox> = Arc::clone(&parts.node) as _;
        PeerWatch::start(&self.reactor, self.border.clone(), &self.transport, Arc::downgrade(&inbox));
        let members = MemberDesk::new(Arc::clone(&parts.node), self.reactor, self.border, self.admission);
        let (node, state, book) = (Arc::clone(&parts.node), Arc::clone(&parts.state), parts.book.clone());
        self.admin_service.open(node, state, book, Arc::new(members));
        Ok(Running { supervisor, apply_loop, snapshotter })
    }
}

/// The services that clients call; `start_number` tells the connections of this start from those of every other.
fn notify_client_services(
    provider: &RpcProvider,
    config: &ServerConfig,
    intake: &Arc<Intake>,
    start_number: u64,
) -> Result<(), StartError> {
    let limits =
        RequestLimits { key_bytes_max: config.key_bytes_max, value_bytes_max: config.value_bytes_max };
    let kv = Arc::new(KvService::new(Arc::clone(intake), limits));
    let origin = Arc::new(KvServerService::new(Arc::clone(intake), limits, config.node_id, start_number));
    provider.notify_service(Arc::new(KvDispatcher::new(kv)))?;
    provider.notify_service(Arc::new(KvServerRpcDispatcher::new(origin)))?;
    Ok(())
}

/// Each poll turn ends in one visit to the core. A panic in a callback may have left the node half changed: it stops.
fn connect_reactor(reactor: &Reactor, parts: &Parts) {
    let hook: Arc<dyn rpc::EndOfTurn> = Arc::clone(&parts.intake) as _;
    reactor.on_end_of_turn(Arc::downgrade(&hook));
    let node = Arc::downgrade(&parts.node);
    reactor.on_panic(move |what| {
        if let Some(node) = node.upgrade() {
            node.fail(&format!("a callback on its reactor panicked: {what}"));
        }
    });
}

fn provider_config(config: &ServerConfig) -> ProviderConfig {
    let args_bytes_max = config.key_bytes_max + config.value_bytes_max + PEER_BYTES;
    let peers = config.members.len().max(PEERS_MIN);
    let reserve = Reserve {
        services: RESERVED_SERVICES.map(str::to_owned).to_vec(),
        connections: peers * PEER_CONNECTIONS + ADMIN_CONNECTIONS,
        first_call_timeout: FIRST_CALL_TIME,
        calls: peers * PEER_CALLS,
        unfinished_bytes: peers * args_bytes_max,
    };
    ProviderConfig {
        connections_max: config.connections_max,
        reserve,
        calls_in_flight_max: config.calls_in_flight_max,
        args_bytes_max,
        ..ProviderConfig::default()
    }
}

fn fixed_status(config: &ServerConfig, file_system: &str) -> StatusReply {
    StatusReply {
        node: config.node_id,
        cluster_id: config.cluster_id.clone(),
        pid: std::process::id(),
        data_dir: config.data_dir.display().to_string(),
        file_system: file_system.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..StatusReply::default()
    }
}
