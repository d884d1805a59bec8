//! From text to a checked [`Config`]: keys are recognised, values read, relations verified.
//!
//! Every message names the line that has to be changed. Lines are remembered per key for that reason only.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::address::{self, NODE_NUMBER_MAX, NODES_MAX, NodeAddress};
use crate::config::{Config, leases_fit};
use crate::error::ConfError;
use crate::line::parse_line;
use crate::settings::SETTINGS;

/// The longest cluster id, bytes: it travels in every Raft message.
const CLUSTER_ID_BYTES_MAX: usize = 64;

/// The highest priority of a node.
const PRIORITY_MAX: u32 = 100;

/// What the lines of one node said so far.
#[derive(Default)]
struct NodeLines {
    host: Option<(String, usize)>,
    port: Option<(u16, usize)>,
    listen: Option<(String, usize)>,
    priority: Option<(u32, usize)>,
}

/// The keys of a node.
#[derive(Clone, Copy)]
enum NodeKey {
    Ip,
    Port,
    Listen,
    Priority,
}

struct Parser<'a> {
    file: &'a str,
    config: Config,
    nodes: BTreeMap<u64, NodeLines>,
    lines: BTreeMap<String, usize>,
}

pub(crate) fn parse(text: &str, file: &str) -> Result<Config, ConfError> {
    let mut parser =
        Parser { file, config: Config::default(), nodes: BTreeMap::new(), lines: BTreeMap::new() };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (position, line) in text.lines().enumerate() {
        let number = position + 1;
        if let Some(assignment) = parse_line(line).map_err(|what| parser.at(number, what))? {
            parser.assign(&assignment.key, &assignment.value, number)?;
        }
    }
    parser.finish_nodes()?;
    parser.check_relations()?;
    Ok(parser.config)
}

