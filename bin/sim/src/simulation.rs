//! The run itself: takes event after event out of the queue and hands it to whom it concerns.
//!
//! One thread, no clock but the queue's, no chance but the seed's. What happens to nodes is in `rooms` and `births`, to
//! messages in `wires`, to clients in `people`, what goes wrong in `strikes`, and how it ends in `ending`.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft::core::NodeId;
use raft::net::Newcomer;
use raft::storage::Identity;
use raft::storage::disk::FileName;
use raft::storage::memory::MemoryFiles;

use crate::checks::consensus::ConsensusChecks;
use crate::checks::history::History;
use crate::checks::staleness::StalenessChecks;
use crate::checks::store::{StoreChecks, places_of_writes, writes_that_ran};
use crate::client::Client;
use crate::dice::Dice;
use crate::event::{Event, Events, ROOMS, Room};
use crate::faults::{Counters, Fault};
use crate::links::Links;
use crate::local_clock::{LocalClock, Time};
use crate::lulls::Lull;
use crate::newcomers::{self, Start};
use crate::node::{CLUSTER, VirtualNode};
use crate::operator::Operator;
use crate::plan::{Plan, SECOND};
use crate::post::Post;
use crate::tap::ChunkDone;
use crate::trace::Trace;
use crate::violation::Violation;
use crate::workload::key;

/// Simulated time after which a run that has not ended is a violation of its own.
const TIME_MAX_US: u64 = 900 * SECOND;

/// The concerns of the dice.
const NETWORK_CONCERN: u64 = 2;
const TURN_CONCERN: u64 = 3;
const STRIKE_CONCERN: u64 = 4;
const NEWS_CONCERN: u64 = 5;

/// A disk fault that is planned and has not happened yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Planned {
    /// The power goes off in an operation.
    PowerOff,
    /// An operation fails.
    Failure,
    /// A sync fails.
    FailedSync,
    /// There is no room for an operation.
    Full,
}

/// A machine: its disk, and the node that lives on it, if one does.
pub(crate) struct Machine {
    /// What its disk says whose it is.
    pub(crate) identity: Identity,
    pub(crate) files: MemoryFiles,
    /// Whether a node has begun its log there.
    pub(crate) has_log: bool,
    /// The process that waits until its node may take part, if one does.
    pub(crate) newcomer: Option<Newcomer>,
    pub(crate) start: Start,
    pub(crate) node: Option<VirtualNode>,
    /// Counts the lives; events of an earlier one are void.
    pub(crate) life: u32,
    /// When each room's next step is due. A step that comes at another time was put off or brought forward.
    pub(crate) due: [Option<u64>; ROOMS],
    /// Until when each room's thread is not scheduled.
    pub(crate) stalled_until: [u64; ROOMS],
    /// Requests of peers that wait for an answer.
    pub(crate) questions: BTreeMap<u64, Question>,
    pub(crate) next_token: u64,
    pub(crate) paused_until: u64,
    pub(crate) clock: LocalClock,
    /// How many times slower than usual its disk is.
    pub(crate) disk_slowness: u64,
    /// Since when its log writer and its snapshotter have nothing to do, if they have nothing.
    pub(crate) writer_waits_since: u64,
    pub(crate) snapshotter_waits_since: u64,
    pub(crate) planned: Option<Planned>,
    /// What happens to it as soon as it says something.
    pub(crate) ambush: Option<Fault>,
    pub(crate) exit_is_scheduled: bool,
    pub(crate) birth_is_scheduled: bool,
    /// The files in which a bit was flipped.
    pub(crate) flipped: Vec<FileName>,
    /// A bit was flipped in some file, repaired since or not.
    pub(crate) was_flipped: bool,
    /// It lacks a part of its log, and others are giving it back.
    pub(crate) is_convalescent: bool,
    /// It lacks nothing any more, which is not on record on its disk yet.
    pub(crate) heals: bool,
    /// Its data are damaged or gone; it never takes part again.
    pub(crate) is_out: bool,
    /// The disk with which it took part is gone.
    pub(crate) is_wiped: bool,
    /// Nobody has started it yet, or somebody stopped it for good.
    pub(crate) is_absent: bool,
}

/// A request of a peer, which waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    pub(crate) asker: NodeId,
    /// The asker's life.
    pub(crate) asked_in: u32,
    pub(crate) heard_at: u64,
}

/// A chunk on its way, or its answer.
pub(crate) struct PendingChunk {
    pub(crate) from: usize,
    pub(crate) to: NodeId,
    pub(crate) life: u32,
    pub(crate) done: ChunkDone,
}

