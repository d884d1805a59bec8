//! Noticing at once that the process of a peer is gone, so that a killed leader is replaced without waiting for an
//! election timeout.
//!
//! Each node keeps one call open at every peer which is answered only when that peer stops. If the connection
//! breaks instead, the peer's process may have died, or only the connection: a fresh connection decides. Refused
//! means that nobody listens there any more; anything else means nothing, and the election timeout remains for it. A
//! machine that loses its power says neither, so this only ever adds to the timeout. That a wrong guess is harmless
//! is PreVote's doing.

use std::sync::{Arc, Weak};
use std::time::Duration;

use log::debug;
use proto::raft_rpc::{ProbeArgs, RaftRpcStub, WatchArgs, WatchReply};
use raft_core::NodeId;
use rpc::{ChannelConfig, Reactor, RpcChannel, RpcController, RpcError};

use super::border::Border;
use super::transport::{Inbox, PeerTransport};

/// How long one watch lasts before it is renewed.
const WATCH_TIME: Duration = Duration::from_secs(3600);

/// The pause before a watch that ended is begun again.
const WATCH_PAUSE: Duration = Duration::from_millis(100);

/// How long a fresh connection may take to be refused; a silent one is no proof.
const CONFIRM_TIME: Duration = Duration::from_millis(200);

/// The pause before a fresh connection that was reset is tried again, and how often that is done.
const CONFIRM_PAUSE: Duration = Duration::from_millis(3);
const CONFIRMS_MAX: u32 = 10;

/// The watches of one node over its peers.
pub struct PeerWatch {
    reactor: Reactor,
    border: Border,
    /// Which tells this watch of its peers, and so is not held in return.
    transport: Weak<PeerTransport>,
    inbox: Weak<dyn Inbox>,
}

impl PeerWatch {
    /// Watches all peers of `transport`, also those to come, until the reactor stops; `inbox` learns who is gone.
    pub fn start(reactor: &Reactor, border: Border, transport: &Arc<PeerTransport>, inbox: Weak<dyn Inbox>) {
        let (reactor, peers) = (reactor.clone(), Arc::downgrade(transport));
        let watch = Arc::new(PeerWatch { reactor, border, transport: peers, inbox });
        transport.for_each_peer(move |peer| watch.begin(peer));
    }

    fn begin(self: &Arc<Self>, peer: NodeId) {
        // Of a peer that is none any more nothing is to be learned.
        let Some(stub) = self.transport.upgrade().and_then(|transport| transport.stub(peer)) else { return };
        let controller = RpcController::new();
        controller.set_timeout(WATCH_TIME);
        let known_incarnation = self.border.members().incarnation(peer);
        let args = WatchArgs { envelope: Some(self.border.envelope(peer)), known_incarnation };
        let watch = Arc::clone(self);
        stub.watch_async(&controller, &args, move |result| watch.ended(peer, result));
    }

    fn ended(self: Arc<Self>, peer: NodeId, result: Result<WatchReply, RpcError>) {
        debug!("the watch over node {peer} ended: {result:?}");
        match result {
            Ok(farewell) if self.border.admit_answer(peer, &farewell).is_ok() => self.gone(peer),
            Ok(_) => {}
            Err(RpcError::Closed { .. }) => self.confirm(peer, CONFIRMS_MAX),
            Err(RpcError::Stopped { .. }) => return,
            Err(_) => {}
        }
        let watch = Arc::clone(&self);
        self.reactor.run_after(WATCH_PAUSE, Box::new(move || watch.begin(peer)));
    }

    /// Asks by a connection of its own, which no pause after the broken one delays. A process that dies closes its
    /// connections before its listener, so a fresh connection may be made just to be reset: then it is asked again.
    fn confirm(self: &Arc<Self>, peer: NodeId, attempts: u32) {
        let Some(address) = self.border.members().address(peer) else { return };
        let channel = RpcChannel::new(&self.reactor, &address, ChannelConfig::default());
        let controller = RpcController::new();
        controller.set_timeout(CONFIRM_TIME);
        let args = ProbeArgs { envelope: Some(self.border.envelope(peer)), incarnation: 0 };
        let (watch, kept) = (Arc::clone(self), channel.clone());
        RaftRpcStub::new(channel).probe_async(&controller, &args, move |result| {
            drop(kept);
            debug!("a fresh connection to node {peer}: {result:?}");
            match result {
                Err(RpcError::Connect { .. }) => watch.gone(peer),
                Err(RpcError::Closed { .. }) if attempts > 1 => {
                    let again = Arc::clone(&watch);
                    let action = Box::new(move || again.confirm(peer, attempts - 1));
                    watch.reactor.run_after(CONFIRM_PAUSE, action);
                }
                _ => {}
            }
        });
    }

    fn gone(&self, peer: NodeId) {
        if let Some(inbox) = self.inbox.upgrade() {
            inbox.gone(peer);
        }
    }
}