impl Parser<'_> {
    fn at(&self, line: usize, what: impl Into<String>) -> ConfError {
        ConfError::Line { file: self.file.to_owned(), line, what: what.into() }
    }

    fn assign(&mut self, key: &str, value: &str, line: usize) -> Result<(), ConfError> {
        if let Some(first) = self.lines.insert(key.to_owned(), line) {
            return Err(self.at(line, format!("{key} stands already in line {first}; keep one of the two")));
        }
        let done = if let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) {
            setting.parse(value).map(|number| *(setting.slot)(&mut self.config) = number)
        } else if key == "cluster_id" {
            self.assign_cluster_id(value)
        } else if key == "data_dir" {
            self.assign_data_dir(value)
        } else if let Some((node, node_key)) = split_node_key(key) {
            self.assign_node(key, node, node_key, value, line)
        } else {
            Err(unknown_key(key))
        };
        done.map_err(|what| self.at(line, what))
    }

    fn assign_cluster_id(&mut self, value: &str) -> Result<(), String> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if value.is_empty() || value.len() > CLUSTER_ID_BYTES_MAX || !value.chars().all(legal) {
            return Err(format!(
                "cluster_id is {value:?}; write 1 to {CLUSTER_ID_BYTES_MAX} letters, digits, '-', '_' or '.'"
            ));
        }
        self.config.cluster_id = value.to_owned();
        self.config.cluster_id_is_set = true;
        Ok(())
    }

    fn assign_data_dir(&mut self, value: &str) -> Result<(), String> {
        if value.is_empty() {
            return Err("data_dir is empty; name a folder or remove the line".to_owned());
        }
        self.config.data_dir = Some(PathBuf::from(value));
        Ok(())
    }

    fn assign_node(
        &mut self,
        key: &str,
        node: u64,
        which: NodeKey,
        value: &str,
        line: usize,
    ) -> Result<(), String> {
        if node > NODE_NUMBER_MAX {
            return Err(format!("{key}: nodes are numbered from 0 to {NODE_NUMBER_MAX}"));
        }
        let named = |what: String| format!("{key}: {what}");
        let lines = self.nodes.entry(node).or_default();
        match which {
            NodeKey::Ip => {
                let host = address::parse_host(value).map_err(named)?;
                if address::is_unspecified(&host) {
                    return Err(format!(
                        "{key}: nobody can connect to {value}; write the address others reach this node at, and \
                         {value} in node{node}listen"
                    ));
                }
                lines.host = Some((host, line));
            }
            NodeKey::Port => lines.port = Some((address::parse_port(value).map_err(named)?, line)),
            NodeKey::Listen => lines.listen = Some((address::parse_host_port(value).map_err(named)?, line)),
            NodeKey::Priority => lines.priority = Some((parse_priority(value).map_err(named)?, line)),
        }
        Ok(())
    }

    fn finish_nodes(&mut self) -> Result<(), ConfError> {
        let nodes = std::mem::take(&mut self.nodes);
        let mut seen: BTreeMap<String, (u64, usize)> = BTreeMap::new();
        let mut listening: BTreeMap<(String, String), (u64, usize)> = BTreeMap::new();
        for (place, (id, lines)) in nodes.into_iter().enumerate() {
            let any = [
                lines.host.as_ref().map(|h| h.1),
                lines.port.map(|p| p.1),
                lines.listen.as_ref().map(|l| l.1),
                lines.priority.map(|p| p.1),
            ];
            let first_line = any.into_iter().flatten().min().unwrap_or(1);
            if place == NODES_MAX {
                let what = format!("node{id} is one too many; a file names at most {NODES_MAX} nodes");
                return Err(self.at(first_line, what));
            }
            let missing = |key: &str, example: &str| {
                self.at(
                    first_line,
                    format!("node{id}{key} is missing; add for instance node{id}{key}={example}"),
                )
            };
            let (host, host_line) = lines.host.ok_or_else(|| missing("ip", "127.0.0.1"))?;
            let (port, port_line) =
                lines.port.ok_or_else(|| missing("port", &(29016 + id % 1_000).to_string()))?;
            if let Some((priority, _)) = lines.priority.filter(|(priority, _)| *priority > 0) {
                self.config.priorities.insert(id, priority);
            }
            let listen_line = lines.listen.as_ref().map_or(port_line, |(_, line)| *line);
            let node = NodeAddress { id, host, port, listen: lines.listen.map(|(listen, _)| listen) };
            if let Some((other, other_line)) = seen.insert(node.canonical(), (id, host_line)) {
                let what = format!(
                    "node{id} has the address {} of node{other} (line {other_line}); give it another port",
                    node.address()
                );
                return Err(self.at(host_line, what));
            }
            if let Some((other, line)) = listening.insert(node.canonical_listen(), (id, listen_line)) {
                let what = format!(
                    "node{id} listens on {} as node{other} of the same host does (line {line}); give it another port",
                    node.listen_address()
                );
                return Err(self.at(listen_line, what));
            }
            self.config.nodes.push(node);
        }
        Ok(())
    }

    /// What one line cannot show: settings that are each in range and wrong together.
    fn check_relations(&self) -> Result<(), ConfError> {
        let config = &self.config;
        let limits = &config.limits;
        let relations = [
            (
                config.heartbeat_ms * 2 < config.election_min_ms,
                ["heartbeat_ms", "election_min_ms"],
                format!(
                    "heartbeat_ms={} must be less than half of election_min_ms={}, or followers take a leader that \
                     lives for dead",
                    config.heartbeat_ms, config.election_min_ms
                ),
            ),
            (
                config.election_min_ms < config.election_max_ms,
                ["election_max_ms", "election_min_ms"],
                format!(
                    "election_max_ms={} must be more than election_min_ms={}, or all nodes stand for election at once",
                    config.election_max_ms, config.election_min_ms
                ),
            ),
            (
                config.lease_reads == 0 || leases_fit(config.heartbeat_ms, config.election_min_ms),
                ["lease_reads", "election_min_ms"],
                format!(
                    "lease_reads=1 needs an election_min_ms={} of at least three times heartbeat_ms={} and 20, or no \
                     lease lasts until the next heartbeat is answered",
                    config.election_min_ms, config.heartbeat_ms
                ),
            ),
            (
                limits.key_bytes_max + limits.value_bytes_max < limits.uncommitted_bytes_max,
                ["uncommitted_bytes_max", "value_bytes_max"],
                format!(
                    "uncommitted_bytes_max={} must be more than key_bytes_max={} and value_bytes_max={} together, or \
                     the largest write can never be accepted",
                    limits.uncommitted_bytes_max, limits.key_bytes_max, limits.value_bytes_max
                ),
            ),
        ];
        for (holds, keys, what) in relations {
            if !holds {
                // One of the keys has a line: the defaults fit each other.
                let line = keys.iter().find_map(|key| self.lines.get(*key)).copied();
                return Err(match line {
                    Some(line) => self.at(line, what),
                    None => ConfError::Whole { file: self.file.to_owned(), what },
                });
            }
        }
        Ok(())
    }
}

/// `node12port` → (12, Port). A number with a leading zero is no node key: `node01ip` beside `node1ip` is a trap.
fn split_node_key(key: &str) -> Option<(u64, NodeKey)> {
    let rest = key.strip_prefix("node")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit())?;
    let (number, suffix) = rest.split_at(digits);
    let which = match suffix {
        "ip" => NodeKey::Ip,
        "port" => NodeKey::Port,
        "listen" => NodeKey::Listen,
        "priority" => NodeKey::Priority,
        _ => return None,
    };
    let canonical = number == "0" || !number.starts_with('0');
    if canonical { Some((number.parse().ok()?, which)) } else { None }
}

fn parse_priority(value: &str) -> Result<u32, String> {
    let priority = value.parse().ok().filter(|priority| *priority <= PRIORITY_MAX);
    priority.ok_or_else(|| format!("{value:?} is no priority; write a whole number from 0 to {PRIORITY_MAX}"))
}

fn unknown_key(key: &str) -> String {
    let known = SETTINGS.iter().map(|setting| setting.key).chain(["cluster_id", "data_dir"]);
    let nearest = known.map(|name| (distance(name, key), name)).min();
    match nearest {
        Some((edits, name)) if edits <= 3 => format!("there is no setting {key:?}; did you mean {name}?"),
        _ if key.starts_with("node") => format!(
            "there is no setting {key:?}; a node has node0ip, node0port and, if need be, node0listen and \
             node0priority"
        ),
        _ => format!("there is no setting {key:?}; conf/sample.conf lists them all"),
    }
}

/// Levenshtein's distance: how many letters to change, add or drop.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, letter) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (column, other) in right.iter().enumerate() {
            let change = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = change.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}
