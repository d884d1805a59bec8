//! What happens when: the queue of everything that is to come, in the order of virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use bytes::Bytes;
use clerk::machine::CallId;
use clerk::{Operation, Request, Verdict};

use crate::faults::Fault;
use crate::links::Way;
use crate::news::News;
use crate::post::Letter;
use crate::tap::Attempt;

/// A room of a node, or one of its clocks: what takes a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// The end of the reactor's poll turn.
    Reactor,
    /// The log writer takes what there is.
    Writer,
    /// The log writer's disk is done with one operation.
    LogDisk,
    /// No work came for as long as the log writer has patience.
    IdleWriter,
    /// The applier finds room in the queue.
    Applier,
    /// The apply-loop takes what there is.
    ApplyLoop,
    /// The snapshotter does a task or goes on.
    Snapshotter,
    /// No task came for as long as the snapshotter has patience.
    IdleSnapshotter,
    /// A tick of the election timer.
    ElectionTick,
    /// A heartbeat interval is over.
    HeartbeatTick,
}

/// How many rooms there are.
pub(crate) const ROOMS: usize = 10;

/// What arrives at a node.
#[derive(Clone, Debug)]
pub(crate) enum Parcel {
    /// A peer asks. The life is the asker's.
    Question { letter: Letter, life: u32 },
    /// A peer answers what this life asked.
    Answer { letter: Letter, life: u32 },
    /// Something that a peer says to another node, or that is said in another cluster.
    Stray { letter: Letter },
    /// A chunk of a snapshot.
    Chunk { number: u64, bytes: Bytes },
    /// The answer to a chunk.
    ChunkAnswer { number: u64, bytes: Bytes },
    /// A probe of this life of a process.
    Probe { life: u32, bytes: Bytes },
    /// The answer to it.
    ProbeAnswer { life: u32, bytes: Bytes },
    /// A client's request.
    Request { attempt: Attempt, request: Request },
}

impl Parcel {
    /// Which of the two connections from its sender to its receiver it is on.
    pub(crate) fn way(&self) -> Way {
        match self {
            Parcel::Answer { .. } | Parcel::ChunkAnswer { .. } | Parcel::ProbeAnswer { .. } => Way::Answering,
            Parcel::Question { .. }
            | Parcel::Stray { .. }
            | Parcel::Chunk { .. }
            | Parcel::Probe { .. }
            | Parcel::Request { .. } => Way::Asking,
        }
    }
}

/// One thing that happens.
#[derive(Debug)]
pub(crate) enum Event {
    /// A room of a node takes a step, if it is still the same life.
    Step { node: usize, life: u32, room: Room },
    /// Something arrives. `number` is its place among all that was sent on this link.
    Arrival { from: usize, to: usize, number: u64, parcel: Parcel },
    /// A node's transport learns something of a peer.
    News { node: usize, life: u32, peer: usize, news: News },
    /// The answer to a chunk is waited for no longer.
    ChunkTimeout { number: u64 },
    /// A client hears what became of an attempt.
    Heard { attempt: Attempt, verdict: Verdict },
    /// A client stops waiting for an attempt.
    CallTimeout { client: usize, call: CallId, number: u64, timeout: Duration },
    /// A client's timer.
    ClientTimer { client: usize },
    /// The probe asks once more for what was refused for want of room.
    ProbeAgain { operation: Operation },
    /// A client has thought of something to do.
    Idea { client: usize },
    /// Something goes wrong: to this node, or to whom the dice choose, who also choose when the next does.
    Strike { aimed_at: Option<usize> },
    /// A node has said what a fault was waiting for.
    Ambush { node: usize, fault: Fault },
    /// A leader that one node does not reach any more is cut off from all, unless the links have changed since.
    Estrange { leader: usize, fault_number: u64 },
    /// A process that has begun to stand still does so altogether, until then.
    Freeze { node: usize, life: u32, until: u64 },
    /// The operator has a moment.
    Order,
    /// A node that was removed is stopped for good.
    Retire { node: usize },
    /// Somebody who knows this node alone asks it.
    Visit { node: usize },
    /// Somebody has seen that a node was elected, and knows who led before.
    Witness { leader: usize, former: usize },
    /// What the witness wrote is done.
    Testimony,
    /// Things may go wrong again.
    LullEnds,
    /// Something that went wrong is right again.
    Relief(Relief),
    /// A node is started.
    Birth { node: usize },
    /// A process that waits to be admitted asks its peers.
    Probes { node: usize, life: u32 },
    /// A machine that was lost is back with an empty disk.
    Return { node: usize },
    /// A node whose process found its disk broken ends.
    Exit { node: usize, life: u32 },
    /// The trouble is over, if enough has been done.
    Peace,
    /// It is looked at whether the cluster came to rest in time.
    Judgement,
}

/// What ends by itself after a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relief {
    /// The links are as they should be, unless another fault has had them since.
    Links { fault_number: u64 },
    /// A cut that comes and goes: it goes or comes.
    Flap { fault_number: u64, times_left: u64, is_cut: bool },
    /// A disk is as fast as it should be.
    Disk { node: usize },
}

/// The queue. Events of the same moment happen in the order they were scheduled in.
#[derive(Default)]
pub(crate) struct Events {
    /// When what happens, by its number and its place among `events`: what is sorted is small.
    heap: BinaryHeap<Reverse<(u64, u64, usize)>>,
    events: Vec<Option<Event>>,
    /// Places among `events` that are free.
    free: Vec<usize>,
    number: u64,
}

impl Events {
    pub(crate) fn schedule(&mut self, at: u64, event: Event) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[place] = Some(event);
        self.number += 1;
        self.heap.push(Reverse((at, self.number, place)));
    }

    /// The next event and its time.
    pub(crate) fn pop(&mut self) -> Option<(u64, Event)> {
        let Reverse((at, _, place)) = self.heap.pop()?;
        self.free.push(place);
        Some((at, self.events[place].take()?))
    }
}
