//! Who cancels, reaches the call begun last: also when that one was begun, or rests before another attempt, before the thread
//! that began the one before it has come so far as to note it.

use std::sync::Arc;
use std::time::Duration;

use crate::client::retry::{RetryConfig, RetryPolicy};
use crate::primitives::atomic::{AtomicBool, Ordering};
use crate::primitives::thread;
use crate::world::{ADDRESS, Ends, TestService, World, begin};
use crate::{ChannelConfig, Method, RpcChannel, RpcController, RpcError, check};

const ECHO: Method = Method::new("test", "Echo");
const KEEP: Method = Method::new("test", "Keep");

pub fn a_call_that_another_ones_answer_has_begun_is_cancelled() {
    check(|| {
        let world = World::new();
        let service = Arc::new(TestService::default());
        let provider = world.serve(service.clone());
        let channel = RpcChannel::new(&world.reactor, ADDRESS, ChannelConfig::default());
        let (controller, ends) = (RpcController::new(), Ends::default());
        let beginning = {
            let (channel, controller, ends) = (channel.clone(), controller.clone(), ends.clone());
            let (next, again) = (channel.clone(), controller.clone());
            thread::spawn(move || {
                channel.call_async(&ECHO, &controller, &(), move |_: Result<(), RpcError>| {
                    next.call_async(&KEEP, &again, &(), move |end| ends.lock().unwrap().push(end));
                });
            })
        };
        world.turn_until(|| !service.kept.lock().unwrap().is_empty());
        beginning.join().unwrap();
        controller.cancel();
        let cancelled = Err(RpcError::Cancelled { may_have_run: true });
        assert_eq!(*ends.lock().unwrap(), [cancelled], "at once, on the thread that cancels");
        drop(channel);
        world.end();
        drop(provider);
    });
}

/// A channel to nobody, whose calls are refused where they are begun, and repeated after a pause.
fn refused_again_and_again(world: &World, pause: Duration) -> RpcChannel {
    let policy = RetryPolicy { attempts_max: 1_000, pause_min: pause, pause_max: pause };
    let retry = RetryConfig { methods: vec![(ECHO, policy)], budget_max: 1_000, ..RetryConfig::default() };
    let waits_long = Duration::from_secs(1);
    let config = ChannelConfig { retry, backoff_min: waits_long, ..ChannelConfig::default() };
    let channel = RpcChannel::new(&world.reactor, ADDRESS, config);
    let (_, refused) = begin(&channel, &KEEP);
    world.turn_until(|| !refused.lock().unwrap().is_empty());
    channel
}

pub fn a_call_that_is_cancelled_while_it_is_begun_ends() {
    check(|| {
        let world = World::new();
        let channel = refused_again_and_again(&world, Duration::from_millis(1));
        let (controller, ends) = (RpcController::new(), Ends::default());
        let beginning = {
            let (channel, controller, ends) = (channel.clone(), controller.clone(), ends.clone());
            thread::spawn(move || {
                channel.call_async(&ECHO, &controller, &(), move |end| ends.lock().unwrap().push(end));
            })
        };
        controller.cancel();
        beginning.join().unwrap();
        assert_eq!(*ends.lock().unwrap(), [Err(RpcError::Cancelled { may_have_run: false })]);
        drop(channel);
        world.end();
    });
}

pub fn a_call_that_rests_again_is_cancelled_at_once() {
    check(|| {
        let world = World::new();
        let pause = Duration::from_millis(1);
        let channel = refused_again_and_again(&world, pause);
        let has_begun = Arc::new(AtomicBool::new(false));
        let calling = {
            let (channel, has_begun) = (channel.clone(), has_begun.clone());
            thread::spawn(move || {
                let begun = begin(&channel, &ECHO);
                has_begun.store(true, Ordering::SeqCst);
                begun
            })
        };
        while !has_begun.load(Ordering::SeqCst) {
            world.simulation.advance(pause);
            thread::yield_now();
        }
        let (controller, ends) = calling.join().unwrap();
        controller.cancel();
        let cancelled = Err(RpcError::Cancelled { may_have_run: false });
        assert_eq!(*ends.lock().unwrap(), [cancelled], "at once, on the thread that cancels");
        drop(channel);
        world.end();
    });
}
