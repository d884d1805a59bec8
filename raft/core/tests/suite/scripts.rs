//! Scenarios as text: each file in `tests/scripts` is named as a sentence, opens with what must be seen, and holds
//! commands with the output they gave when they were reviewed. `UPDATE_GOLDENFILES=1` records anew.
//!
//! Nothing happens by itself here: time, disks and the network stand still until a command moves them.
//!
//! - `cluster N [setting=value]`: N fresh nodes; settings are those of `Config`.
//! - `tick I [count=N]`, `heartbeat I`: one node's clock; `campaign I` ticks until its timer runs out.
//! - `propose I COMMAND…`, `read I CONTEXT`, `follower_read I CONTEXT`, `lease_read I CONTEXT`: a client.
//! - `clock MS [I…]`: what these nodes' clocks (all) show from now on; `age I`: what I can prove of its state's age.
//! - `persist [I…]`: finishes the writes of these nodes (of all).
//! - `deliver`, `drop`, `repeat` `[from=I] [to=I] [kind=NAME] [nth=N]`: what waits in the network arrives, is lost, or
//!   arrives and stays to arrive again.
//! - `settle`: persists and delivers until nothing moves.
//! - `cut I J…`, `heal`: sends between these nodes are lost; all links work again.
//! - `gone I J`, `unreachable I J`: node I notices that the process of J is gone, that the way to J is broken.
//! - `join N`: a fresh node that knows of no members.
//! - `change I V… [learners=L,L]`: node I is to change the members to these voters and learners; `members [I…]`.
//! - `hand_over I [J]`: node I is to hand leadership to node J, or to whom it chooses.
//! - `snapshot I`: takes a local snapshot.
//! - `chunk`, `install`, `transfer`, `repeat_transfer`, `fail` `[from=I] [to=I]`: of the snapshots under way a chunk
//!   arrives, the whole file is durable, both, both and it will come once more, or the transfer breaks off. The sender
//!   hears that it is installed when the marker is durable.
//! - `crash I [written=N]`: of the write under way N Readys reach the disk, none if it is not said; `start I`.
//! - `status [I…]`, `log I`.

use std::time::Duration;

use bytes::Bytes;
use goldenscript::{Command, Context, Runner};
use raft_core::{Config, NodeId};

use crate::world::{Failure, Selector, World};

impl Runner for World {
    type Command = Command;

    fn run(&mut self, command: &Command, _context: &Context) -> Result<String, Failure> {
        let nodes = numbers(command);
        let first = nodes.first().copied().unwrap_or(NodeId(0));
        match command.name.as_str() {
            "cluster" => self.found(first.0, setting_up(command)?),
            "tick" => {
                let core = self.core(first)?;
                (0..count(command, "count", 1)?).for_each(|_| core.tick_election());
            }
            "heartbeat" => self.core(first)?.tick_heartbeat(),
            "campaign" => self.campaign(first)?,
            "propose" => {
                let commands = command.args[1..].iter().map(|arg| Bytes::from(arg.to_string()));
                self.core(first)?.propose(commands.collect())?;
            }
            "join" => self.join(first),
            "change" => self.change(first, &nodes[1..], learners(command)?)?,
            "members" => self.members(&nodes)?,
            "hand_over" if nodes.len() == 1 => match self.core(first)?.hand_over() {
                Some(to) => self.out.push_str(&format!("{first} chooses {to}\n")),
                None => self.out.push_str(&format!("{first} chooses nobody\n")),
            },
            "hand_over" => {
                let to = second(&nodes)?;
                if let Err(refusal) = self.core(first)?.transfer_leadership(to) {
                    self.out.push_str(&format!("{first} refuses: {refusal}\n"));
                }
            }
            "read" => self.core(first)?.read_index(second(&nodes)?.0)?,
            "follower_read" => {
                if let Err(refusal) = self.core(first)?.follower_read(second(&nodes)?.0) {
                    self.out.push_str(&format!("{first} refuses: {refusal}\n"));
                }
            }
            "lease_read" => self.core(first)?.lease_read(second(&nodes)?.0)?,
            "clock" => self.set_clocks(Duration::from_millis(first.0), &nodes[1..]),
            "age" => self.age(first)?,
            "persist" => self.persist(&nodes)?,
            "deliver" => self.deliver(&Selector::of(command)?, false)?,
            "repeat" => self.deliver(&Selector::of(command)?, true)?,
            "drop" => {
                let lost = self.take(&Selector::of(command)?);
                self.out.extend(lost.iter().map(|lost| format!("lost {lost}\n")));
            }
            "settle" => self.settle()?,
            "cut" => self.cut(first, &nodes[1..]),
            "heal" => self.heal(),
            "gone" => self.core(first)?.peer_gone(second(&nodes)?),
            "unreachable" => self.core(first)?.unreachable(second(&nodes)?),
            "snapshot" => {
                let taken = if self.node(first)?.snapshot() { "took a snapshot" } else { "took no snapshot" };
                self.out.push_str(&format!("{first} {taken}\n"));
            }
            "chunk" => self.chunk(&Selector::of(command)?)?,
            "transfer" => self.transfer(&Selector::of(command)?, false)?,
            "install" => self.install(&Selector::of(command)?)?,
            "repeat_transfer" => self.transfer(&Selector::of(command)?, true)?,
            "fail" => self.fail(&Selector::of(command)?)?,
            "crash" => self.crash(first, count(command, "written", 0)?)?,
            "start" => self.node(first)?.start(0),
            "status" => self.status(&nodes)?,
            "log" => self.log(first)?,
            other => return Err(format!("no such command: {other}").into()),
        }
        self.serve(false)?;
        Ok(std::mem::take(&mut self.out))
    }
}

