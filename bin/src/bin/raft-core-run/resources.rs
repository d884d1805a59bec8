//! What the process may use: file descriptors.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::failure::Failure;

/// What a node may have open whoever calls it: log and snapshot files, its poll, its listener, those who ask how it is.
const OWN_DESCRIPTORS: u64 = 96;

/// What it may have open for each node of its cluster: connections from there, the server's reserve for them among these, and
/// to there, and those of before that have not ended yet.
const DESCRIPTORS_PER_NODE: u64 = 24;

/// The fewest connections that are worth serving; a file cannot ask for less.
const CONNECTIONS_MIN: u64 = 16;

/// Raises the soft limit of open files to the hard one: a connection is a descriptor, and the usual soft limit of 1,024
/// is kept low only for programs that use `select`. A refusal costs connections later, not the start.
pub(crate) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        log::warn!("the limit of open files stays at {}: {error}", limit.current.unwrap_or(u64::MAX));
    }
}

/// How many connections a node of a cluster of so many may serve, of those that its file allows: clients must never take the
/// descriptors that Raft needs for its peers and its log.
///
/// # Errors
/// When the limit of open files leaves none.
pub(crate) fn affordable_connections(allowed: u64, nodes: u64) -> Result<u64, Failure> {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let connections = beside_raft(allowed, nodes, limit)?;
    if connections < allowed {
        log::warn!(
            "{connections} connections at a time are served, not connections_max={allowed}: the limit of open files is {limit}"
        );
    }
    Ok(connections)
}

/// Of `allowed` connections those for which there are descriptors, of `limit`, when a node has all it needs itself.
fn beside_raft(allowed: u64, nodes: u64, limit: u64) -> Result<u64, Failure> {
    let own = OWN_DESCRIPTORS + DESCRIPTORS_PER_NODE * nodes;
    match limit.saturating_sub(own) {
        left if left >= CONNECTIONS_MIN => Ok(allowed.min(left)),
        _ => Err(Failure::Runtime(format!(
            "the limit of open files is {limit}, and a node of {nodes} needs {} at least: raise it (ulimit -n, LimitNOFILE)",
            own + CONNECTIONS_MIN
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        raise_descriptor_limit();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }

    #[test]
    fn clients_get_what_a_node_does_not_need_itself() {
        let connections = |limit| beside_raft(10_000, 3, limit);
        assert!(matches!(connections(u64::MAX), Ok(10_000)));
        assert!(matches!(connections(10_168), Ok(10_000)));
        assert!(matches!(connections(1_024), Ok(856)));
        assert!(matches!(connections(184), Ok(CONNECTIONS_MIN)));
        for too_few in [183, 96, 0] {
            let Err(Failure::Runtime(text)) = connections(too_few) else { panic!("{too_few} are too few") };
            assert!(text.contains("needs 184"), "{text}");
        }
    }
}