/// How far the run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Things go wrong.
    Trouble,
    /// Nothing goes wrong any more; the cluster must come to rest.
    Peace,
    /// Somebody has not got everything yet.
    CatchingUp,
    /// The last reads are under way.
    LastReads,
    /// Leadership is being handed over.
    HandingOver,
    /// A member was removed, which must disturb nobody.
    Removing,
    /// Done.
    Over,
}

/// A run.
pub(crate) struct Simulation<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) now: u64,
    /// The same for the nodes' clocks.
    pub(crate) time: Time,
    pub(crate) events: Events,
    pub(crate) machines: Vec<Machine>,
    pub(crate) clients: Vec<Client>,
    pub(crate) links: Links,
    pub(crate) network_dice: Dice,
    pub(crate) turn_dice: Dice,
    pub(crate) strike_dice: Dice,
    pub(crate) news_dice: Dice,
    pub(crate) newcomer_dice: Dice,
    pub(crate) operator: Operator,
    pub(crate) post: Post,
    pub(crate) consensus: ConsensusChecks,
    pub(crate) store: StoreChecks,
    pub(crate) history: History,
    pub(crate) staleness: StalenessChecks,
    pub(crate) counters: Counters,
    pub(crate) trace: Trace<'a>,
    pub(crate) chunks: BTreeMap<u64, PendingChunk>,
    pub(crate) next_chunk: u64,
    pub(crate) fault_number: u64,
    pub(crate) phase: Phase,
    /// While one lasts, nothing further goes wrong.
    pub(crate) lull: Option<Lull>,
    /// The key of the write that was acknowledged last.
    pub(crate) last_written: Bytes,
    /// Who was elected last.
    pub(crate) leader: Option<usize>,
    /// Whom the witness asks, and whom the farewell concerns: who led before.
    pub(crate) former_leader: usize,
    /// Terms that had a leader when a member was removed.
    pub(crate) leaders_before: u64,
    /// What must be applied everywhere at the judgement.
    pub(crate) to_reach: u64,
    /// By when it must, if it took longer than five election timeouts.
    pub(crate) caught_up_by: u64,
    /// Operations of the probe.
    pub(crate) probes_begun: u64,
    /// Those that ended well.
    pub(crate) probes_served: u64,
}

