//! What other threads do with replies and calls, what a turn promises, and how everything ends.

#![expect(clippy::unwrap_used, reason = "a test's helper fails as the test does")]

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use rpc::{
    ChannelConfig, DIRECT_FLUSH_CONNECTIONS_MAX, EndOfTurn, ProviderConfig, Reactor, ReactorConfig,
    RpcChannel, RpcController, RpcError, RpcProvider, corked,
};

fn call_kept(channel: &RpcChannel, text: &str) -> mpsc::Receiver<Result<Text, RpcError>> {
    let (sender, receiver) = mpsc::channel();
    channel.call_async(&KEEP, &RpcController::new(), &Text::new(text), move |reply| {
        let _ = sender.send(reply);
    });
    receiver
}

/// Has the service tell of each kept call.
fn watch_kept(ends: &Ends) -> mpsc::Receiver<()> {
    let (sender, kept) = mpsc::channel();
    *ends.service.on_keep.lock().unwrap() = Some(sender);
    kept
}

#[test]
fn replies_of_a_corked_scope_leave_when_it_ends() {
    let ends = Ends::new();
    let kept = watch_kept(&ends);
    // Both ways of flushing: by the thread itself, and handed to the reactor.
    for connections in [1, DIRECT_FLUSH_CONNECTIONS_MAX, DIRECT_FLUSH_CONNECTIONS_MAX * 8] {
        let channels: Vec<RpcChannel> = (0..connections).map(|_| ends.channel()).collect();
        let replies: Vec<_> =
            channels.iter().flat_map(|it| [call_kept(it, "a"), call_kept(it, "b")]).collect();
        for _ in &replies {
            kept.recv_timeout(LONG).unwrap();
        }
        let pending = std::mem::take(&mut *ends.service.kept.lock().unwrap());
        let service = ends.service.clone();
        let not_yet = thread::spawn(move || {
            corked(|| {
                corked(|| pending.into_iter().for_each(|(text, reply)| reply.send(&text)));
                // A call and its reply pass while the scope is open: those of the scope are held back.
                service.calls.load(Ordering::SeqCst)
            })
        });
        not_yet.join().unwrap();
        for reply in replies {
            assert!(reply.recv_timeout(LONG).unwrap().is_ok());
        }
    }
}

#[test]
fn nothing_of_a_corked_scope_leaves_before_its_end() {
    let ends = Ends::new();
    let kept = watch_kept(&ends);
    let (held, free) = (ends.channel(), ends.channel());
    let reply = call_kept(&held, "x");
    kept.recv_timeout(LONG).unwrap();
    let (text, kept_reply) = ends.service.kept.lock().unwrap().pop().unwrap();
    corked(|| {
        kept_reply.send(&text);
        // What another thread sends has gone to and fro.
        assert!(
            thread::scope(|scope| scope.spawn(|| call(&free, &ECHO, "meanwhile")).join().unwrap()).is_ok()
        );
        assert!(reply.try_recv().is_err());
    });
    assert_eq!(reply.recv_timeout(LONG).unwrap(), Ok(Text::new("x")));
}

#[test]
fn sixty_four_blocking_callers_share_a_channel() {
    let ends = Ends::new();
    let channel = ends.channel();
    thread::scope(|scope| {
        for caller in 0..64 {
            let channel = &channel;
            scope.spawn(move || {
                for number in 0..50 {
                    let text = format!("{caller}.{number}");
                    assert_eq!(call(channel, &ECHO, &text).unwrap(), Text::new(&text));
                }
            });
        }
    });
    assert_eq!(ends.service.calls.load(Ordering::SeqCst), 64 * 50);
}

#[test]
fn replies_from_many_threads_at_once_all_arrive() {
    let ends = Ends::new();
    let kept = watch_kept(&ends);
    let channel = ends.channel();
    for _ in 0..20 {
        let replies: Vec<_> = (0..200).map(|number| call_kept(&channel, &number.to_string())).collect();
        for _ in &replies {
            kept.recv_timeout(LONG).unwrap();
        }
        let pending = Mutex::new(std::mem::take(&mut *ends.service.kept.lock().unwrap()));
        thread::scope(|scope| {
            for thread in 0..4 {
                let pending = &pending;
                scope.spawn(move || {
                    let next = || pending.lock().unwrap().pop();
                    while let Some((text, reply)) = next() {
                        if thread % 2 == 0 { reply.send(&text) } else { corked(|| reply.send(&text)) }
                    }
                });
            }
        });
        for (number, reply) in replies.iter().enumerate() {
            assert_eq!(reply.recv_timeout(LONG).unwrap(), Ok(Text::new(number.to_string())));
        }
    }
}

