//! A key or value over its limit is refused with both numbers, over a real connection, whatever its size, and the
//! connection lives: by the store as `TOO_LARGE`, by the framework where it is more than any request of the store may have,
//! and by the client's own channel where it is more than that sends.

use kvserver::{Server, ServerConfig};
use proto::kv::{Code, GetRequest, KvStub, PutRequest, Stamp};
use rpc::{ChannelConfig, Reactor, ReactorConfig, RpcChannel, RpcController, RpcError, Status};
use tempfile::TempDir;

const MIB: usize = 1 << 20;

#[test]
fn what_is_over_a_limit_is_refused_with_both_numbers_and_the_connection_lives() {
    let directory = TempDir::new().unwrap();
    let members = vec![(0, "127.0.0.1:1".to_owned())];
    let config = ServerConfig::new(0, "test", members, "127.0.0.1:0", directory.path().join("node0"));
    let server = Server::start(&config).unwrap();
    let reactor = Reactor::start("client", ReactorConfig::default()).unwrap();
    let address = server.address().to_string();
    let stub = KvStub::new(RpcChannel::new(&reactor, &address, ChannelConfig::default()));
    let stamp = Stamp { client_id: 1, seq: 1, acked_below: 1 };
    let put = |key: usize, value: usize| {
        let (key, value) = (vec![1; key].into(), vec![2; value].into());
        stub.put(&RpcController::new(), &PutRequest { stamp: Some(stamp), key, value, follows_hints: true })
    };

    let (key_max, value_max) = (config.key_bytes_max, config.value_bytes_max);
    for (key, value) in [(1, value_max + 1), (1, value_max + MIB), (key_max + 1, 1), (2 * key_max, 1)] {
        let outcome = put(key, value).unwrap().outcome.unwrap();
        assert_eq!(outcome.code(), Code::TooLarge, "{key} and {value} bytes: {}", outcome.text);
        let (bytes, max) = if key > key_max { (key, key_max) } else { (value, value_max) };
        let names_both = outcome.text.contains(&bytes.to_string()) && outcome.text.contains(&max.to_string());
        assert!(names_both && !outcome.may_have_run, "{}", outcome.text);
    }
    for (key, value) in [(1, 13 * MIB), (1, 40 * MIB), (20 * MIB, 1)] {
        let error = put(key, value).unwrap_err();
        let RpcError::Status { status: Status::TooLarge, text } = &error else { panic!("{error}") };
        let numbers = text.split(|letter: char| !letter.is_ascii_digit());
        let numbers: Vec<usize> = numbers.filter_map(|number| number.parse().ok()).collect();
        let is_sent = |number: &usize| (key + value..key + value + 100).contains(number);
        let is_limit = |number: &usize| (key_max + value_max..13 * MIB).contains(number);
        assert!(numbers.iter().any(is_sent) && numbers.iter().any(is_limit), "{text}");
        assert!(!error.may_have_run());
    }
    // More than a channel sends does not leave it.
    let error = put(1, 64 * MIB).unwrap_err();
    assert!(matches!(error, RpcError::TooLarge { max, .. } if max == 64 * MIB as u64), "{error}");
    assert!(error.to_string().contains(&(64 * MIB).to_string()), "{error}");

    let get = stub
        .get(&RpcController::new(), &GetRequest { key: vec![1].into(), ..GetRequest::default() })
        .unwrap();
    assert_ne!(get.outcome.unwrap().code(), Code::TooLarge);
    reactor.stop(std::time::Duration::from_secs(5));
    server.stop();
}
