//! What a seed draws before the run begins: the cluster, its settings, the clients, and what may go wrong.

use crate::births::SLOWEST_CLOCK_PERMILLE;
use crate::dice::Dice;
use crate::faults::{FAULTS, Fault};
use crate::reads::Reads;
use crate::settings::{Settings, draw_settings};
use crate::workload::Workload;

/// Microseconds in a second and in a millisecond.
pub(crate) const SECOND: u64 = 1_000_000;
pub(crate) const MS: u64 = 1_000;

/// The most nodes of which there may be more than found the cluster.
const NODES_MAX: u64 = 7;

/// The stream of dice that plans are drawn from, and the one of failing syncs.
const CONCERN: u64 = 1;
const FAILED_SYNC_CONCERN: u64 = 7;

/// The stream of whether founders meet, and how often they do, in a thousand.
const MEETING_CONCERN: u64 = 9;
const MEETING_PERMILLE: u64 = 300;

/// How often there is a kind of fault, in a thousand, and where the workload is about it.
const FAULT_PERMILLE: u64 = 450;
const FAULT_PERMILLE_ABOUT: u64 = 900;

/// A run, before it is run. The same plan gives the same run, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where it all comes from.
    pub seed: u64,
    /// What the clients do.
    pub workload: Workload,
    /// How many nodes there are.
    pub nodes: u64,
    /// How many of them, the first ones, found the cluster; the others may be taken in later.
    pub founders: u64,
    /// Whether they admit each other while the run goes on; else they have before it begins.
    pub founders_meet: bool,
    /// How many clients there are.
    pub clients: usize,
    /// Operations a client has under way at once, at most.
    pub operations_at_once: u64,
    /// How long a client thinks between two operations, at most, in microseconds.
    pub think_us_max: u64,
    /// How many keys they share.
    pub keys: u64,
    /// Whether what a damaged log has lost is given back by others; else its node refuses to start.
    pub repairs: bool,
    /// What their gets must see.
    pub reads: Reads,
    /// What may go wrong.
    pub faults: Vec<Fault>,
    /// When it stops going wrong, in microseconds, provided enough operations have ended.
    pub trouble_us: u64,
    /// Operations that must have ended before the trouble does.
    pub operations_min: u64,
    /// The longest pause between two strikes.
    pub strike_gap_us: u64,
    /// Strikes aimed at the leader, in a thousand.
    pub aimed_permille: u64,
    /// Elections after which the new leader is struck, in a thousand.
    pub election_struck_permille: u64,
    /// Strikes that wait until the node says something, in a thousand.
    pub ambush_permille: u64,
    /// Strikes after which somebody who knows only the node that was struck asks it, in a thousand.
    pub visited_permille: u64,
    /// Strikes after which nothing further goes wrong for a while, in a thousand.
    pub lull_permille: u64,
    /// How long an operator leaves the members as they are, at most.
    pub order_gap_us: u64,
    /// How long a node that died stays away, at most.
    pub absence_us_max: u64,
    /// Messages lost and doubled, in a thousand.
    pub loss_permille: u64,
    /// See there.
    pub duplication_permille: u64,
    /// Messages that take up to `slow_us_max`, in a thousand.
    pub slow_permille: u64,
    /// See there.
    pub slow_us_max: u64,
    /// How long any other message takes.
    pub delay_us: (u64, u64),
    /// How long a disk operation takes.
    pub disk_us: (u64, u64),
    /// How long a thread takes to wake up and do a turn, at most.
    pub turn_us_max: u64,
    /// Milliseconds.
    pub heartbeat_ms: u64,
    /// Milliseconds.
    pub election_min_ms: u64,
    /// Milliseconds.
    pub election_max_ms: u64,
    /// What each node is set to. Mostly the same; while an operator changes settings they differ.
    pub settings: Vec<Settings>,
}

