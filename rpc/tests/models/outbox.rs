//! One connection on which many threads send: nothing is lost, left behind or out of order, however little is taken at a time;
//! and what waits is counted as long as it does.

use std::sync::Arc;

use crate::primitives::thread;
use crate::protocol::decoder::RequestDecoder;
use crate::world::{ADDRESS, TestService, World, begin, call_frame};
use crate::{ChannelConfig, Method, Peer, ReactorConfig, RpcChannel, RpcController, RpcError, check};

const NAMES: [[&str; 2]; 2] = [["a0", "a1"], ["b0", "b1"]];

/// The names of the methods called, in the order of their calls.
fn methods_of(bytes: &[u8]) -> Vec<String> {
    let mut decoder = RequestDecoder::new(1 << 20);
    decoder.feed(bytes);
    std::iter::from_fn(|| decoder.next_frame().unwrap())
        .map(|frame| String::from_utf8(frame.head.method().to_vec()).unwrap())
        .collect()
}

pub fn what_many_threads_send_leaves_whole_and_in_each_threads_order() {
    for is_corked in [false, true] {
        check(move || {
            let world = World::new();
            world.simulation.set_pipe_bytes_max(11);
            let listener = world.simulation.listen(ADDRESS.parse().unwrap());
            let channel = RpcChannel::new(&world.reactor, ADDRESS, ChannelConfig::default());
            // The connection is there, so that the senders write themselves.
            channel.send_one_way(&Method::new("test", "first"), &()).unwrap();
            let (mut peer, mut received) = (None, Vec::new());
            let mut has_received = |count| {
                peer = peer.take().or_else(|| listener.accept());
                received.extend(peer.as_ref().map(|peer| peer.receive()).unwrap_or_default());
                methods_of(&received).len() == count
            };
            world.turn_until(|| has_received(1));
            let senders = NAMES.map(|names| {
                let channel = channel.clone();
                let send = move || {
                    for name in names {
                        channel.send_one_way(&Method::new("test", name), &()).unwrap();
                    }
                };
                thread::spawn(move || if is_corked { crate::reactor::cork::corked(send) } else { send() })
            });
            world.turn_until(|| has_received(5));
            senders.into_iter().for_each(|sender| sender.join().unwrap());
            let methods = methods_of(&received);
            for names in NAMES {
                let own: Vec<&String> =
                    methods.iter().filter(|name| names.contains(&name.as_str())).collect();
                assert_eq!(own, names);
            }
            drop(channel);
            world.end();
        });
    }
}

pub fn what_is_sent_beside_a_call_that_is_taken_back_leaves() {
    check(|| {
        let world = World::new();
        let listener = world.simulation.listen(ADDRESS.parse().unwrap());
        let channel = RpcChannel::new(&world.reactor, ADDRESS, ChannelConfig::default());
        let send =
            |channel: &RpcChannel, name| channel.send_one_way(&Method::new("test", name), &()).unwrap();
        send(&channel, "first");
        let (mut peer, mut received) = (None, Vec::new());
        let mut has_received = |name: &str| {
            peer = peer.take().or_else(|| listener.accept());
            received.extend(peer.as_ref().map(|peer| peer.receive()).unwrap_or_default());
            methods_of(&received).iter().any(|method| method == name)
        };
        world.turn_until(|| has_received("first"));
        let threads = crate::reactor::cork::corked(|| {
            // They are held back until the end of the scope, and taken back before.
            let begun = [(); 4].map(|()| begin(&channel, &Method::new("test", "held")).0);
            let cancelling = thread::spawn(move || begun.iter().for_each(RpcController::cancel));
            let channel = channel.clone();
            let sending = thread::spawn(move || send(&channel, "beside"));
            world.turn_until(|| has_received("beside"));
            [cancelling, sending]
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        drop(channel);
        world.end();
    });
}

pub fn what_has_not_left_counts_until_its_connection_ends_and_no_longer() {
    for end in ["close", "reset", "end"] {
        check(move || {
            // While anything waits to leave, nothing more is taken.
            let world = World::with(ReactorConfig { unsent_bytes_total_max: 0, ..ReactorConfig::default() });
            world.simulation.set_pipe_bytes_max(11);
            let address = ADDRESS.parse().unwrap();
            let listener = world.simulation.listen(address);
            let channel = RpcChannel::new(&world.reactor, ADDRESS, ChannelConfig::default());
            let send = |channel: &RpcChannel| channel.send_one_way(&Method::new("test", "one"), &());
            send(&channel).unwrap();
            let mut peer = None;
            world.turn_until(|| {
                peer = peer.take().or_else(|| listener.accept());
                peer.is_some() && matches!(send(&channel), Err(RpcError::Busy { .. }))
            });
            drop(listener);
            let peer = Arc::new(peer);
            let senders = [0, 1].map(|_| {
                let channel = channel.clone();
                thread::spawn(move || [(); 2].map(|()| send(&channel).is_ok()))
            });
            let (simulation, ended, peer) = (world.simulation.clone(), channel.clone(), peer.clone());
            let ending = thread::spawn(move || match end {
                "close" => ended.close(),
                "reset" => simulation.reset(address),
                _ => peer.iter().for_each(Peer::end),
            });
            world.turn(6);
            ending.join().unwrap();
            senders.into_iter().for_each(|sender| assert!(sender.join().is_ok()));
            world.simulation.settle();
            let next = RpcChannel::new(&world.reactor, ADDRESS, ChannelConfig::default());
            assert_eq!(send(&next), Ok(()), "what has ended has nothing to send");
            drop((channel, next));
            world.end();
        });
    }
}

pub fn replies_that_nobody_takes_count_until_their_connection_ends_and_no_longer() {
    for is_dropped in [false, true] {
        check(move || {
            let world = World::new();
            world.simulation.set_pipe_bytes_max(24);
            let service = Arc::new(TestService::default());
            let provider = world.serve(service.clone());
            let peer = world.simulation.connect(ADDRESS.parse().unwrap());
            let mut asked: Vec<u8> = (1..=8).flat_map(|id| call_frame("Keep", id, 1_000)).collect();
            world.turn_until(|| {
                let sent = peer.send(&asked);
                asked.drain(..sent);
                service.kept.lock().unwrap().len() == 8
            });
            let kept = std::mem::take(&mut *service.kept.lock().unwrap());
            let mut answering = kept.into_iter();
            let answering = [(); 2].map(|()| {
                let some: Vec<_> = answering.by_ref().take(4).collect();
                thread::spawn(move || some.into_iter().for_each(|responder| responder.send(&())))
            });
            let ending = thread::spawn(move || {
                peer.end();
                (!is_dropped).then_some(peer)
            });
            world.turn(6);
            let peer = ending.join().unwrap();
            answering.into_iter().for_each(|thread| thread.join().unwrap());
            world.turn_and_pass_time_until(|| provider.gauges().connections == 0);
            assert_eq!(provider.gauges().unsent_bytes, 0);
            world.end();
            drop((provider, peer));
        });
    }
}
