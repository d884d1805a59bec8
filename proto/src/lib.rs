//! The protobuf files of the store and of the demo, and the code generated from them.
//!
//! One module per `.proto` file. Field names are the origin's, in snake case; `bytes` fields are [`bytes::Bytes`].
//! Each service `X` comes as a trait `X`, an `XDispatcher` to register at a provider and an `XStub` to call it with.
//! What a message means is said in its `.proto` file. Written by hand is only what both ends of a service share beside it.

mod consistency;

pub use consistency::Consistency;

/// `fixbug`: the friend list of the origin's demo.
#[expect(missing_docs, reason = "generated; the .proto file documents the fields")]
pub mod friend {
    include!(concat!(env!("OUT_DIR"), "/fixbug.rs"));
}

/// `friend_streams`: a demo of streams.
#[expect(missing_docs, reason = "generated; the .proto file documents the fields")]
pub mod friend_streams {
    include!(concat!(env!("OUT_DIR"), "/friend_streams.rs"));
}

/// `raftKVRpcProctoc`: the store's service as the origin's clerks know it.
#[expect(missing_docs, reason = "generated; the .proto file documents the fields")]
pub mod kv_server_rpc {
    include!(concat!(env!("OUT_DIR"), "/raft_kv_rpc_proctoc.rs"));
}

/// `raftRpcProctoc`: Raft between our own nodes.
#[expect(missing_docs, reason = "generated; the .proto file documents the fields")]
pub mod raft_rpc {
    include!(concat!(env!("OUT_DIR"), "/raft_rpc_proctoc.rs"));
}

/// `kv`: the store for our own clients.
#[expect(missing_docs, reason = "generated; the .proto file documents the fields")]
pub mod kv {
    include!(concat!(env!("OUT_DIR"), "/kv.rs"));
}

/// `admin`: what an operator asks of one node.
#[expect(missing_docs, reason = "generated; the .proto file documents the fields")]
pub mod admin {
    include!(concat!(env!("OUT_DIR"), "/admin.rs"));
}
