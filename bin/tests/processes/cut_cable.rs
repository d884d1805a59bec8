//! A cable that is cut between a client and a server of the RPC framework: no FIN, no RST, no acknowledgement, as from a
//! machine that has lost its power. Each side finds out by itself, within its own bound.

use std::env;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::friend::{FiendServiceRpc, FiendServiceRpcDispatcher};
use proto::friend::{GetFriendsListRequest, GetFriendsListResponse};
use rpc::{
    ChannelConfig, ChannelState, Method, PendingReply, ProviderConfig, Reactor, ReactorConfig, Reply,
    RpcChannel, RpcController, RpcError, RpcProvider, Step,
};
use tempfile::TempDir;

use crate::support::cluster::take_turn;
use crate::support::lab::{self, Lab};
use crate::support::network::Network;
use crate::support::process::Process;
use crate::support::wait::{LONG, until};

/// How long a server keeps an idle connection, in milliseconds: set in the process that is one.
const SERVER: &str = "CUT_CABLE_SERVER_IDLE_MS";

const LIST: Method = Method::new("FiendServiceRpc", "GetFriendsList");

/// How late the end of a bound may be noticed on a busy machine.
const NOISE: Duration = Duration::from_secs(5);

/// Answers after as many milliseconds as the user's number.
struct Friends;

impl FiendServiceRpc for Friends {
    fn get_friends_list(&self, request: GetFriendsListRequest, reply: Reply<GetFriendsListResponse>) {
        let delay = Duration::from_millis(u64::from(request.userid));
        reply.send_after(delay, GetFriendsListResponse::default());
    }
}

/// No test: what a server runs, being this program, too. In the first process there is nothing to do.
#[test]
fn the_part_of_the_server() {
    let Ok(idle_ms) = env::var(SERVER) else { return };
    let idle_timeout = Duration::from_millis(idle_ms.parse().unwrap());
    let reactor = Reactor::start("server", ReactorConfig::default()).unwrap();
    let provider = RpcProvider::new(&reactor, ProviderConfig { idle_timeout, ..ProviderConfig::default() });
    provider.notify_service(Arc::new(FiendServiceRpcDispatcher::new(Arc::new(Friends)))).unwrap();
    provider.listen(&format!("{}:{}", Lab::host(0), lab::PORT)).unwrap();
    provider.run();
}

/// A client of this process, and a server at the other end of a cable.
struct Ends {
    channel: RpcChannel,
    server: Process,
    client: Reactor,
    lab: Lab,
    _folder: TempDir,
}

impl Ends {
    /// Once the channel has its connection.
    fn start(idle_timeout: Duration, config: ChannelConfig) -> Ends {
        let lab = Lab::build(1);
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "cut_cable::the_part_of_the_server", "--nocapture"]);
        command.env(SERVER, idle_timeout.as_millis().to_string());
        let folder = tempfile::tempdir().unwrap();
        let server = Process::start(lab.start_here(0, command), &folder.path().join("server.log"));
        let client = Reactor::start("client", ReactorConfig::default()).unwrap();
        let address = format!("{}:{}", Lab::host(0), lab::PORT);
        let channel = RpcChannel::new(&client, &address, config);
        let ends = Ends { channel, server, client, lab, _folder: folder };
        until("the server answers", LONG, || ends.call().is_ok());
        assert_eq!(ends.connections(), 1);
        ends
    }

    fn call(&self) -> Result<GetFriendsListResponse, RpcError> {
        self.channel.call(&LIST, &RpcController::new(), &GetFriendsListRequest { userid: 0 })
    }

    /// Begins a call that is answered after a while.
    fn begin(&self, after: Duration, timeout: Duration) -> PendingReply<GetFriendsListResponse> {
        let controller = RpcController::new();
        controller.set_timeout(timeout);
        let userid = u32::try_from(after.as_millis()).unwrap();
        self.channel.begin(&LIST, &controller, &GetFriendsListRequest { userid })
    }

    /// How many connections the server has open. Those that it has closed are in another state, whatever the other end
    /// knows of it.
    fn connections(&self) -> usize {
        let sockets = fs::read_to_string(format!("/proc/{}/net/tcp", self.server.pid())).unwrap();
        // Of each socket: number, own address, the other's, state, of which 01 is an open connection.
        let port = format!(":{:04X}", lab::PORT);
        let fields = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<&str>>());
        fields.filter(|fields| fields[1].ends_with(&port) && fields[3] == "01").count()
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.client.stop(Duration::ZERO);
    }
}