/// The positional numbers of a command: nodes, mostly.
fn numbers(command: &Command) -> Vec<NodeId> {
    let mut arguments = command.consume_args();
    std::iter::from_fn(|| arguments.next_pos()).map_while(|text| text.parse().ok()).map(NodeId).collect()
}

fn second(nodes: &[NodeId]) -> Result<NodeId, Failure> {
    nodes.get(1).copied().ok_or_else(|| "a second number is wanted".into())
}

/// The learners that a `change` names.
fn learners(command: &Command) -> Result<Vec<NodeId>, Failure> {
    let mut arguments = command.consume_args();
    let list = arguments.take_key("learners").map(str::to_owned).unwrap_or_default();
    let numbers = list.split(',').filter(|number| !number.is_empty());
    Ok(numbers.map(|number| number.parse().map(NodeId)).collect::<Result<_, _>>()?)
}

/// A number given by name, or else `default`.
fn count(command: &Command, name: &str, default: usize) -> Result<usize, Failure> {
    Ok(command.consume_args().take_key(name).map_or(Ok(default), str::parse)?)
}

/// What a `cluster` command changes in the settings.
fn setting_up(command: &Command) -> Result<impl Fn(&mut Config) + use<>, Failure> {
    let mut arguments = command.consume_args();
    let mut changes: Vec<fn(&mut Config, u64)> = Vec::new();
    let mut values: Vec<u64> = Vec::new();
    while let Some((setting, value)) = arguments.next_key() {
        changes.push(match setting {
            "trailing_entries" => |config, value| config.trailing_entries = value,
            "append_bytes_max" => |config, value| config.append_bytes_max = value,
            "inflight_messages_max" => |config, value| config.inflight_messages_max = value as usize,
            "inflight_bytes_max" => |config, value| config.inflight_bytes_max = value,
            "uncommitted_bytes_max" => |config, value| config.uncommitted_bytes_max = value,
            "preferred" => |config, value| config.priorities = vec![(NodeId(value), 1)],
            "lease_ms" => |config, value| config.lease = Some(Duration::from_millis(value)),
            "snapshot_ticks_max" => |config, value| config.snapshot_ticks_max = value as u32,
            other => return Err(format!("no such setting here: {other}").into()),
        });
        values.push(value.parse()?);
    }
    Ok(move |config: &mut Config| {
        changes.iter().zip(&values).for_each(|(change, value)| change(config, *value));
    })
}

/// What tells a sentence from a label.
const WORDS_MIN: usize = 4;

#[test]
fn every_script_gives_the_output_that_was_reviewed() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .map(|file| file.expect("readable").path())
        .collect();
    files.sort();
    assert!(files.len() >= 60, "the scripts are found");
    let mut failed = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("readable");
        let name = file.file_name().expect("it has one").to_string_lossy().into_owned();
        assert!(text.starts_with("# "), "{name} opens with what must be seen");
        assert!(name.split('_').count() >= WORDS_MIN, "{name} is a sentence");
        if let Err(error) = goldenscript::run(&mut World::default(), &file) {
            failed.push(format!("{name}: {error}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
