//! `raft-core-run recover`: the way out when a majority of the nodes is gone for good.
//!
//! It shows what the directories on this host hold and what would be lost, asks, and makes of one of them, or of what can be put
//! together of several that are damaged, the beginning of a new cluster with one node as its only member. Nothing is deleted: the old directories stay beside the new one under
//! other names. It never happens silently, and not while a node runs.

use std::fs::{self, File};
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use conf::{Config, set_cluster_id};
use kvserver::{Collected, Remains, rebuild};
use raft::core::EntryId;
use raft::storage::{DirectoryLock, Identity};
use rand::rngs::{ChaCha8Rng, SysRng};
use rand::{Rng, SeedableRng};

use crate::Outcome;
use crate::advice::RunByHand;
use crate::arguments::{RecoverArguments, Source};
use crate::data_dir;
use crate::failure::Failure;

/// What was found of one node.
struct Found {
    node: u64,
    directory: PathBuf,
    /// What it holds, or why it is of no use by itself.
    remains: Result<Remains, String>,
    /// Whether the directory is this node's, whatever is left in it.
    is_its_own: bool,
    /// Keeps nodes off the directory.
    _lock: Option<DirectoryLock>,
}

/// What the new cluster is to be made of.
struct Choice<'a> {
    source: Source,
    remains: &'a Remains,
    /// The node that it begins with.
    first: &'a Found,
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
    check_all_are_named(&config, &base)?;
    let found = survey(&config, &base)?;
    show(&config, &found);
    let together = collect(arguments, &found)?;
    let choice = choose(&found, together.as_ref(), arguments.from)?;
    warn(&config, &found, &choice);
    ask(arguments, choice.source)?;
    carry_out(arguments, &found, &choice, &base)
}

/// A directory that the file does not name would be passed over, with all that it has: the members may have changed since
/// the file was written.
fn check_all_are_named(config: &Config, base: &Path) -> Outcome {
    let unread = |error| Failure::Runtime(format!("{} cannot be read: {error}", base.display()));
    for entry in fs::read_dir(base).map_err(unread)? {
        let directory = entry.map_err(unread)?.path();
        let name =
            directory.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix("node"));
        let Some(node) = name.and_then(|number| number.parse().ok()) else { continue };
        if config.node(node).is_none() && is_of(config, node, &directory).is_ok() {
            return Err(Failure::Usage(format!(
                "{} is of this cluster, but the file names no node {node}: add node{node}ip=… and node{node}port=…, so that \
                 what it has is counted, too; nothing was changed",
                directory.display()
            )));
        }
    }
    Ok(())
}

/// Looks at every node's directory, and keeps nodes off all of them.
fn survey(config: &Config, base: &Path) -> Result<Vec<Found>, Failure> {
    let mut found = Vec::new();
    for node in &config.nodes {
        let directory = base.join(format!("node{}", node.id));
        let lock = match directory.is_dir() {
            false => None,
            true => Some(
                DirectoryLock::to_look(&directory).map_err(|error| Failure::Runtime(error.to_string()))?,
            ),
        };
        let own = match &lock {
            None => Err("its directory is not on this host".to_owned()),
            Some(_) => is_of(config, node.id, &directory),
        };
        let is_its_own = own.is_ok();
        let remains = own.and_then(|()| Remains::read(&directory).map_err(|error| error.to_string()));
        let remains = remains.and_then(|remains| match remains.last() {
            EntryId::ZERO => Err("it holds nothing".to_owned()),
            _ => Ok(remains),
        });
        found.push(Found { node: node.id, directory, remains, is_its_own, _lock: lock });
    }
    Ok(found)
}

/// Whether a directory is that of this node of this cluster.
fn is_of(config: &Config, node: u64, directory: &Path) -> Result<(), String> {
    match Identity::read(directory).map_err(|error| error.to_string())? {
        None => Err(format!("{} is no data directory of a node", directory.display())),
        Some(identity) if identity.cluster_id == config.cluster_id && identity.node_id.0 == node => Ok(()),
        Some(Identity { node_id, cluster_id, .. }) => {
            Err(format!("its directory is that of node {node_id} of cluster \"{cluster_id}\""))
        }
    }
}

fn show(config: &Config, found: &[Found]) {
    say(&format!("cluster \"{}\", of which this host has:", config.cluster_id));
    for Found { node, directory, remains, .. } in found {
        let text = match remains {
            Err(why) => why.clone(),
            Ok(remains) => format!(
                "term {}, entries up to {}, of which {} are surely committed; members {}{}",
                remains.restored.hard_state.term,
                remains.last(),
                remains.surely_committed().index,
                members(remains),
                if remains.is_damaged { "; its log is damaged behind them" } else { "" }
            ),
        };
        say(&format!("  node {node} ({}): {text}", directory.display()));
    }
}