#[test]
fn a_client_whose_cable_is_cut_ends_its_calls_and_is_served_again_when_it_is_mended() {
    if !lab::is_inside() {
        let _turn = take_turn();
        return lab::run_inside(
            "cut_cable::a_client_whose_cable_is_cut_ends_its_calls_and_is_served_again_when_it_is_mended",
        );
    }
    let (keep_alive, ping_timeout) = (Duration::from_millis(500), Duration::from_secs(1));
    let connect_timeout = Duration::from_millis(500);
    let config = ChannelConfig { keep_alive, ping_timeout, connect_timeout, ..ChannelConfig::default() };
    let ends = Ends::start(ProviderConfig::default().idle_timeout, config);
    // Of two calls with distant deadlines, the server has one, and the other never comes there.
    let arrived = ends.begin(10 * LONG, LONG);
    // What is sent behind it is answered behind it.
    ends.call().unwrap();
    ends.lab.cut_cable(0);
    let since = Instant::now();
    let lost = ends.begin(Duration::ZERO, LONG);
    for call in [arrived, lost] {
        match call.wait() {
            Err(RpcError::Closed { cause, step: Step::KeepAlive, may_have_run: true, .. }) => {
                assert_eq!(cause, "the server gave no sign of life");
            }
            other => panic!("{other:?}"),
        }
    }
    let took = since.elapsed();
    assert!(took < keep_alive + ping_timeout + NOISE, "{took:?}");
    assert_eq!(ends.channel.state(), ChannelState::Idle, "nobody has asked for a further connection");
    assert_eq!(ends.connections(), 1, "the server knows nothing of it");

    let refused = ends.call();
    assert!(matches!(refused, Err(RpcError::Connect { .. })), "{refused:?}");
    let state = ends.channel.state();
    assert!(matches!(state, ChannelState::Waiting { error: RpcError::Connect { .. }, .. }), "{state:?}");

    ends.lab.mend_cable(0);
    until("the channel is served again", LONG, || ends.call().is_ok());
    assert_eq!(ends.channel.state(), ChannelState::Ready);
    // The old one ends when the client's system is heard saying once more that it has ended.
    until("the server has one connection", LONG, || ends.connections() == 1);
    ends.call().unwrap();
}

#[test]
fn a_server_closes_the_connection_of_a_client_whose_cable_is_cut() {
    if !lab::is_inside() {
        let _turn = take_turn();
        return lab::run_inside("cut_cable::a_server_closes_the_connection_of_a_client_whose_cable_is_cut");
    }
    let (idle_timeout, timeout) = (Duration::from_millis(500), Duration::from_millis(300));
    let ends = Ends::start(idle_timeout, ChannelConfig::default());
    let arrived = ends.begin(2 * timeout, timeout);
    ends.call().unwrap();
    ends.lab.cut_cable(0);
    let since = Instant::now();
    let late = arrived.wait();
    assert_eq!(late, Err(RpcError::DeadlineExceeded { timeout, may_have_run: true }));
    until("the server closes the connection", LONG, || ends.connections() == 0);
    // The call's time at the server, a whole time in which nothing comes, and as long again to obey the word to leave.
    let took = since.elapsed();
    assert!(took < 2 * timeout + 3 * idle_timeout + NOISE, "{took:?}");
    ends.lab.mend_cable(0);
    until("the channel is served again", LONG, || ends.call().is_ok());
}
