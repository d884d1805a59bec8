//! A provider that stops while it is called, answered and told to listen.

use std::sync::Arc;

use crate::primitives::thread;
use crate::world::{ADDRESS, TestService, World, begin};
use crate::{ChannelConfig, Method, RpcChannel, RpcError, check};

const ECHO: Method = Method::new("test", "Echo");
const KEEP: Method = Method::new("test", "Keep");

pub fn a_provider_that_stops_ends_every_call_once_and_leaves_nothing() {
    for turns in [4, 30] {
        check(move || {
            let world = World::new();
            let service = Arc::new(TestService::default());
            let provider = Arc::new(world.serve(service.clone()));
            let channel = RpcChannel::new(&world.reactor, ADDRESS, ChannelConfig::default());
            let mut ends = [ECHO, KEEP, KEEP].map(|method| begin(&channel, &method).1).to_vec();
            world.turn(turns);
            let answering = [0, 1].map(|_| {
                let service = service.clone();
                thread::spawn(move || {
                    let kept = service.kept.lock().unwrap().pop();
                    kept.into_iter().for_each(|responder| responder.send(&()));
                })
            });
            let late = {
                let channel = channel.clone();
                thread::spawn(move || begin(&channel, &ECHO).1)
            };
            // Whoever stops it has the world go on meanwhile.
            provider.stop();
            answering.into_iter().for_each(|answering| answering.join().unwrap());
            ends.push(late.join().unwrap());
            service.kept.lock().unwrap().clear();
            world.turn_and_pass_time_until(|| ends.iter().all(|ends| !ends.lock().unwrap().is_empty()));
            assert!(ends.iter().all(|ends| ends.lock().unwrap().len() == 1), "{ends:?}");
            let gauges = provider.gauges();
            assert_eq!((gauges.connections, gauges.calls_in_flight, gauges.unsent_bytes), (0, 0, 0));
            world.end();
            drop((channel, provider));
        });
    }
}

pub fn nobody_is_listened_to_when_the_provider_has_stopped() {
    check(|| {
        let world = World::new();
        let provider = Arc::new(world.serve(Arc::new(TestService::default())));
        let listening = {
            let provider = provider.clone();
            thread::spawn(move || provider.listen("10.0.0.1:81"))
        };
        provider.stop();
        let listened = listening.join().unwrap();
        assert!(matches!(listened, Ok(_) | Err(RpcError::Stopped { .. })), "{listened:?}");
        world.simulation.settle();
        for address in [ADDRESS, "10.0.0.1:81"] {
            let peer = world.simulation.connect(address.parse().unwrap());
            world.simulation.settle();
            assert!(peer.has_ended(), "{address} is listened on");
        }
        world.end();
        drop(provider);
    });
}