impl Plan {
    /// What this seed draws for this workload; None draws the workload, too.
    pub fn draw(seed: u64, workload: Option<Workload>) -> Plan {
        let mut dice = Dice::new(seed, CONCERN);
        let drawn = dice.one(&Workload::ALL);
        let workload = workload.unwrap_or(drawn);
        let founders = dice.one(&[1, 2, 3, 3, 3, 3, 4, 5, 5, 5, 6, 7]);
        let mut faults = draw_faults(&mut dice, founders, workload);
        // Whatever else a seed draws does not depend on it.
        if Dice::new(seed, FAILED_SYNC_CONCERN).permille(FAULT_PERMILLE) {
            faults.push(Fault::FailedSync);
        }
        let strangers = dice.between(1, 4);
        let nodes = match faults.contains(&Fault::MemberChange) {
            true => (founders + strangers).min(NODES_MAX.max(founders)),
            false => founders,
        };
        let election_min_ms = dice.between(100, 400);
        let heartbeat_ms = dice.between(10, 40);
        // As the configuration asks for it. A clock that jumps is no clock to go by.
        let has_leases = dice.permille(500) && conf::leases_fit(heartbeat_ms, election_min_ms);
        if has_leases {
            faults.retain(|fault| *fault != Fault::ClockJump);
        }
        let has = |fault| faults.contains(&fault);
        let base_us = dice.one(&[50, 200, 1_000, 5_000]);
        let strike_gap_us = match workload {
            Workload::Churn | Workload::Snapshots => dice.between(300, 1_500) * MS,
            _ => dice.between(1_000, 8_000) * MS,
        };
        Plan {
            seed,
            workload,
            nodes,
            founders,
            founders_meet: Dice::new(seed, MEETING_CONCERN).permille(MEETING_PERMILLE),
            clients: dice.between(6, 8) as usize,
            operations_at_once: dice.between(1, 3),
            think_us_max: dice.between(100, 300) * workload.slowness() * MS,
            keys: workload.keys(&mut dice),
            trouble_us: dice.between(60, 75) * SECOND,
            operations_min: 1_000,
            strike_gap_us,
            aimed_permille: dice.one(&[0, 300, 700]),
            election_struck_permille: dice.one(&[0, 100, 400]),
            ambush_permille: dice.one(&[100, 400, 800]),
            visited_permille: dice.one(&[200, 600, 1000]),
            lull_permille: dice.one(&[20, 60]),
            order_gap_us: dice.between(100, 3_000) * MS,
            // Mostly short of the next strike: some of the time somebody is missing, but not everybody all the time.
            absence_us_max: match dice.permille(200) {
                true => 30 * SECOND,
                false => strike_gap_us.min(6 * SECOND),
            },
            loss_permille: if has(Fault::Loss) { dice.skewed(1, 300) } else { 0 },
            duplication_permille: if has(Fault::Duplication) { dice.skewed(1, 500) } else { 0 },
            slow_permille: if has(Fault::Delay) { dice.skewed(1, 300) } else { 0 },
            slow_us_max: dice.between(5, 3_000) * MS,
            delay_us: (base_us / 4, base_us * dice.between(1, 5)),
            // An election waits for several syncs, one after the other: it cannot be shorter than they are.
            disk_us: (20, dice.one(&[100, 500, 2_000, 10_000, 40_000]).min(election_min_ms * MS / 8)),
            turn_us_max: dice.one(&[5, 50, 500, 3_000]),
            heartbeat_ms,
            election_min_ms,
            election_max_ms: election_min_ms + dice.between(50, 300),
            settings: draw_settings(&mut dice, nodes, workload, has_leases),
            reads: Reads::draw(&mut dice, has_leases),
            repairs: nodes > 1 && dice.permille(700),
            faults,
        }
    }

    /// The calm run by which the speed is measured: three nodes, fifty operations per simulated second.
    pub fn calm(seed: u64) -> Plan {
        Plan {
            nodes: 3,
            founders: 3,
            founders_meet: false,
            clients: 5,
            operations_at_once: 1,
            think_us_max: 196 * MS,
            reads: Reads::default(),
            repairs: true,
            faults: Vec::new(),
            loss_permille: 0,
            duplication_permille: 0,
            slow_permille: 0,
            delay_us: (50, 250),
            disk_us: (20, 500),
            turn_us_max: 50,
            lull_permille: 0,
            settings: vec![Settings::calm(); 3],
            heartbeat_ms: 25,
            election_min_ms: 300,
            election_max_ms: 500,
            ..Plan::draw(seed, Some(Workload::Default))
        }
    }

    /// The same run without some kinds of faults.
    pub fn without(&self, left_out: &[Fault]) -> Plan {
        let mut plan = self.clone();
        plan.faults.retain(|fault| !left_out.contains(fault));
        for fault in left_out {
            match fault {
                Fault::Loss => plan.loss_permille = 0,
                Fault::Duplication => plan.duplication_permille = 0,
                Fault::Delay => plan.slow_permille = 0,
                _ => {}
            }
        }
        plan
    }

    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// Whether any node keeps the rule of leases.
    pub(crate) fn has_leases(&self) -> bool {
        self.settings.iter().any(|settings| settings.lease_reads)
    }

    /// The number of the client that is the last: behind those of the plan come the probe, the visitor and the witness.
    pub(crate) fn witness(&self) -> usize {
        self.clients + 2
    }

    /// The longest election timeout in microseconds.
    pub(crate) fn election_us_max(&self) -> u64 {
        self.election_max_ms * MS
    }

    /// The slowest clock's ticks while a right one has a thousand.
    pub(crate) fn slowest_clock_permille(&self) -> u64 {
        if self.has(Fault::ClockDrift) { SLOWEST_CLOCK_PERMILLE } else { 1000 }
    }
}

/// Each kind is there in half of the seeds: faults that never meet show what faults that always meet hide.
fn draw_faults(dice: &mut Dice, founders: u64, workload: Workload) -> Vec<Fault> {
    let mut faults = Vec::new();
    for fault in FAULTS.into_iter().filter(|fault| *fault != Fault::FailedSync) {
        let permille = if workload.is_about(fault) { FAULT_PERMILLE_ABOUT } else { FAULT_PERMILLE };
        if dice.permille(permille) {
            faults.push(fault);
        }
    }
    if founders == 1 && !faults.contains(&Fault::MemberChange) {
        faults.retain(|fault| !fault.needs_peers());
    }
    faults
}
