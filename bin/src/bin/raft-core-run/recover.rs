//! `raft-core-run recover`: the way out when a majority of the nodes is gone for good.
//!
//! It shows what the directories on this host hold and what would be lost, asks, and makes of one of them the beginning of a
//! new cluster with that node as its only member. Nothing is deleted: the old directories stay beside the new one under
//! other names. It never happens silently, and not while a node runs.

use std::fs::{self, File};
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use conf::{Config, set_cluster_id};
use kvserver::{Remains, rebuild};
use raft::storage::lock_to_look;
use rand::rngs::{ChaCha8Rng, SysRng};
use rand::{Rng, SeedableRng};

use crate::Outcome;
use crate::arguments::RecoverArguments;
use crate::data_dir;
use crate::failure::Failure;

/// What was found of one node.
struct Found {
    node: u64,
    directory: PathBuf,
    /// What it holds, or why it is of no use.
    remains: Result<Remains, String>,
    /// Keeps nodes off the directory.
    _lock: Option<File>,
}

/// Shows, asks, and rebuilds.
pub(crate) fn run(arguments: &RecoverArguments) -> Outcome {
    let config = Config::load(&arguments.file)?;
    if config.nodes.is_empty() {
        return Err(Failure::Usage(format!("{} names no nodes", arguments.file.display())));
    }
    let base = data_dir::base(arguments.data_dir.as_deref(), config.data_dir.as_deref(), &arguments.file);
    if !base.is_dir() {
        return Err(Failure::Usage(format!("there is no data directory {}", base.display())));
    }
    let _launcher = data_dir::lock(&base)?;
    let found = survey(&config, &base)?;
    show(&config, &found);
    let chosen = choose(&found, arguments.from)?;
    warn(&config, &found, chosen);
    ask(arguments, chosen.node)?;
    carry_out(arguments, &found, chosen, &base)
}

/// Looks at every node's directory, and keeps nodes off all of them.
fn survey(config: &Config, base: &Path) -> Result<Vec<Found>, Failure> {
    let mut found = Vec::new();
    for node in &config.nodes {
        let directory = base.join(format!("node{}", node.id));
        let (remains, lock) = match directory.is_dir() {
            false => (Err("its directory is not on this host".to_owned()), None),
            true => {
                let lock = lock_to_look(&directory).map_err(|error| Failure::Runtime(error.to_string()))?;
                let remains = Remains::read(&directory).map_err(|error| error.to_string());
                (remains.and_then(|remains| of_this_node(config, node.id, remains)), Some(lock))
            }
        };
        found.push(Found { node: node.id, directory, remains, _lock: lock });
    }
    Ok(found)
}

fn of_this_node(config: &Config, node: u64, remains: Remains) -> Result<Remains, String> {
    let identity = &remains.identity;
    if identity.cluster_id != config.cluster_id || identity.node_id.0 != node {
        return Err(format!(
            "its directory is that of node {} of cluster \"{}\"",
            identity.node_id, identity.cluster_id
        ));
    }
    if remains.last().index.0 == 0 {
        return Err("it holds nothing".to_owned());
    }
    Ok(remains)
}

fn show(config: &Config, found: &[Found]) {
    say(&format!("cluster \"{}\", of which this host has:", config.cluster_id));
    for Found { node, directory, remains, .. } in found {
        let text = match remains {
            Err(why) => why.clone(),
            Ok(remains) => format!(
                "term {}, entries up to {}, of which {} are surely committed; members {}",
                remains.restored.hard_state.term,
                remains.last(),
                remains.surely_committed().index,
                members(remains)
            ),
        };
        say(&format!("  node {node} ({}): {text}", directory.display()));
    }
}

fn members(remains: &Remains) -> String {
    match remains.members() {
        None => "as the cluster began".to_owned(),
        Some(members) => {
            let names: Vec<String> = members.nodes().iter().map(ToString::to_string).collect();
            names.join(", ")
        }
    }
}

