//! Much data: how soon a node that was away, or is new, has it; and what more nodes cost.

use std::hint;
use std::time::{Duration, Instant};

use proto::admin::change_member_request::Change;
use rustix::process::Signal;

use crate::Setting;
use crate::figure::Figure;
use crate::load::{self, Load};
use crate::nodes::{Nodes, eventually};

/// Clients that fill the store, and those that write while something is measured.
const FILLERS: u64 = 256;
const WRITERS: u64 = 64;

/// How long a rate is measured.
const RATE_WINDOW: Duration = Duration::from_secs(3);

/// How long a rate is measured that writing goes on at while a node joins: so long that every node also writes a snapshot
/// meanwhile, which they do every ten seconds or so and which costs much of it.
const LONG_RATE_WINDOW: Duration = Duration::from_secs(10);

/// How far a follower's newest snapshot may be behind when it is killed, in entries.
const BEHIND_MAX: u64 = 100_000;

/// What a node's memory takes for a key with its 256 bytes: measured, half as much again.
const STATE_BYTES_PER_KEY: usize = 400;
const PAGE_BYTES: usize = 4096;

fn filled(setting: &Setting) -> anyhow::Result<Nodes> {
    let nodes = Nodes::start(setting, 3)?;
    load::fill(&nodes.addresses(), FILLERS, setting.keys)?;
    Ok(nodes)
}

/// A follower is killed and started again: the time from its start until it has applied all that was committed then.
pub(crate) fn catch_up(setting: &Setting) -> anyhow::Result<Figure> {
    let mut figure = Figure::new("follower started again: up to date after", "ms");
    let mut nodes = filled(setting)?;
    for trial in 0..setting.trials {
        let leader = nodes.settled()?;
        let follower = (leader + 1 + trial % 2) % 3;
        let is_near = |nodes: &Nodes| {
            nodes.status(follower).is_some_and(|reply| reply.last - reply.snapshot <= BEHIND_MAX)
        };
        while !is_near(&nodes) {
            load::fill(&nodes.addresses(), FILLERS, setting.keys.min(BEHIND_MAX / 4))?;
        }
        nodes.signal(follower, Signal::KILL)?;
        nodes.reap(follower)?;
        let committed = eventually("the leader answers", || nodes.status(leader))?.commit;
        let began = Instant::now();
        nodes.start_node(follower, &[])?;
        eventually("it catches up", || nodes.status(follower).filter(|reply| reply.applied >= committed))?;
        figure.add(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(figure)
}

/// Takes fresh memory for a state of so many keys and touches each page once, as whoever receives that state must: the
/// time that alone takes. On a virtual machine the host may have to find each page, which takes many times as long.
fn first_touch(keys: u64) -> anyhow::Result<Duration> {
    let mut memory = vec![0_u8; usize::try_from(keys)? * STATE_BYTES_PER_KEY];
    let began = Instant::now();
    memory.iter_mut().step_by(PAGE_BYTES).for_each(|byte| *byte = 1);
    hint::black_box(&memory);
    Ok(began.elapsed())
}

/// A node is added while clients write: the time until it has acknowledged all that was committed when it was, and the
/// rate of writes meanwhile as a part of the rate before; and what a part of that takes whoever does it.
pub(crate) fn learner(setting: &Setting) -> anyhow::Result<[Figure; 4]> {
    let mut floor = Figure::new("first touch of the memory that its state takes", "ms");
    let mut time = Figure::new("learner added under writes: up to date after", "ms");
    let mut rate = Figure::new("writes before", "/s");
    let mut part = Figure::new("writes meanwhile, of the rate before", "%");
    let mut nodes = filled(setting)?;
    for _ in 0..setting.trials {
        let new = nodes.join()?;
        nodes.settled_without(new)?;
        floor.add(first_touch(setting.keys)?.as_secs_f64() * 1e3);
        let load = Load::start(&nodes.addresses()[..3], WRITERS, setting.keys)?;
        let before = load.rate(LONG_RATE_WINDOW);
        // Whoever that is: a disk that stalls takes it from one and gives it to another.
        let of_leader = || nodes.leader().and_then(|leader| nodes.status(leader));
        let committed = eventually("the leader answers", of_leader)?.commit;
        let (answered, began) = (load.answered(), Instant::now());
        nodes.change(new, Change::Add)?;
        eventually("the learner catches up", || {
            let status = of_leader()?;
            status.followers.into_iter().find(|peer| peer.node == new as u64 && peer.match_index >= committed)
        })?;
        let took = began.elapsed();
        let meanwhile = (load.answered() - answered) as f64 / took.as_secs_f64();
        time.add(took.as_secs_f64() * 1e3);
        rate.add(before);
        part.add(100.0 * meanwhile / before);
        part.add_errors(load.errors());
        drop(load);
        nodes.change(new, Change::Remove)?;
        nodes.discard(new)?;
    }
    Ok([floor, time, rate, part])
}

/// Writes per second on five nodes, as a part of those on three, one after the other.
pub(crate) fn five_nodes(setting: &Setting) -> anyhow::Result<Figure> {
    let mut figure = Figure::new("five nodes' writes, of three nodes'", "%");
    for _ in 0..setting.trials {
        let mut rate_of = |count| -> anyhow::Result<f64> {
            let nodes = Nodes::start(setting, count)?;
            let load = Load::start(&nodes.addresses(), WRITERS, setting.keys)?;
            load.rate(RATE_WINDOW / 3);
            let rate = load.rate(RATE_WINDOW);
            figure.add_errors(load.errors());
            Ok(rate)
        };
        let (three, five) = (rate_of(3)?, rate_of(5)?);
        figure.add(100.0 * five / three);
    }
    Ok(figure)
}
