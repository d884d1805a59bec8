//! What the clients do: which operations, on how many keys, with values of which size.
//!
//! Every value written is unlike every other, so that a read tells which writes it saw.

use bytes::Bytes;
use clerk::Operation;

use crate::dice::Dice;

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
}

impl Workload {
    /// All of them.
    pub const ALL: [Workload; 5] =
        [Workload::Default, Workload::Reads, Workload::Appends, Workload::Large, Workload::Churn];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Workload::Default => "default",
            Workload::Reads => "reads",
            Workload::Appends => "appends",
            Workload::Large => "large",
            Workload::Churn => "churn",
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
        }
    }

    /// The workload of this name.
    pub fn named(name: &str) -> Option<Workload> {
        Workload::ALL.into_iter().find(|workload| workload.name() == name)
    }

    /// Whether values grow long.
    pub(crate) fn is_heavy(self) -> bool {
        matches!(self, Workload::Appends | Workload::Large)
    }

    pub(crate) fn keys(self, dice: &mut Dice) -> u64 {
        match self {
            Workload::Appends => dice.between(2, 6),
            Workload::Large => dice.between(3, 8),
            _ => dice.between(4, 24),
        }
    }

    /// Gets, puts, appends and deletes in a hundred.
    fn mix(self) -> [u64; 4] {
        match self {
            Workload::Default | Workload::Churn => [40, 30, 24, 6],
            Workload::Reads => [85, 8, 5, 2],
            Workload::Appends => [25, 0, 75, 0],
            Workload::Large => [35, 40, 20, 5],
        }
    }

    /// The next operation of a client; `number` is its own count of them.
    pub(crate) fn operation(self, dice: &mut Dice, client: usize, number: u64, keys: u64) -> Operation {
        let key = key(dice.between(0, keys - 1));
        let [gets, puts, appends, _] = self.mix();
        let choice = dice.between(0, 99);
        let padding = match self {
            Workload::Large => dice.between(1_000, 20_000),
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
            Operation::Get { key }
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