/// Puts together what all directories hold, if one is of no use by itself or it is asked for.
fn collect(arguments: &RecoverArguments, found: &[Found]) -> Result<Option<Collected>, Failure> {
    let own = found.iter().filter(|found| found.is_its_own);
    let is_wanted = match arguments.from {
        Some(source) => source == Source::All,
        None => own.clone().any(|found| !found.remains.as_ref().is_ok_and(|remains| !remains.is_damaged)),
    };
    if !is_wanted {
        return Ok(None);
    }
    let directories: Vec<PathBuf> = own.map(|found| found.directory.clone()).collect();
    let together = Remains::collect(&directories);
    let together = together.map_err(|error| Failure::Runtime(format!("all of them together: {error}")))?;
    if let Some(Collected { remains, beyond }) = &together {
        let beyond = beyond.map(|id| {
            format!(
                "; entries up to {id} are there, but some before them can be read nowhere, so those are lost"
            )
        });
        let (last, members) = (remains.last(), members(remains));
        say(&format!(
            "  all of them together: entries up to {last}; members {members}{}",
            beyond.unwrap_or_default()
        ));
    }
    Ok(together)
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

/// What to recover from: what is named, else whatever has the furthest log.
fn choose<'a>(
    found: &'a [Found],
    together: Option<&'a Collected>,
    named: Option<Source>,
) -> Result<Choice<'a>, Failure> {
    let of_all = together.and_then(|Collected { remains, .. }| {
        let first = found.iter().find(|found| found.node == remains.identity.node_id.0)?;
        Some(Choice { source: Source::All, remains, first })
    });
    let of_each = found.iter().filter_map(|first| {
        Some(Choice { source: Source::Node(first.node), remains: first.remains.as_ref().ok()?, first })
    });
    let mut choices = of_all.into_iter().chain(of_each);
    let Some(named) = named else {
        let furthest = choices.max_by_key(|choice| choice.remains.last());
        return furthest
            .ok_or_else(|| Failure::Runtime("none of these directories can be recovered from".to_owned()));
    };
    if let Some(choice) = choices.find(|choice| choice.source == named) {
        return Ok(choice);
    }
    let Source::Node(node) = named else {
        return Err(Failure::Runtime("nothing can be put together of these directories".to_owned()));
    };
    Err(match found.iter().find(|found| found.node == node).map(|found| &found.remains) {
        Some(Err(why)) => Failure::Runtime(format!("nothing can be recovered from node {node}: {why}")),
        _ => Failure::Usage(format!("the file names no node {node}")),
    })
}

/// What it means, before it is too late.
fn warn(config: &Config, found: &[Found], choice: &Choice<'_>) {
    let (last, first) = (choice.remains.last(), choice.first.node);
    let whose = match choice.source {
        Source::Node(node) => format!("node {node}"),
        Source::All => "all these directories together".to_owned(),
    };
    say(&format!("recovering from {whose} makes a new cluster with node {first} as its only member:"));
    say(&format!("  - it has the entries of {whose} up to {last}, also those that were never committed"));
    say("  - what others acknowledged and these do not have is lost");
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
fn ask(arguments: &RecoverArguments, source: Source) -> Outcome {
    if arguments.yes {
        return match arguments.from {
            Some(_) => Ok(()),
            None => Err(Failure::Usage(format!("--yes needs --from, for instance --from {source}"))),
        };
    }
    let refused = |text: &str| Failure::Usage(format!("{text}; nothing was changed"));
    if !std::io::stdin().is_terminal() {
        return Err(refused(&format!("nobody can be asked here: say --from {source} --yes")));
    }
    let word = match source {
        Source::Node(node) => format!("recover from node {node}"),
        Source::All => "recover from all nodes".to_owned(),
    };
    say(&format!("type \"{word}\" to go on:"));
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    match read {
        Ok(_) if line.trim() == word => Ok(()),
        _ => Err(refused("that was not it")),
    }
}

fn carry_out(
    arguments: &RecoverArguments,
    found: &[Found],
    Choice { remains, first, .. }: &Choice<'_>,
    base: &Path,
) -> Outcome {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Failure::Runtime(format!(
            "{what}: {error}; the old directories are as they were, or beside the new one"
        ))
    };
    let mut random =
        ChaCha8Rng::try_from_rng(&mut SysRng).map_err(|error| failed("no random numbers", &error))?;
    let cluster_id = format!("{:016x}{:016x}", random.next_u64(), random.next_u64());
    let tag = &cluster_id[..8];
    let new = base.join(format!("node{}.recovered-{tag}", first.node));
    let last = rebuild(remains, &new, &cluster_id)
        .map_err(|error| failed("the new directory cannot be made", &error))?;
    let mut kept = Vec::new();
    for old in found.iter().filter(|found| found.directory.is_dir()) {
        let aside = base.join(format!("node{}.before-recovery-{tag}", old.node));
        fs::rename(&old.directory, &aside)
            .map_err(|error| failed("an old directory cannot be renamed", &error))?;
        kept.push(aside.display().to_string());
    }
    let renamed = fs::rename(&new, &first.directory).and_then(|()| File::open(base)?.sync_all());
    renamed.map_err(|error| failed("the new directory cannot be put into its place", &error))?;
    let written = set_cluster_id(&arguments.file, &cluster_id);
    let (node, file) = (first.node, arguments.file.display());
    say(&format!(
        "node {node} is the only member of cluster \"{cluster_id}\", with everything up to entry {last}"
    ));
    say(&format!("kept: {}", kept.join(", ")));
    let by_hand = RunByHand::new(&arguments.file, arguments.data_dir.as_deref());
    say(&format!("next: {}", by_hand.command(&node.to_string())));
    say(&format!(
        "then, for each further node I of the file: {} --join, and clerk member add I HOST:PORT, clerk member promote I; \
         {file} gets the new cluster_id and must be copied to every host",
        by_hand.command("I")
    ));
    written.map(drop).map_err(|error| {
        Failure::Runtime(format!(
            "{error}; all else is done: before anything is started, write cluster_id={cluster_id} into it by hand"
        ))
    })
}

/// Says a line to whoever decides.
fn say(line: &str) {
    // Nobody reads it: then nobody answers either, and nothing is done.
    let _ = writeln!(std::io::stderr(), "{line}");
}
