//! The ends of a call, as its caller sees them: reply, deadline, cancellation, the channel's close and the reactor's end race,
//! and one of them wins.

use std::sync::Arc;

use crate::primitives::atomic::Ordering;
use crate::primitives::thread;
use crate::world::{ADDRESS, Ends, TestService, World, begin};
use crate::{ChannelConfig, Method, RpcChannel, check};

const ECHO: Method = Method::new("test", "Echo");
const KEEP: Method = Method::new("test", "Keep");

pub fn a_call_that_is_answered_late_cancelled_and_closed_at_once_ends_once() {
    for method in [ECHO, KEEP] {
        check(move || {
            let world = World::new();
            let service = Arc::new(TestService::default());
            let provider = world.serve(service.clone());
            let channel = RpcChannel::new(&world.reactor, ADDRESS, ChannelConfig::default());
            let (controller, ends) = begin(&channel, &method);
            let other = channel.clone();
            let others = [
                thread::spawn(move || controller.cancel()),
                thread::spawn(move || service.kept.lock().unwrap().clear()),
                thread::spawn(move || other.close()),
            ];
            world.turn_and_pass_time_until(|| !ends.lock().unwrap().is_empty());
            others.into_iter().for_each(|other| other.join().unwrap());
            world.end();
            drop((channel, provider));
            assert_eq!(ends.lock().unwrap().len(), 1, "{ends:?}");
        });
    }
}

pub fn a_call_that_is_told_not_to_have_run_never_runs() {
    check(|| {
        let world = World::new();
        let service = Arc::new(TestService::default());
        let provider = world.serve(service.clone());
        let channel = RpcChannel::new(&world.reactor, ADDRESS, ChannelConfig::default());
        let (_, first) = begin(&channel, &ECHO);
        world.turn_until(|| !first.lock().unwrap().is_empty());
        let calling = [0, 1].map(|_| {
            let channel = channel.clone();
            thread::spawn(move || begin(&channel, &ECHO))
        });
        let closing = {
            let channel = channel.clone();
            thread::spawn(move || channel.close())
        };
        world.turn(6);
        closing.join().unwrap();
        let mut ends = vec![first];
        for (controller, end) in calling.into_iter().map(|calling| calling.join().unwrap()) {
            controller.cancel();
            ends.push(end);
        }
        world.simulation.settle();
        let may_have_run = |end: &&Ends| match &end.lock().unwrap()[..] {
            [Ok(())] => true,
            [Err(error)] => error.may_have_run(),
            ends => panic!("{ends:?}"),
        };
        let calls = service.calls.load(Ordering::SeqCst);
        assert!(calls <= ends.iter().filter(may_have_run).count(), "{calls} calls have run: {ends:?}");
        world.end();
        drop((channel, provider));
    });
}

pub fn a_call_whose_reactor_ends_ends_too() {
    check(|| {
        let world = World::new();
        let provider = world.serve(Arc::new(TestService::default()));
        let channel = RpcChannel::new(&world.reactor, ADDRESS, ChannelConfig::default());
        let caller = {
            let channel = channel.clone();
            thread::spawn(move || [begin(&channel, &ECHO).1, begin(&channel, &KEEP).1])
        };
        // It ends at any moment of the calls' beginning.
        world.turn(6);
        world.end();
        let ends = caller.join().unwrap();
        assert!(ends.iter().all(|ends| ends.lock().unwrap().len() == 1), "{ends:?}");
        drop((channel, provider));
    });
}

pub fn many_threads_call_on_one_channel_and_each_call_has_its_answer() {
    check(|| {
        let world = World::new();
        let provider = world.serve(Arc::new(TestService::default()));
        let channel = RpcChannel::new(&world.reactor, ADDRESS, ChannelConfig::default());
        let callers = [0, 1].map(|_| {
            let channel = channel.clone();
            thread::spawn(move || [ECHO, ECHO].map(|method| begin(&channel, &method).1))
        });
        // It goes on while they call, and when all have called, nobody says anything more.
        world.turn(12);
        let ends: Vec<Ends> = callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect();
        world.turn_until(|| ends.iter().all(|ends| !ends.lock().unwrap().is_empty()));
        assert!(ends.iter().all(|ends| *ends.lock().unwrap() == [Ok(())]), "{ends:?}");
        world.end();
        drop((channel, provider));
    });
}
