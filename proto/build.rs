//! Compiles the `.proto` files of this crate.

fn main() {
    rpc_codegen::compile(&[
        "proto/friend.proto",
        "proto/friend_streams.proto",
        "proto/kv_server_rpc.proto",
        "proto/raft_rpc.proto",
        "proto/kv.proto",
        "proto/admin.proto",
    ]);
}
