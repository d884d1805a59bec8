//! Which cluster the file describes, and the writing of a file that describes none yet. A file that names nodes is never
//! changed.

use std::path::Path;

use conf::{Config, NodeAddress, loopback_ports, write_nodes};
use rand::rngs::{ChaCha8Rng, SysRng};
use rand::{Rng, SeedableRng};

use crate::data_dir;
use crate::failure::Failure;

/// How many nodes a new file gets when nobody says.
const NODES_DEFAULT: u64 = 3;

/// The cluster's configuration; a file that is not there or names no node is written first, with so many nodes.
pub(crate) fn open_or_create(file: &Path, nodes: Option<u64>) -> Result<Config, Failure> {
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(error) if error.is_not_found() => Config::default(),
        Err(error) => return Err(error.into()),
    };
    if !config.nodes.is_empty() {
        return Ok(config);
    }
    let mut rng = ChaCha8Rng::try_from_rng(&mut SysRng)
        .map_err(|error| Failure::Runtime(format!("the system gives no random numbers: {error}")))?;
    let count = nodes.unwrap_or(NODES_DEFAULT);
    let ports = loopback_ports::find(usize::try_from(count).unwrap_or(usize::MAX), &mut rng)
        .map_err(|error| Failure::Runtime(format!("no {count} free ports from 10000 to 29999: {error}")))?;
    let node = |(id, port)| NodeAddress { id, host: "127.0.0.1".to_owned(), port, listen: None };
    let chosen: Vec<NodeAddress> = (0..).zip(ports).map(node).collect();
    // Another launcher may have been quicker: then its cluster is the file's.
    Ok(write_nodes(file, &chosen, &format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64()))?)
}

/// The configuration for one node of it: here nothing is chosen, since every host must say the same.
pub(crate) fn open(file: &Path, id: u64) -> Result<Config, Failure> {
    let config = Config::load(file)?;
    if config.nodes.is_empty() {
        let file = file.display();
        return Err(Failure::Usage(format!("{file} names no nodes; add node{id}ip=… and node{id}port=…")));
    }
    if config.node(id).is_none() {
        let numbers: Vec<String> = config.nodes.iter().map(|node| node.id.to_string()).collect();
        let (file, numbers) = (file.display(), numbers.join(", "));
        return Err(Failure::Usage(format!("{file} names no node {id}; it names {numbers}")));
    }
    Ok(config)
}

/// How many nodes there are to be is asked for at the first start only: later there is data under `base`, and whoever
/// takes part is in the log.
pub(crate) fn check_count(
    config: &Config,
    file: &Path,
    base: &Path,
    nodes: Option<u64>,
) -> Result<(), Failure> {
    let (named, file) = (config.nodes.len() as u64, file.display());
    let Some(asked) = nodes.filter(|asked| *asked != named) else { return Ok(()) };
    let noun = if named == 1 { "node" } else { "nodes" };
    if config.nodes.iter().any(|node| data_dir::has_begun(base, node.id)) {
        log::warn!("-n {asked} counts at the first start only; {file} names {named} {noun}");
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "{file} names {named} {noun} but -n asks for {asked}; use -n {named}, or name another file with -f"
    )))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_new_file_is_written_once_and_then_used() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("test.conf");
        let created = open_or_create(&file, Some(5)).unwrap();
        assert_eq!(created.nodes.len(), 5);
        assert_ne!(created.cluster_id, Config::default().cluster_id);
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(open_or_create(&file, None).unwrap(), created);
        assert_eq!(open_or_create(&file, Some(5)).unwrap(), created);
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }

    #[test]
    fn another_number_of_nodes_is_refused_as_usage_until_there_is_data() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("test.conf");
        let config = open_or_create(&file, None).unwrap();
        let check = |asked| check_count(&config, &file, folder.path(), Some(asked));
        assert!(check(3).is_ok());
        let error = check(5).unwrap_err();
        assert!(matches!(&error, Failure::Usage(text) if text.contains("names 3 nodes but -n asks for 5")));
        let of_node = data_dir::create_for_node(folder.path(), 2).unwrap();
        assert!(check(5).is_err(), "an empty folder is no data");
        fs::write(of_node.join("identity"), "").unwrap();
        assert!(check(5).is_ok());
    }

    #[test]
    fn one_node_of_a_cluster_needs_a_file_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("test.conf");
        assert!(matches!(open(&file, 0), Err(Failure::Usage(_))));
        assert!(!file.exists());
        open_or_create(&file, None).unwrap();
        assert!(open(&file, 2).is_ok());
        assert!(matches!(open(&file, 3), Err(Failure::Usage(text)) if text.contains("it names 0, 1, 2")));
    }
}
