//! What the clients do: which operations, on how many keys, with values of which size.
//!
//! Every value written is unlike every other, so that a read tells which writes it saw.

use bytes::Bytes;
use clerk::Operation;

use crate::dice::Dice;
use crate::faults::Fault;

/// A mix of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Some of everything.
    Default,
    /// Mostly gets.
    Reads,
    /// Mostly appends, to few keys, and nothing that takes away.
    Appends,
    /// Values of tens of kilobytes.
    Large,
    /// Some of everything, while nodes come and go all the time.
    Churn,
    /// Mostly deletes and what they take away.
    Deletes,
    /// Everybody at one key.
    HotKey,
    /// Hundreds of keys.
    ManyKeys,
    /// Values of kilobytes and hardly any log between two snapshots, while nodes stay away for longer than that.
    Snapshots,
}

impl Workload {
    /// All of them.
    pub const ALL: [Workload; 9] = [
        Workload::Default,
        Workload::Reads,
        Workload::Appends,
        Workload::Large,
        Workload::Churn,
        Workload::Deletes,
        Workload::HotKey,
        Workload::ManyKeys,
        Workload::Snapshots,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Workload::Default => "default",
            Workload::Reads => "reads",
            Workload::Appends => "appends",
            Workload::Large => "large",
            Workload::Churn => "churn",
            Workload::Deletes => "deletes",
            Workload::HotKey => "hot-key",
            Workload::ManyKeys => "many-keys",
            Workload::Snapshots => "snapshots",
        }
    }

    /// What it is, for those who choose.
    pub fn description(self) -> &'static str {
        match self {
            Workload::Default => "some of everything",
            Workload::Reads => "mostly gets",
            Workload::Appends => "mostly appends, to few keys",
            Workload::Large => "values of tens of kilobytes",
            Workload::Churn => "some of everything, while nodes come and go all the time",
            Workload::Deletes => "mostly deletes and what they take away",
            Workload::HotKey => "everybody at one key",
            Workload::ManyKeys => "hundreds of keys",
            Workload::Snapshots => "values of kilobytes, a snapshot every few, nodes away for longer",
        }
    }

    /// The workload of this name.
    pub fn named(name: &str) -> Option<Workload> {
        Workload::ALL.into_iter().find(|workload| workload.name() == name)
    }

    /// Whether values grow long.
    pub(crate) fn is_heavy(self) -> bool {
        matches!(self, Workload::Appends | Workload::Large | Workload::HotKey | Workload::Snapshots)
    }

    /// By how much its operations are larger than those of others, for bounds in bytes.
    pub(crate) fn scale(self) -> u64 {
        match self {
            Workload::Large => 20,
            Workload::Snapshots => 5,
            _ => 1,
        }
    }

    /// By how much its clients are slower: what is long takes its time, in the simulated cluster and to simulate.
    pub(crate) fn slowness(self) -> u64 {
        match self {
            Workload::Large => 4,
            Workload::Appends | Workload::HotKey | Workload::Snapshots => 2,
            _ => 1,
        }
    }

    /// Whether this kind of fault belongs to it.
    pub(crate) fn is_about(self, fault: Fault) -> bool {
        let is_churn = matches!(
            fault,
            Fault::Kill
                | Fault::PowerLoss
                | Fault::TornWrite
                | Fault::PartitionIsolate
                | Fault::RollingRestart
        );
        match self {
            Workload::Churn => is_churn,
            Workload::Snapshots => is_churn || fault == Fault::Pause,
            _ => false,
        }
    }

    pub(crate) fn keys(self, dice: &mut Dice) -> u64 {
        match self {
            Workload::Appends => dice.between(2, 6),
            Workload::Large | Workload::Snapshots => dice.between(3, 8),
            Workload::HotKey => 1,
            Workload::ManyKeys => dice.between(200, 800),
            _ => dice.between(4, 24),
        }
    }

    /// Gets, puts, appends and deletes in a hundred.
    fn mix(self) -> [u64; 4] {
        match self {
            Workload::Default | Workload::Churn | Workload::ManyKeys => [40, 30, 24, 6],
            Workload::Reads => [85, 8, 5, 2],
            Workload::Appends => [25, 0, 75, 0],
            Workload::Large | Workload::Snapshots => [35, 40, 20, 5],
            Workload::Deletes => [30, 25, 10, 35],
            Workload::HotKey => [40, 30, 30, 0],
        }
    }

    /// The next operation of a client; `number` is its own count of them.
    pub(crate) fn operation(self, dice: &mut Dice, client: usize, number: u64, keys: u64) -> Operation {
        let key = key(dice.between(0, keys - 1));
        let [gets, puts, appends, _] = self.mix();
        let choice = dice.between(0, 99);
        let padding = match self {
            Workload::Large => dice.skewed(500, 40_000),
            Workload::Snapshots => dice.skewed(300, 8_000),
            Workload::Appends => 0,
            _ => dice.skewed(0, 60),
        };
        let value = || {
            let mut value = format!("{client}.{number}");
            (0..padding).for_each(|_| value.push('_'));
            value.push(',');
            Bytes::from(value)
        };
        if choice < gets {
            Operation::get(key)
        } else if choice < gets + puts {
            Operation::Put { key, value: value() }
        } else if choice < gets + puts + appends {
            Operation::Append { key, value: value() }
        } else {
            Operation::Delete { key }
        }
    }
}

/// The key of this number.
pub(crate) fn key(number: u64) -> Bytes {
    Bytes::from(format!("k{number}"))
}
