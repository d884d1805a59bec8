//! The answers to a call, as its peer reads them: handlers on other threads, cancellation and the deadline race for the one
//! terminal reply.

use std::sync::Arc;

use crate::primitives::thread;
use crate::protocol::encoder::put_cancel;
use crate::world::{ADDRESS, TestService, World, call_frame, replies_of};
use crate::{Call, Responder, Service, ThreadPool, ThreadPoolConfig, check};

pub fn a_call_gets_one_terminal_reply_whoever_gives_it() {
    check(|| {
        let world = World::new();
        let service = Arc::new(TestService::default());
        let provider = world.serve(service.clone());
        let peer = world.simulation.connect(ADDRESS.parse().unwrap());
        let mut asked = call_frame("Keep", 1, 1_000);
        asked.extend(call_frame("Keep", 2, 1_000));
        assert_eq!(peer.send(&asked), asked.len());
        world.turn_until(|| service.kept.lock().unwrap().len() == 2);
        let answering: Vec<_> = std::mem::take(&mut *service.kept.lock().unwrap())
            .into_iter()
            .map(|responder| {
                thread::spawn(move || match responder.context().is_cancelled() {
                    true => drop(responder),
                    false => responder.send(&()),
                })
            })
            .collect();
        let mut word = Vec::new();
        put_cancel(&mut word, 1);
        assert_eq!(peer.send(&word), word.len());
        let mut received = Vec::new();
        world.turn_and_pass_time_until(|| {
            received.extend(peer.receive());
            replies_of(&received).len() >= 2
        });
        answering.into_iter().for_each(|thread| thread.join().unwrap());
        world.simulation.settle();
        received.extend(peer.receive());
        let mut ids: Vec<u64> = replies_of(&received).iter().map(|reply| reply.head.call_id).collect();
        ids.sort_unstable();
        assert_eq!(ids, [1, 2]);
        world.end();
        drop(provider);
    });
}

/// Answers on whatever thread it is called.
struct Echo;

impl Service for Echo {
    fn name(&self) -> &str {
        "test"
    }

    fn call(&self, _: Call<'_>, responder: Responder) {
        responder.send(&());
    }
}

pub fn a_thread_pool_answers_every_call_once_also_those_it_has_no_time_for() {
    for is_ended_early in [false, true] {
        check(move || {
            let world = World::new();
            let pool = ThreadPool::start("pool", ThreadPoolConfig { threads: 2, waiting_max: 2 }).unwrap();
            let pooled = pool.wrap(Arc::new(Echo));
            let provider = world.serve(pooled.clone());
            let peer = world.simulation.connect(ADDRESS.parse().unwrap());
            let asked: Vec<u8> = (1..=4).flat_map(|id| call_frame("Echo", id, 1_000)).collect();
            assert_eq!(peer.send(&asked), asked.len());
            let mut received = Vec::new();
            let mut all_have_come = || {
                received.extend(peer.receive());
                replies_of(&received).len() >= 4
            };
            if !is_ended_early {
                world.turn_until(&mut all_have_come);
            }
            // Whichever handle is the last one, its drop ends the pool.
            let ending = thread::spawn(move || drop((pool, pooled)));
            world.turn_until(all_have_come);
            ending.join().unwrap();
            assert_eq!(replies_of(&received).len(), 4);
            world.end();
            drop(provider);
        });
    }
}
