//! The kinds of faults, their names, and how often each happened.

use std::fmt;

use crate::reads::ReadCounters;

/// What may go wrong. A seed draws which of them do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A message is lost.
    Loss,
    /// A message arrives twice.
    Duplication,
    /// A message is on its way for up to seconds.
    Delay,
    /// A message arrives after one that was sent later on the same link. Follows from delays.
    Reordering,
    /// A message comes that is for another node, or of another cluster.
    Misdirection,
    /// Each link is cut or not, by dice.
    PartitionUniform,
    /// One node hears and reaches nobody.
    PartitionIsolate,
    /// The cluster falls apart into a majority and a minority.
    PartitionMajority,
    /// Some are heard but hear nothing.
    PartitionAsymmetric,
    /// Two cannot reach each other, while everybody else reaches both.
    PartitionPartial,
    /// A cut that comes and goes many times a second.
    PartitionFlapping,
    /// A client cannot reach a node.
    ClientCut,
    /// A process dies; its page cache stays.
    Kill,
    /// A machine loses its power, with everything that was not synced.
    PowerLoss,
    /// Power is lost while writes are under way: any sectors and names of the unsynced survive.
    TornWrite,
    /// The power goes off in the middle of a disk operation drawn by dice.
    PowerOffInOperation,
    /// All machines lose their power at once.
    PowerLossOfAll,
    /// A process stands still for a while and goes on.
    Pause,
    /// One thread of a process is not scheduled for a while.
    Stall,
    /// Connections of a node let nothing through for a while, and then all of it in order.
    Jam,
    /// A node's clock runs too fast or too slow.
    ClockDrift,
    /// A node's clock jumps ahead.
    ClockJump,
    /// A disk takes its time.
    SlowDisk,
    /// A disk operation fails, mostly a sync.
    FailedDisk,
    /// A sync fails: what it should have made durable is lost with the power, and a later sync says nothing of it.
    FailedSync,
    /// A disk has no room left.
    FullDisk,
    /// A bit of a stored file is another one now.
    BitFlip,
    /// The nodes are restarted one after the other.
    RollingRestart,
    /// A machine is gone with its disk.
    Wipe,
    /// Leadership is handed to another node.
    Transfer,
    /// An operator changes the members.
    MemberChange,
}

/// All of them, in the order of the closing line.
pub const FAULTS: [Fault; 31] = [
    Fault::Loss,
    Fault::Duplication,
    Fault::Delay,
    Fault::Reordering,
    Fault::Misdirection,
    Fault::PartitionUniform,
    Fault::PartitionIsolate,
    Fault::PartitionMajority,
    Fault::PartitionAsymmetric,
    Fault::PartitionPartial,
    Fault::PartitionFlapping,
    Fault::ClientCut,
    Fault::Kill,
    Fault::PowerLoss,
    Fault::TornWrite,
    Fault::PowerOffInOperation,
    Fault::PowerLossOfAll,
    Fault::Pause,
    Fault::Stall,
    Fault::Jam,
    Fault::ClockDrift,
    Fault::ClockJump,
    Fault::SlowDisk,
    Fault::FailedDisk,
    Fault::FailedSync,
    Fault::FullDisk,
    Fault::BitFlip,
    Fault::RollingRestart,
    Fault::Wipe,
    Fault::Transfer,
    Fault::MemberChange,
];

