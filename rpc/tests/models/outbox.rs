//! One connection on which many threads send: nothing is lost, left behind or out of order, however little is taken at a time.

use crate::primitives::thread;
use crate::protocol::decoder::RequestDecoder;
use crate::world::{ADDRESS, World};
use crate::{ChannelConfig, Method, RpcChannel, check};

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
