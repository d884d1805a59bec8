//! Passing a write on to the leader, for a client that cannot go there itself.
//!
//! One hop: the leader takes the write or refuses it. The client's deadline goes with it, and so does what makes it happen
//! once: its place in its session or, of an origin client, the number of its connection here. A call that breaks says
//! whether the write may have run. No thread waits: the answer's arrival on the reactor is the continuation.
//!
//! The channel is another one than Raft's, which large values must not hold up.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use proto::kv::{ForwardRequest, ForwardStub};
use raft::core::NodeId;
use raft::net::{Border, WIRE_VERSION};
use raft::sync::locked;
use rpc::{ChannelConfig, Reactor, RpcChannel, RpcController};

use crate::outcome::{Outcome, Refusal, ReplySink};
use crate::service::forwarded_outcome;

/// Writes that one node may have under way at the leader for others. Beyond it a client is refused with a hint, as if
/// nothing were passed on.
const FORWARDED_MAX: usize = 1024;

/// The longest pause between two attempts to reach a leader.
const BACKOFF_MAX: Duration = Duration::from_millis(100);

/// A write that this node cannot carry out.
pub struct PassedWrite {
    /// As it is to stand in the log.
    pub command: Bytes,
    /// Who waits.
    pub sink: Box<dyn ReplySink>,
    /// What is left of the client's time.
    pub timeout: Duration,
}

/// Passes writes on. The simulator has none.
pub trait PassOn: Send + Sync {
    /// Takes a write that is for `leader`, or gives it back if no more can be under way.
    ///
    /// # Errors
    /// The write, untouched.
    fn pass_on(&self, leader: NodeId, write: PassedWrite) -> Result<(), PassedWrite>;
}

/// Passes writes on over RPC.
pub struct Forwarder {
    reactor: Reactor,
    border: Border,
    /// The leader of the last write, at its address.
    leader: Mutex<Option<(Arc<str>, ForwardStub)>>,
    under_way: Arc<AtomicUsize>,
}

impl Forwarder {
    /// A forwarder of the node that stands at `border`; it connects at the first write.
    pub fn new(reactor: &Reactor, border: Border) -> Forwarder {
        let (leader, under_way) = Default::default();
        Forwarder { reactor: reactor.clone(), border, leader, under_way }
    }

    fn stub(&self, address: &Arc<str>) -> ForwardStub {
        let mut leader = locked(&self.leader);
        if let Some((known, stub)) = &*leader
            && known == address
        {
            return stub.clone();
        }
        let config = ChannelConfig { backoff_max: BACKOFF_MAX, ..ChannelConfig::default() };
        let stub = ForwardStub::new(RpcChannel::new(&self.reactor, address, config));
        let former = leader.replace((Arc::clone(address), stub.clone()));
        // A channel that ends tells those who wait for it: not under the lock.
        drop(leader);
        drop(former);
        stub
    }

    /// A place among the writes under way, if there is one.
    fn place(&self) -> Option<Place> {
        let taken = self.under_way.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            (count < FORWARDED_MAX).then_some(count + 1)
        });
        taken.ok().map(|_| Place(Arc::clone(&self.under_way)))
    }
}

/// Counts one write under way for as long as it lives.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl PassOn for Forwarder {
    fn pass_on(&self, leader: NodeId, write: PassedWrite) -> Result<(), PassedWrite> {
        let (Some(address), Some(place)) = (self.border.members().address(leader), self.place()) else {
            return Err(write);
        };
        let PassedWrite { command, sink, timeout } = write;
        let envelope = self.border.envelope(leader);
        let request = ForwardRequest {
            cluster_id: envelope.cluster_id,
            from: envelope.from,
            to: envelope.to,
            version: WIRE_VERSION,
            command,
        };
        let controller = RpcController::new();
        controller.set_timeout(timeout);
        self.stub(&address).write_async(&controller, &request, move |result| {
            drop(place);
            let outcome = match result {
                Ok(reply) => forwarded_outcome(reply),
                Err(error) => {
                    let may_have_run = error.may_have_run();
                    Outcome::Refused(Refusal::NotLeader { leader: None, may_have_run })
                }
            };
            sink.send_of(outcome, &address);
        });
        Ok(())
    }
}
