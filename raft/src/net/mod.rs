//! Raft on sockets: the `raftRpc` service that feeds the core, the transport that carries what it says, and the
//! translation between the two worlds' messages.

mod address_book;
mod admission;
mod border;
pub mod convert;
mod method;
mod newcomer;
mod peer_watch;
mod raft_service;
mod reach;
mod transport;

pub use address_book::{AddressBook, Home, encode_homes};
pub use admission::{Admission, AdmissionError};
pub use border::{Border, Enveloped, WIRE_VERSION};
pub use convert::check_numbers;
pub use method::Method;
pub use newcomer::{Newcomer, Verdict};
pub use peer_watch::PeerWatch;
pub use raft_service::{ChunkAnswer, RaftService, SnapshotReceiver};
pub use transport::{Answers, ChunkSender, Inbox, PEER_TIMEOUT, PeerTransport};
