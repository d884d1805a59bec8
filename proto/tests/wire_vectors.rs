//! The generated messages against the bytes captured from the origin's C++ programs: read, and written again alike.

#![expect(clippy::unwrap_used, reason = "a test's helper fails as the test does")]

use prost::Message;
use proto::{friend, kv_server_rpc, raft_rpc};
use rpc::protocol::decoder::RequestDecoder;
use serde_json::Value;

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// The serialized message of the vector whose name begins so; a request's without its header.
fn message_of(name: &str) -> Vec<u8> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../rpc/tests/data/wire_vectors.json");
    let vectors: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let vector =
        vectors.iter().find(|vector| vector["name"].as_str().unwrap().starts_with(name)).expect(name);
    let bytes = bytes_of(vector["hex"].as_str().unwrap());
    if vector["direction"].as_str().unwrap().starts_with("reply") {
        return bytes;
    }
    let mut decoder = RequestDecoder::new(1 << 20);
    decoder.feed(&bytes);
    decoder.next_frame().unwrap().unwrap().body.unwrap().to_vec()
}

fn assert_alike<M: Message + Default + PartialEq + std::fmt::Debug>(name: &str, message: &M) {
    let bytes = message_of(name);
    assert_eq!(&M::decode(&bytes[..]).unwrap(), message, "{name}");
    assert_eq!(message.encode_to_vec(), bytes, "{name}");
}

#[test]
fn the_friend_list() {
    assert_alike("FiendServiceRpc.GetFriendsList request", &friend::GetFriendsListRequest { userid: 1000 });
    let friends = ["gao yang", "liu hong", "wang shuo"].map(Into::into).to_vec();
    let response = friend::GetFriendsListResponse { result: Some(friend::ResultCode::default()), friends };
    assert_alike("FiendServiceRpc.GetFriendsList reply", &response);
}

#[test]
fn the_store() {
    let client_id = "85255213210712816201727527900285977534";
    let put = kv_server_rpc::PutAppendArgs {
        key: "alpha".into(),
        value: "19".into(),
        op: "Put".into(),
        client_id: client_id.into(),
        request_id: 1,
    };
    assert_alike("kvServerRpc.PutAppend request", &put);
    assert_alike("kvServerRpc.PutAppend reply OK", &kv_server_rpc::PutAppendReply { err: "OK".into() });
    let wrong_leader = kv_server_rpc::PutAppendReply { err: "ErrWrongLeader".into() };
    assert_alike("kvServerRpc.PutAppend reply ErrWrongLeader", &wrong_leader);
    let get = kv_server_rpc::GetArgs { key: "alpha".into(), client_id: client_id.into(), request_id: 2 };
    assert_alike("kvServerRpc.Get request", &get);
    let reply = kv_server_rpc::GetReply { err: "OK".into(), value: "19".into() };
    assert_alike("kvServerRpc.Get reply OK", &reply);
    let no_key = kv_server_rpc::GetReply { err: "ErrNoKey".into(), value: "".into() };
    assert_alike("kvServerRpc.Get reply ErrNoKey", &no_key);
}

#[test]
fn raft() {
    let vote = raft_rpc::RequestVoteArgs { term: 1, ..Default::default() };
    assert_alike("raftRpc.RequestVote request", &vote);
    let granted =
        raft_rpc::RequestVoteReply { term: 1, vote_granted: true, vote_state: 3, ..Default::default() };
    assert_alike("raftRpc.RequestVote reply granted", &granted);
    let heartbeat = raft_rpc::AppendEntriesArgs { term: 1, ..Default::default() };
    assert_alike("raftRpc.AppendEntries request, heartbeat", &heartbeat);
    let reply = raft_rpc::AppendEntriesReply { term: 1, success: true, app_state: 1, ..Default::default() };
    assert_alike("raftRpc.AppendEntries reply success", &reply);
}