impl<'a> Simulation<'a> {
    pub(crate) fn new(plan: &'a Plan, trace: Trace<'a>) -> Simulation<'a> {
        let nodes = plan.nodes as usize;
        let clients: Vec<Client> = (0..=plan.witness()).map(|number| Client::new(plan, number)).collect();
        Simulation {
            plan,
            now: 0,
            time: Time::default(),
            events: Events::default(),
            machines: (0..plan.nodes).map(|id| Machine::new(id, id < plan.founders)).collect(),
            links: Links::new(nodes + clients.len()),
            clients,
            network_dice: Dice::new(plan.seed, NETWORK_CONCERN),
            turn_dice: Dice::new(plan.seed, TURN_CONCERN),
            strike_dice: Dice::new(plan.seed, STRIKE_CONCERN),
            news_dice: Dice::new(plan.seed, NEWS_CONCERN),
            newcomer_dice: Dice::new(plan.seed, newcomers::CONCERN),
            operator: Operator::new(plan.seed),
            post: Post::new(plan.nodes),
            consensus: ConsensusChecks::new(nodes, plan.founders),
            store: StoreChecks::new(plan.workload),
            history: History::default(),
            staleness: StalenessChecks::default(),
            counters: Counters::default(),
            trace,
            chunks: BTreeMap::new(),
            next_chunk: 0,
            fault_number: 0,
            phase: Phase::Trouble,
            lull: None,
            last_written: key(0),
            leader: None,
            former_leader: 0,
            leaders_before: 0,
            to_reach: 0,
            caught_up_by: 0,
            probes_begun: 0,
            probes_served: 0,
        }
    }

    /// Runs to the end, or to the first violation.
    pub(crate) fn run(&mut self) -> Result<(), Violation> {
        self.make_directories();
        if self.plan.has(Fault::MemberChange) {
            self.events.schedule(self.plan.order_gap_us, Event::Order);
        }
        self.begin_ideas();
        self.events.schedule(self.plan.strike_gap_us, Event::Strike { aimed_at: None });
        self.events.schedule(self.plan.trouble_us, Event::Peace);
        while self.phase != Phase::Over {
            let Some((at, event)) = self.events.pop() else {
                return Violation::of("goes-on", "nothing is left to happen");
            };
            assert!(at >= self.now, "time goes one way");
            self.now = at;
            self.time.is(at);
            self.counters.events += 1;
            if at > TIME_MAX_US {
                return Violation::of("goes-on", format!("not over after {} s", TIME_MAX_US / SECOND));
            }
            self.happen(event)?;
        }
        self.staleness.check(writes_that_ran(&self.consensus))?;
        self.history.check(&places_of_writes(&self.consensus), writes_that_ran(&self.consensus))
    }

    /// What happened how often until now.
    pub(crate) fn counted(&self) -> Counters {
        let mut counters = self.counters.clone();
        counters.simulated_us = self.now;
        counters.leaders = self.consensus.leaders();
        counters.entries = self.consensus.committed.len() as u64;
        counters
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Step { node, life, room } => self.step(node, life, room),
            Event::Arrival { from, to, number, parcel } => self.arrive(from, to, number, parcel),
            Event::News { node, life, peer, news } => self.hear_news(node, life, peer, news),
            Event::ChunkTimeout { number } => self.lose_chunk(number),
            Event::Heard { attempt, verdict } => self.hear(attempt, verdict),
            Event::CallTimeout { client, call, number, timeout } => {
                self.time_out(client, call, number, timeout)
            }
            Event::ClientTimer { client } => self.wake_client(client),
            Event::ProbeAgain { operation } => self.begin_operation(self.plan.clients, operation),
            Event::Idea { client } => self.have_idea(client),
            Event::Strike { aimed_at } => self.strike(aimed_at),
            Event::Ambush { node, fault } => self.spring(node, fault),
            Event::Estrange { leader, fault_number } => {
                self.estrange(leader, fault_number);
                Ok(())
            }
            Event::Freeze { node, life, until } => {
                self.freeze(node, life, until);
                Ok(())
            }
            Event::Order => self.operate(),
            Event::Retire { node } => {
                self.retire(node);
                Ok(())
            }
            Event::Visit { node } => self.visit(node),
            Event::Witness { leader, former } => self.witness(leader, former),
            Event::Testimony => self.testify(),
            Event::LullEnds => self.end_lull(),
            Event::Relief(relief) => {
                self.relieve(relief);
                Ok(())
            }
            Event::Birth { node } => self.give_birth(node),
            Event::Probes { node, life } => self.probe_peers(node, life),
            Event::Return { node } => {
                self.come_back(node);
                Ok(())
            }
            Event::Exit { node, life } => self.exit(node, life),
            Event::Peace => self.make_peace(),
            Event::Judgement => self.judge(),
        }
    }

    /// A step of a room after the time a thread needs to wake up and do it.
    pub(crate) fn schedule_step(&mut self, node: usize, room: Room, after: u64) {
        let machine = &mut self.machines[node];
        if machine.due[room as usize].is_none() {
            let at = self.now + after;
            machine.due[room as usize] = Some(at);
            self.events.schedule(at, Event::Step { node, life: machine.life, room });
        }
    }

    /// How long a thread takes to do a turn; now and then it is not scheduled for long.
    pub(crate) fn turn_us(&mut self) -> u64 {
        if self.turn_dice.permille(3) {
            return self.turn_dice.between(1, 20_000);
        }
        self.turn_dice.between(1, self.plan.turn_us_max)
    }

    pub(crate) fn say_of_node(&mut self, node: usize, what: impl FnOnce() -> String) {
        self.trace.line(self.now, || format!("n{node}"), what);
    }

    pub(crate) fn is_trouble(&self) -> bool {
        self.phase == Phase::Trouble
    }

    /// Whether anything may go wrong now.
    pub(crate) fn is_rough(&self) -> bool {
        self.is_trouble() && self.lull.is_none()
    }
}

impl Machine {
    fn new(id: u64, is_founder: bool) -> Machine {
        Machine {
            identity: Identity::new(CLUSTER, NodeId(id), id),
            files: MemoryFiles::new(),
            has_log: false,
            newcomer: None,
            start: Start::first(is_founder),
            node: None,
            life: 0,
            due: [None; ROOMS],
            stalled_until: [0; ROOMS],
            questions: BTreeMap::new(),
            next_token: 0,
            paused_until: 0,
            clock: LocalClock::new(),
            disk_slowness: 1,
            writer_waits_since: 0,
            snapshotter_waits_since: 0,
            planned: None,
            ambush: None,
            exit_is_scheduled: false,
            birth_is_scheduled: false,
            flipped: Vec::new(),
            was_flipped: false,
            is_convalescent: false,
            heals: false,
            is_out: false,
            is_wiped: false,
            is_absent: false,
        }
    }
}
