//! Connections whose queues leave part by part, and that end before all parts have left.

use std::sync::atomic::Ordering;

use super::common::raw::request;
use super::*;
use rpc::Peer;

/// A server that writes little at a time, and a peer made by hand.
struct Parts {
    service: Arc<TestService>,
    server: Reactor,
    /// Keeps its listener.
    _provider: RpcProvider,
    peer: Peer,
    world: Simulation,
}

impl Parts {
    fn new(seed: u64) -> Parts {
        let world = Simulation::new(seed);
        let server =
            world.reactor(ReactorConfig { write_bytes_per_turn_max: 1_000, ..ReactorConfig::default() });
        let provider = RpcProvider::new(&server, ProviderConfig::default());
        let service = Arc::new(TestService::default());
        provider.notify_service(service.clone()).unwrap();
        provider.listen(SERVER).unwrap();
        let peer = world.connect(server_address());
        Parts { service, server, _provider: provider, peer, world }
    }
}

#[test]
fn who_ends_its_connection_by_nonsense_is_given_every_part_of_the_replies_before() {
    for seed in 0..10 {
        let parts = Parts::new(seed);
        parts.peer.send(&[request("Echo", 1, &[7; 20_000]), vec![0xff; 100]].concat());
        parts.world.settle();
        assert!(parts.peer.receive().len() > 20_000 && parts.peer.has_ended());
    }
}

#[test]
fn a_reactor_that_stops_writes_one_part_after_the_other_without_a_pause() {
    let parts = Parts::new(1);
    parts.peer.send(&request("Echo", 1, &[7; 50_000]));
    while parts.service.calls.load(Ordering::SeqCst) == 0 {
        assert!(parts.world.step());
    }
    parts.server.stop(ms(20));
    assert_eq!(parts.world.now(), Duration::ZERO);
    parts.world.settle();
    assert!(parts.peer.receive().len() > 50_000);
}

#[test]
fn a_peer_that_takes_nothing_more_is_cut_though_the_last_it_took_has_left_little() {
    let (world, stalled_timeout) = (Simulation::new(1), ms(300));
    // The ninth part is the first of which the kernel does not take all, and leaves less than half of the high-water mark.
    world.set_pipe_bytes_max(8_500);
    let server = world.reactor(ReactorConfig { write_bytes_per_turn_max: 1_000, ..ReactorConfig::default() });
    let config =
        ProviderConfig { unsent_bytes_high_water: 4_000, stalled_timeout, ..ProviderConfig::default() };
    let provider = RpcProvider::new(&server, config);
    let service = Arc::new(TestService::default());
    provider.notify_service(service.clone()).unwrap();
    provider.listen(SERVER).unwrap();
    let peer = world.connect(server_address());
    // The second call waits until the reply to the first has been taken as far as that, and is not answered.
    peer.send(&[request("Bytes", 1, b"10000"), request("Keep", 2, b"x")].concat());
    while service.kept.lock().unwrap().is_empty() {
        assert!(world.step());
    }
    assert!((1..2_000).contains(&provider.gauges().unsent_bytes), "{:?}", provider.gauges());
    world.advance(2 * stalled_timeout);
    assert_eq!(provider.gauges().connections, 0);
}