impl Fault {
    /// Its name on the closing line.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Loss => "lost",
            Fault::Duplication => "duplicated",
            Fault::Delay => "delayed",
            Fault::Reordering => "reordered",
            Fault::Misdirection => "misdirected",
            Fault::PartitionUniform => "cut-uniform",
            Fault::PartitionIsolate => "cut-one",
            Fault::PartitionMajority => "cut-halves",
            Fault::PartitionAsymmetric => "cut-one-way",
            Fault::PartitionPartial => "cut-partial",
            Fault::PartitionFlapping => "cut-flapping",
            Fault::ClientCut => "cut-client",
            Fault::Kill => "killed",
            Fault::PowerLoss => "power-lost",
            Fault::TornWrite => "torn",
            Fault::PowerOffInOperation => "off-in-operation",
            Fault::PowerLossOfAll => "all-off",
            Fault::Pause => "paused",
            Fault::Stall => "stalled",
            Fault::Jam => "jammed",
            Fault::ClockDrift => "drifted",
            Fault::ClockJump => "clock-jumped",
            Fault::SlowDisk => "slow-disk",
            Fault::FailedDisk => "failed-disk",
            Fault::FailedSync => "failed-sync",
            Fault::FullDisk => "full-disk",
            Fault::BitFlip => "flipped",
            Fault::RollingRestart => "rolled",
            Fault::Wipe => "wiped",
            Fault::Transfer => "transferred",
            Fault::MemberChange => "members-changed",
        }
    }

    /// Whether it cuts nodes from each other.
    pub(crate) fn is_partition(self) -> bool {
        matches!(
            self,
            Fault::PartitionUniform
                | Fault::PartitionIsolate
                | Fault::PartitionMajority
                | Fault::PartitionAsymmetric
                | Fault::PartitionPartial
                | Fault::PartitionFlapping
        )
    }

    /// Whether it needs more than one node.
    pub(crate) fn needs_peers(self) -> bool {
        self.is_partition() || matches!(self, Fault::Jam | Fault::Wipe | Fault::Transfer)
    }

    /// Whether it strikes now and then, as opposed to colouring every message or the whole run.
    pub(crate) fn strikes(self) -> bool {
        !matches!(
            self,
            Fault::Loss
                | Fault::Duplication
                | Fault::Delay
                | Fault::Reordering
                | Fault::Misdirection
                | Fault::ClockDrift
                | Fault::MemberChange
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A change of the members that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A node became a learner, or lives elsewhere.
    Added,
    /// A learner became a voter.
    Promoted,
    /// A member was removed.
    Removed,
    /// The leader was removed.
    LeaderRemoved,
    /// Any number of voters became others at once.
    Replaced,
}

/// How they are called on the closing line.
const CHANGES: [&str; 5] = ["added", "promoted", "removed", "leader-removed", "replaced"];

/// How often what happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    faults: [u64; FAULTS.len()],
    changes: [u64; CHANGES.len()],
    /// Operations that ended, in whatever way.
    pub operations: u64,
    /// The most clients with an operation under way at the same time; over several runs, the fewest of these.
    pub clients_at_once: u64,
    /// Writes of which it is not known whether they ran.
    pub unknown: u64,
    /// Operations that surely did not run.
    pub failed: u64,
    /// Terms in which somebody led.
    pub leaders: u64,
    /// Entries committed.
    pub entries: u64,
    /// Snapshots that a node received and installed.
    pub snapshots: u64,
    /// Lives of nodes, the first ones included.
    pub lives: u64,
    /// Lulls in which the cluster had to serve.
    pub lulls: u64,
    /// Starts that were refused because a file is damaged.
    pub refusals: u64,
    /// Reads by what they had to see.
    pub reads: ReadCounters,
    /// Starts on a damaged log that others repair.
    pub convalescents: u64,
    /// Repairs that were done with.
    pub healed: u64,
    /// Starts of machines that had lost their disk, on an empty one.
    pub returned: u64,
    /// Those of them that a peer knew with other data.
    pub kept_out: u64,
    /// Events of the simulation.
    pub events: u64,
    /// Simulated time in microseconds.
    pub simulated_us: u64,
}

impl Counters {
    /// One more of a kind.
    pub(crate) fn count(&mut self, fault: Fault) {
        self.faults[fault as usize] += 1;
    }

    /// How many of a kind there were.
    pub fn of(&self, fault: Fault) -> u64 {
        self.faults[fault as usize]
    }

    /// One more change of the members.
    pub(crate) fn changed(&mut self, change: Change) {
        self.changes[change as usize] += 1;
    }

    /// How many changes of the members were begun, by name.
    pub fn changes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CHANGES.into_iter().zip(self.changes)
    }

    /// Adds what another run counted.
    pub fn add(&mut self, other: &Counters) {
        for (sum, more) in self.faults.iter_mut().zip(other.faults) {
            *sum += more;
        }
        for (sum, more) in self.changes.iter_mut().zip(other.changes) {
            *sum += more;
        }
        self.clients_at_once = match self.clients_at_once {
            0 => other.clients_at_once,
            known => known.min(other.clients_at_once),
        };
        self.operations += other.operations;
        self.unknown += other.unknown;
        self.failed += other.failed;
        self.leaders += other.leaders;
        self.entries += other.entries;
        self.snapshots += other.snapshots;
        self.lives += other.lives;
        self.lulls += other.lulls;
        self.refusals += other.refusals;
        self.reads.add(&other.reads);
        self.convalescents += other.convalescents;
        self.healed += other.healed;
        self.returned += other.returned;
        self.kept_out += other.kept_out;
        self.events += other.events;
        self.simulated_us += other.simulated_us;
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "simulated-s={} operations={} clients-at-once={} unknown={} failed={} leaders={} entries={} snapshots-received={} lives={} \
             lulls={} refused-starts={} convalescents={} healed={} returned={} kept-out={} events={}",
            self.simulated_us / 1_000_000,
            self.operations,
            self.clients_at_once,
            self.unknown,
            self.failed,
            self.leaders,
            self.entries,
            self.snapshots,
            self.lives,
            self.lulls,
            self.refusals,
            self.convalescents,
            self.healed,
            self.returned,
            self.kept_out,
            self.events
        )?;
        write!(f, "{}", self.reads)?;
        FAULTS.iter().try_for_each(|fault| write!(f, " {fault}={}", self.of(*fault)))?;
        self.changes().try_for_each(|(name, count)| write!(f, " {name}={count}"))
    }
}
