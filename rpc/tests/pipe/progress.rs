//! In worlds without faults, in which turns end before all have had theirs: whatever has been asked is answered without anything
//! else having to happen. No deadline, and no sign of life that is asked for, may be what has a connection go on.

use super::common::raw::request;
use super::common::{ECHO, KEEP};
use super::model::Chance;
use super::*;
use rpc::Peer;
use rpc::protocol::reply_decoder::ReplyDecoder;

/// Things done in a run, beside what happens by itself.
const DEEDS: usize = 100;

/// A peer made by hand, which takes its replies when it likes.
struct Asker {
    peer: Peer,
    /// Not sent yet.
    asked: Vec<u8>,
    calls: u64,
    replies: ReplyDecoder,
    answered: u64,
}

impl Asker {
    fn ask(&mut self, bytes: usize) {
        self.calls += 1;
        self.asked.extend(request("Bytes", self.calls, bytes.to_string().as_bytes()));
    }

    fn send(&mut self) {
        let sent = self.peer.send(&self.asked);
        self.asked.drain(..sent);
    }

    fn receive(&mut self) {
        self.replies.feed(&self.peer.receive());
        while self.replies.next_frame().unwrap().is_some() {
            self.answered += 1;
        }
    }
}

fn run(seed: u64) {
    let (world, mut chance) = (Arc::new(Simulation::new(seed)), Chance(seed));
    world.set_pipe_bytes_max([100, 1_000, 20_000, 65_536][chance.below(4)]);
    world.set_copying(Duration::from_micros([0, 100, 5_000][chance.below(3)]));
    let [server, client] = [(); 2].map(|()| {
        world.reactor(ReactorConfig {
            read_bytes_max: [16, 300, 4_096][chance.below(3)],
            reads_per_turn_max: 1 + chance.below(3),
            write_bytes_per_turn_max: [100, 5_000, 1 << 20][chance.below(3)],
            ..ReactorConfig::default()
        })
    });
    let config =
        ProviderConfig { unsent_bytes_high_water: 100 + chance.below(5_000), ..ProviderConfig::default() };
    let provider = RpcProvider::new(&server, config);
    let service = Arc::new(TestService::default());
    provider.notify_service(service.clone()).unwrap();
    provider.listen(SERVER).unwrap();
    let pair = Pair { service, provider, client, server, world };
    let channels =
        [false, false, true].map(|legacy| pair.channel_with(ChannelConfig { legacy, ..Default::default() }));
    let mut askers = [(); 3].map(|()| Asker {
        peer: pair.world.connect(server_address()),
        asked: Vec::new(),
        calls: 0,
        replies: ReplyDecoder::new(1 << 20),
        answered: 0,
    });
    let mut begun = Vec::new();
    for _ in 0..DEEDS {
        let chosen = chance.below(3);
        match chance.below(6) {
            0 => begun.push(pair.begin(&channels[chosen], &ECHO, ms(1_000_000))),
            1 => begun.push(pair.begin(&channels[chosen], &KEEP, ms(1_000_000))),
            2 => pair.answer_kept(),
            3 => (0..=chance.below(30)).for_each(|_| askers[chosen].ask(chance.below(2_000))),
            4 => askers[chosen].receive(),
            _ => {}
        }
        askers.iter_mut().for_each(Asker::send);
        for _ in 0..chance.below(30) {
            pair.world.step();
        }
    }
    // The pipes hold little: so often must be sent and received.
    let is_answered = |askers: &[Asker]| {
        begun.iter().all(Begun::is_answered) && askers.iter().all(|asker| asker.answered == asker.calls)
    };
    let mut rounds = 0;
    while !is_answered(&askers) {
        assert!(rounds < 20_000, "seed {seed}: something is waited for");
        rounds += 1;
        pair.answer_kept();
        askers.iter_mut().for_each(Asker::send);
        pair.world.settle();
        askers.iter_mut().for_each(Asker::receive);
    }
    assert!(begun.iter().all(|call| call.answer().1.is_ok()), "seed {seed}");
}

#[test]
fn whatever_is_asked_is_answered_without_anything_else_having_to_happen() {
    (0..100).for_each(run);
}
