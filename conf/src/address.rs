//! Where one node lives: the address it tells the others and clients, and the one it listens on.
//!
//! A host is a name, an IPv4 address or an IPv6 address with or without brackets; it is kept without brackets and
//! only [`NodeAddress::address`] puts them back. Nothing is resolved here: a name may have no address yet on
//! the machine that merely checks the file.

use std::net::{IpAddr, Ipv6Addr};

/// The most nodes a file may name. More voters make every write slower and none safer than seven do.
pub const NODES_MAX: usize = 7;

/// The greatest number a node may have. A number is used once in the life of a cluster, so there are many more of them
/// than nodes at a time.
pub const NODE_NUMBER_MAX: u64 = 65_535;

/// The longest host name that is accepted, in bytes (RFC 1035 allows 253).
const HOST_BYTES_MAX: usize = 253;

/// The names by which a machine calls itself. Which of the two addresses the name stands for is known there only, so that
/// nodes told apart by nothing else may be one.
const THIS_MACHINE: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// One node of the cluster, from its `nodeNip`, `nodeNport` and `nodeNlisten` lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAddress {
    /// The node's number, 0 to [`NODE_NUMBER_MAX`]; it is the node's identity in Raft as well.
    pub id: u64,
    /// Host name or address as other nodes and clients reach it, without brackets.
    pub host: String,
    /// Port as other nodes and clients reach it.
    pub port: u16,
    /// `host:port` to listen on where it differs from the advertised address, for instance `0.0.0.0:29016`.
    pub listen: Option<String>,
}

impl NodeAddress {
    /// The advertised address, `host:port`; an IPv6 host stands in brackets.
    pub fn address(&self) -> String {
        join(&self.host, self.port)
    }

    /// The address to listen on: `listen` if it is set, else the advertised one.
    pub fn listen_address(&self) -> String {
        self.listen.clone().unwrap_or_else(|| self.address())
    }

    /// What two nodes must not have in common: the same address in another spelling is the same address.
    pub(crate) fn canonical(&self) -> String {
        join(&canonical_host(&self.host), self.port)
    }

    /// Nor this: the machine and what is listened on there. Nodes on machines of their own may listen on the same.
    pub(crate) fn canonical_listen(&self) -> (String, String) {
        let listen = self.listen_address();
        let (host, port) = listen.rsplit_once(':').unwrap_or((&listen, ""));
        let host = host.trim_start_matches('[').trim_end_matches(']');
        (canonical_host(&self.host), format!("{} {port}", canonical_host(host)))
    }
}

fn canonical_host(host: &str) -> String {
    let one_spelling = match host.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().to_string(),
        Err(_) => host.to_ascii_lowercase(),
    };
    match THIS_MACHINE.contains(&one_spelling.as_str()) {
        true => THIS_MACHINE[0].to_owned(),
        false => one_spelling,
    }
}

/// Checks a host and takes its brackets off. The error says what is wrong, without naming the key.
pub(crate) fn parse_host(text: &str) -> Result<String, String> {
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or_else(|| format!("{text:?} has no closing bracket"))?,
        None => text,
    };
    if bare.is_empty() {
        return Err("the host is empty; write a host name or an address, for instance 127.0.0.1".to_owned());
    }
    if bare.len() > HOST_BYTES_MAX {
        return Err(format!("the host is longer than {HOST_BYTES_MAX} bytes"));
    }
    if bare.contains(':') || text.starts_with('[') {
        return match bare.parse::<Ipv6Addr>() {
            Ok(_) => Ok(bare.to_owned()),
            Err(_) if bare.matches(':').count() == 1 => {
                Err(format!("{text:?} is more than a host; the port has a line of its own"))
            }
            Err(_) => Err(format!("{text:?} is not an IPv6 address")),
        };
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if let Some(strange) = bare.chars().find(|c| !legal(*c)) {
        return Err(format!("{text:?} is not a host name or address: it contains {strange:?}"));
    }
    let digits_and_dots = bare.chars().all(|c| c.is_ascii_digit() || c == '.');
    if digits_and_dots && bare.parse::<std::net::Ipv4Addr>().is_err() {
        return Err(format!("{text:?} is not an IPv4 address"));
    }
    Ok(bare.to_owned())
}

/// Checks a port. Zero is refused: the other nodes could not know it.
pub(crate) fn parse_port(text: &str) -> Result<u16, String> {
    match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("{text:?} is not a port; write a number from 1 to 65535")),
    }
}

/// Checks `host:port` and gives it back in its one spelling. The error says what to write instead.
pub fn parse_host_port(text: &str) -> Result<String, String> {
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(format!("{text:?} has no port; write HOST:PORT"));
    };
    if host.contains(':') && !host.starts_with('[') {
        return Err(format!("{text:?} is ambiguous; write an IPv6 address in brackets, [::]:29016"));
    }
    Ok(join(&parse_host(host)?, parse_port(port)?))
}

/// Whether the host stands for "any interface", which one can listen on but nobody can connect to.
pub(crate) fn is_unspecified(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
}

fn join(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(host: &str, port: u16) -> NodeAddress {
        NodeAddress { id: 0, host: host.to_owned(), port, listen: None }
    }

    #[test]
    fn hosts_of_every_kind_are_accepted_and_lose_their_brackets() {
        for (text, kept) in [
            ("127.0.0.1", "127.0.0.1"),
            ("::1", "::1"),
            ("[::1]", "::1"),
            ("db-1.example.org", "db-1.example.org"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(parse_host(text).as_deref(), Ok(kept), "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in ["", "127.0.0.1:29016", "[::1", "[name]", "a b", "http://x", "1.2.3", "1.2.3.256", ":::"]
        {
            assert!(parse_host(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn an_ipv6_address_is_advertised_in_brackets() {
        assert_eq!(node("::1", 29016).address(), "[::1]:29016");
        assert_eq!(node("127.0.0.1", 29016).address(), "127.0.0.1:29016");
    }

    #[test]
    fn one_address_in_two_spellings_is_one_address() {
        assert_eq!(node("::1", 1).canonical(), node("0:0:0:0:0:0:0:1", 1).canonical());
        assert_eq!(node("LocalHost", 1).canonical(), node("localhost", 1).canonical());
        assert_eq!(node("::ffff:127.0.0.1", 1).canonical(), node("127.0.0.1", 1).canonical());
        assert_ne!(node("127.0.0.1", 1).canonical(), node("127.0.0.1", 2).canonical());
    }

    #[test]
    fn the_names_of_this_machine_are_one_and_its_other_loopback_addresses_are_not() {
        for host in ["LOCALHOST", "127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(node(host, 1).canonical(), node("localhost", 1).canonical(), "{host}");
        }
        assert_ne!(node("127.0.0.2", 1).canonical(), node("127.0.0.1", 1).canonical());
    }

    #[test]
    fn a_listen_address_needs_host_and_port() {
        assert_eq!(parse_host_port("0.0.0.0:29016").as_deref(), Ok("0.0.0.0:29016"));
        assert_eq!(parse_host_port("[::]:29016").as_deref(), Ok("[::]:29016"));
        for text in ["0.0.0.0", ":::29016", "x:0", "x:65536", ":29016"] {
            assert!(parse_host_port(text).is_err(), "{text:?} was accepted");
        }
    }
}