/// The node to recover from: the one that is named, else the one whose log is the furthest.
fn choose(found: &[Found], named: Option<u64>) -> Result<&Found, Failure> {
    if let Some(node) = named {
        let Some(chosen) = found.iter().find(|found| found.node == node) else {
            return Err(Failure::Usage(format!("the file names no node {node}")));
        };
        return match &chosen.remains {
            Ok(_) => Ok(chosen),
            Err(why) => Err(Failure::Runtime(format!("nothing can be recovered from node {node}: {why}"))),
        };
    }
    let usable = found.iter().filter_map(|found| Some((found.remains.as_ref().ok()?.last(), found)));
    match usable.max_by_key(|(last, _)| *last) {
        Some((_, chosen)) => Ok(chosen),
        None => Err(Failure::Runtime("none of these directories can be recovered from".to_owned())),
    }
}

/// What it means, before it is too late.
fn warn(config: &Config, found: &[Found], chosen: &Found) {
    let last = chosen.remains.as_ref().map_or_else(|_| Default::default(), Remains::last);
    let node = chosen.node;
    say(&format!("recovering from node {node} makes a new cluster with node {node} as its only member:"));
    say(&format!("  - it has the entries of node {node} up to {last}, also those that were never committed"));
    say("  - what others acknowledged and this node does not have is lost");
    for other in found {
        if let Ok(remains) = &other.remains
            && remains.last() > last
        {
            say(&format!(
                "  - node {} has entries up to {}, which would be lost",
                other.node,
                remains.last()
            ));
        }
    }
    say(&format!(
        "  - nodes of cluster \"{}\" that are left anywhere cannot take part in the new one",
        config.cluster_id
    ));
    say("if a majority of the nodes can still be started, start them instead");
}

/// A typed word, or the flags that stand for it.
fn ask(arguments: &RecoverArguments, node: u64) -> Outcome {
    if arguments.yes {
        return match arguments.from {
            Some(_) => Ok(()),
            None => Err(Failure::Usage(format!("--yes needs --from, for instance --from {node}"))),
        };
    }
    let refused = |text: &str| Failure::Usage(format!("{text}; nothing was changed"));
    if !std::io::stdin().is_terminal() {
        return Err(refused(&format!("nobody can be asked here: say --from {node} --yes")));
    }
    let word = format!("recover from node {node}");
    say(&format!("type \"{word}\" to go on:"));
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    match read {
        Ok(_) if line.trim() == word => Ok(()),
        _ => Err(refused("that was not it")),
    }
}

fn carry_out(arguments: &RecoverArguments, found: &[Found], chosen: &Found, base: &Path) -> Outcome {
    let Ok(remains) = &chosen.remains else { unreachable!("only what can be used is chosen") };
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Failure::Runtime(format!(
            "{what}: {error}; the old directories are as they were, or beside the new one"
        ))
    };
    let mut random =
        ChaCha8Rng::try_from_rng(&mut SysRng).map_err(|error| failed("no random numbers", &error))?;
    let cluster_id = format!("{:016x}{:016x}", random.next_u64(), random.next_u64());
    let tag = &cluster_id[..8];
    let new = base.join(format!("node{}.recovered-{tag}", chosen.node));
    let last = rebuild(remains, &chosen.directory, &new, &cluster_id)
        .map_err(|error| failed("the new directory cannot be made", &error))?;
    let mut kept = Vec::new();
    for old in found.iter().filter(|found| found.directory.is_dir()) {
        let aside = base.join(format!("node{}.before-recovery-{tag}", old.node));
        fs::rename(&old.directory, &aside)
            .map_err(|error| failed("an old directory cannot be renamed", &error))?;
        kept.push(aside.display().to_string());
    }
    let renamed = fs::rename(&new, &chosen.directory).and_then(|()| File::open(base)?.sync_all());
    renamed.map_err(|error| failed("the new directory cannot be put into its place", &error))?;
    set_cluster_id(&arguments.file, &cluster_id)?;
    let (node, file) = (chosen.node, arguments.file.display());
    say(&format!(
        "node {node} is the only member of cluster \"{cluster_id}\", with everything up to entry {last}"
    ));
    say(&format!("kept: {}", kept.join(", ")));
    say(&format!("next: raft-core-run --node {node} -f {file}"));
    say(&format!(
        "then, for each further node I of the file: raft-core-run --node I -f {file} --join, and clerk member add I \
         HOST:PORT, clerk member promote I; {file} has the new cluster_id and must be copied to every host"
    ));
    Ok(())
}

/// Says a line to whoever decides.
fn say(line: &str) {
    // Nobody reads it: then nobody answers either, and nothing is done.
    let _ = writeln!(std::io::stderr(), "{line}");
}