#[test]
fn a_turn_of_many_calls_ends_once() {
    let ends = Ends::new();
    let channel = ends.channel();
    assert!(call(&channel, &ECHO, "connected").is_ok());
    let (sender, receiver) = mpsc::channel();
    let turns = ends.service.turns.load(Ordering::SeqCst);
    corked(|| {
        for _ in 0..1000 {
            let sender = sender.clone();
            channel.call_async(
                &ECHO,
                &RpcController::new(),
                &Text::new("x"),
                move |reply: Result<Text, _>| {
                    sender.send(reply.is_ok()).unwrap();
                },
            );
        }
    });
    assert!((0..1000).all(|_| receiver.recv_timeout(LONG).unwrap()));
    let turns = ends.service.turns.load(Ordering::SeqCst) - turns;
    assert!((1..100).contains(&turns), "{turns} turns for 1,000 calls in one write");
}

#[derive(Default)]
struct CountTurns(AtomicUsize);

impl EndOfTurn for CountTurns {
    fn end_of_turn(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn hooks_run_after_turns_that_dispatched_until_their_owner_is_gone() {
    let ends = Ends::new();
    let channel = ends.channel();
    let hook = Arc::new(CountTurns::default());
    let weak: Weak<CountTurns> = Arc::downgrade(&hook);
    ends.server.on_end_of_turn(weak.clone());
    assert!(call(&channel, &ECHO, "one").is_ok());
    assert!(call(&channel, &ECHO, "two").is_ok());
    assert!(hook.0.load(Ordering::SeqCst) >= 1);
    drop(hook);
    assert!(call(&channel, &ECHO, "three").is_ok());
    assert_eq!(weak.strong_count(), 0);
}

#[test]
fn timers_run_in_order_and_can_be_taken_back() {
    let reactor =
        Reactor::start("timers", ReactorConfig { timers_max: 3, ..ReactorConfig::default() }).unwrap();
    let (sender, receiver) = mpsc::channel();
    let after = |delay_ms, name: &'static str| {
        let sender = sender.clone();
        reactor.run_after(Duration::from_millis(delay_ms), Box::new(move || sender.send(name).unwrap()))
    };
    let never = after(60_000, "never");
    after(40, "second");
    after(20, "first");
    after(60_000, "at once, since the table is full");
    assert_eq!(receiver.try_recv().unwrap(), "at once, since the table is full");
    assert!(reactor.cancel_timer(never));
    assert!(!reactor.cancel_timer(never));
    assert_eq!(receiver.recv_timeout(LONG).unwrap(), "first");
    assert_eq!(receiver.recv_timeout(LONG).unwrap(), "second");
    let dropped = after(60_000, "never");
    reactor.stop(LONG);
    assert!(!reactor.cancel_timer(dropped), "the end drops timers");
    after(0, "nor after the end");
    drop(sender);
    assert!(receiver.recv_timeout(LONG).is_err());
}

#[test]
fn a_panic_is_told_to_the_observer() {
    let ends = Ends::new();
    let (sender, panics) = mpsc::channel();
    let sender = Mutex::new(sender);
    ends.server.on_panic(move |text| sender.lock().unwrap().send(text.to_owned()).unwrap());
    assert!(call(&ends.channel(), &PANIC, "x").is_err());
    assert_eq!(panics.recv_timeout(LONG).unwrap(), "a handler panicked: as asked");
    assert!(call(&ends.channel(), &ECHO, "alive").is_ok());
}

#[test]
fn a_panic_in_a_completion_harms_no_other_call() {
    let ends = Ends::new();
    let channel = ends.channel();
    channel
        .call_async(&ECHO, &RpcController::new(), &Text::new("x"), |_: Result<Text, _>| panic!("as planned"));
    assert!(call(&channel, &ECHO, "alive").is_ok());
}

#[test]
fn stopping_a_reactor_answers_every_pending_call() {
    let ends = Ends::new();
    let kept = watch_kept(&ends);
    let channel = ends.channel();
    let replies: Vec<_> = (0..10).map(|_| call_kept(&channel, "x")).collect();
    for _ in &replies {
        kept.recv_timeout(LONG).unwrap();
    }
    let blocked = {
        let channel = channel.clone();
        thread::spawn(move || call(&channel, &KEEP, "y"))
    };
    kept.recv_timeout(LONG).unwrap();
    ends.client.stop(Duration::from_millis(50));
    for reply in replies {
        assert_eq!(reply.try_recv().unwrap(), Err(RpcError::Stopped { may_have_run: true }));
    }
    assert_eq!(blocked.join().unwrap(), Err(RpcError::Stopped { may_have_run: true }));
    assert_eq!(call(&channel, &ECHO, "z"), Err(RpcError::Stopped { may_have_run: false }));
    let unused = ends.channel();
    assert_eq!(call(&unused, &ECHO, "z"), Err(RpcError::Stopped { may_have_run: false }));
    ends.client.stop(LONG);
}

#[test]
fn stopping_a_provider_waits_for_calls_in_flight_and_refuses_new_ones() {
    let ends = Ends::with(
        ProviderConfig { drain_timeout: LONG, ..ProviderConfig::default() },
        TestService::default(),
    );
    let kept = watch_kept(&ends);
    let channel = ends.channel();
    let reply = call_kept(&channel, "x");
    kept.recv_timeout(LONG).unwrap();
    let has_stopped = Arc::new(AtomicBool::new(false));
    let stopping = {
        let (provider, has_stopped) = (ends.provider.clone(), has_stopped.clone());
        thread::spawn(move || {
            provider.stop();
            has_stopped.store(true, Ordering::SeqCst);
        })
    };
    let until = Instant::now() + LONG;
    while call(&channel, &ECHO, "still?").is_ok() {
        assert!(Instant::now() < until);
    }
    assert!(!has_stopped.load(Ordering::SeqCst));
    let (text, kept_reply) = ends.service.kept.lock().unwrap().pop().unwrap();
    kept_reply.send(&text);
    assert_eq!(reply.recv_timeout(LONG).unwrap(), Ok(Text::new("x")));
    stopping.join().unwrap();
    ends.provider.run();
    assert!(ends.provider.listen("127.0.0.1:0").is_err());
    assert!(std::net::TcpStream::connect(ends.address).is_err(), "nobody listens any more");
}

#[test]
fn stopping_a_provider_has_a_bound() {
    let config = ProviderConfig { drain_timeout: Duration::from_millis(20), ..ProviderConfig::default() };
    let ends = Ends::with(config, TestService::default());
    let kept = watch_kept(&ends);
    let channel = ends.channel();
    let reply = call_kept(&channel, "never answered");
    kept.recv_timeout(LONG).unwrap();
    ends.provider.stop();
    assert!(matches!(
        reply.recv_timeout(LONG).unwrap(),
        Err(RpcError::Stopped { .. } | RpcError::Closed { .. })
    ));
}

#[test]
fn a_provider_ends_with_its_reactor() {
    let reactor = Reactor::start("server", ReactorConfig::default()).unwrap();
    let provider = Arc::new(RpcProvider::new(&reactor, ProviderConfig::default()));
    let running = {
        let provider = provider.clone();
        thread::spawn(move || provider.run())
    };
    reactor.stop(LONG);
    running.join().unwrap();
    provider.stop();
}

#[test]
fn dropping_the_last_channel_closes_its_connection() {
    let ends = Ends::new();
    let kept = watch_kept(&ends);
    let channel = ends.channel();
    let clone = channel.clone();
    let reply = call_kept(&channel, "x");
    kept.recv_timeout(LONG).unwrap();
    drop(channel);
    assert!(reply.try_recv().is_err(), "a clone is left");
    drop(clone);
    assert_eq!(reply.try_recv().unwrap(), Err(RpcError::Stopped { may_have_run: true }));
}

#[test]
fn a_callback_may_stop_its_own_reactor() {
    let ends = Ends::new();
    let (sender, receiver) = mpsc::channel();
    let reactor = ends.client.clone();
    let channel = ends.channel();
    channel.call_async(
        &ECHO,
        &RpcController::new(),
        &Text::new("x"),
        move |reply: Result<Text, RpcError>| {
            reactor.stop(LONG);
            sender.send(reply).unwrap();
        },
    );
    assert_eq!(receiver.recv_timeout(LONG).unwrap(), Ok(Text::new("x")));
    ends.client.stop(LONG);
}

#[test]
fn no_thread_is_left_when_all_handles_are_gone() {
    let name = "leave-no-trace";
    let is_running = || {
        std::fs::read_dir("/proc/self/task").unwrap().any(|task| {
            std::fs::read_to_string(task.unwrap().path().join("comm")).is_ok_and(|comm| comm.trim() == name)
        })
    };
    let reactor = Reactor::start(name, ReactorConfig::default()).unwrap();
    let channel = RpcChannel::new(&reactor, "127.0.0.1:1", ChannelConfig::default());
    assert!(call(&channel, &ECHO, "x").is_err());
    assert!(is_running());
    drop(reactor);
    let until = Instant::now() + LONG;
    // A joined thread may be listed for a moment longer.
    while is_running() {
        assert!(Instant::now() < until);
    }
    assert_eq!(call(&channel, &ECHO, "x"), Err(RpcError::Stopped { may_have_run: false }));
}
