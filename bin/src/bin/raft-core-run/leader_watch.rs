//! Who leads: the nodes are asked, often while nobody does and once a second afterwards.
//!
//! The launcher could read its children's logs instead, but their words are for people and change. `admin.Status` is what any
//! operator sees, so what the launcher announces is what a client would find.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use proto::admin::{AdminStub, StatusReply, StatusRequest};
use rpc::{ChannelConfig, Reactor, ReactorConfig, RpcChannel, RpcController};

use crate::failure::Failure;
use crate::parent::Event;

/// Between two looks while nobody leads.
const LOOK_SOON: Duration = Duration::from_millis(50);
/// Between two looks while somebody does.
const LOOK_LATER: Duration = Duration::from_secs(1);
/// How long one node may take to answer; one that does not is passed over.
const ANSWER_WITHIN: Duration = Duration::from_millis(300);
/// How long closing the connections may take at the end.
const STOP_WITHIN: Duration = Duration::from_millis(200);

/// A change in who leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaderNews {
    /// A node says it leads, in the highest term anybody leads in.
    Leads { node: u64, term: u64 },
    /// Somebody led, and now nobody says so.
    Nobody,
}

/// The thread `leader-watch`; it ends when this handle is stopped.
pub(crate) struct LeaderWatch {
    look_now: Sender<()>,
    thread: JoinHandle<()>,
}

impl LeaderWatch {
    /// Starts asking the nodes at these addresses.
    pub(crate) fn start(addresses: Vec<String>, events: SyncSender<Event>) -> Result<LeaderWatch, Failure> {
        let reactor = Reactor::start("leader-watch-io", ReactorConfig::default()).map_err(|error| {
            Failure::Runtime(format!("the watch for a leader cannot be started: {error}"))
        })?;
        let (look_now, nudges) = channel();
        let body = move || {
            let stubs: Vec<AdminStub> = addresses
                .iter()
                .map(|address| AdminStub::new(RpcChannel::new(&reactor, address, ChannelConfig::default())))
                .collect();
            watch(&stubs, &nudges, &events);
            reactor.stop(STOP_WITHIN);
        };
        let thread = thread::Builder::new()
            .name("leader-watch".to_owned())
            .spawn(body)
            .map_err(|error| Failure::Runtime(format!("a thread cannot be started: {error}")))?;
        Ok(LeaderWatch { look_now, thread })
    }

    /// Something happened that may have changed the leader.
    pub(crate) fn look_now(&self) {
        // The thread is gone only after a failure that it has logged.
        let _ = self.look_now.send(());
    }

    /// Ends the thread.
    pub(crate) fn stop(self) {
        drop(self.look_now);
        if self.thread.join().is_err() {
            log::error!("the watch for a leader failed");
        }
    }
}

fn watch(stubs: &[AdminStub], nudges: &Receiver<()>, events: &SyncSender<Event>) {
    let mut known = LeaderNews::Nobody;
    loop {
        let found = look(stubs);
        // NB: never waits for room in the queue, which nobody empties while the launcher waits for this thread to end;
        // news that found no room is found again at the next look.
        if found != known && events.try_send(Event::Leader(found)).is_ok() {
            known = found;
        }
        let pause = if known == LeaderNews::Nobody { LOOK_SOON } else { LOOK_LATER };
        match nudges.recv_timeout(pause) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn look(stubs: &[AdminStub]) -> LeaderNews {
    let replies: Vec<Option<StatusReply>> = stubs
        .iter()
        .map(|stub| {
            let controller = RpcController::new();
            controller.set_timeout(ANSWER_WITHIN);
            stub.status(&controller, &StatusRequest {}).ok()
        })
        .collect();
    let leaders = replies.iter().flatten().filter(|reply| reply.role == "leader");
    match leaders.max_by_key(|reply| reply.term) {
        Some(reply) => LeaderNews::Leads { node: reply.node, term: reply.term },
        None => LeaderNews::Nobody,
    }
}
