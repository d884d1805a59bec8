//! The parts by which threads wait for each other: the mailbox and the clock of a reactor, a blocked caller, a stream.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::check;
use crate::client::pending_call::{BlockedCaller, Completion};
use crate::primitives::thread;
use crate::reactor::clock::NEVER;
use crate::reactor::deadlines::Deadlines;
use crate::reactor::mailbox::{Command, Mailbox};
use crate::reactor::world::World;
use crate::server::in_flight::Stages;
use crate::stream::state::{StreamState, Taken};

pub fn a_reactor_never_sleeps_on_a_command_or_a_deadline() {
    check(|| {
        let mut poll = mio::Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
        let reactor = Arc::new((Mailbox::new(Some(waker)), Deadlines::new(1)));
        let posting = [0, 1].map(|_| {
            let reactor = reactor.clone();
            thread::spawn(move || reactor.0.post(Command::Flush(Vec::new())).is_ok())
        });
        let arming = {
            let reactor = reactor.clone();
            thread::spawn(move || {
                if reactor.1.arm(5) {
                    reactor.0.wake_sleeper();
                }
            })
        };
        let (mailbox, deadlines) = &*reactor;
        let (mut commands, mut looks) = (0, 0);
        let mut events = mio::Events::with_capacity(4);
        while commands < 2 || looks < 1 {
            // As a turn begins: see `PollLoop`.
            let has_work = mailbox.announce_sleep();
            let mut is_awake = has_work || deadlines.armed() != NEVER;
            while !is_awake {
                poll.poll(&mut events, Some(std::time::Duration::ZERO)).unwrap();
                is_awake = !events.is_empty();
                thread::yield_now();
            }
            mailbox.announce_awake();
            commands += mailbox.take(Vec::new()).len();
            if deadlines.armed() != NEVER {
                deadlines.disarm();
                looks += 1;
            }
        }
        assert_eq!((commands, looks), (2, 1));
        assert!(posting.into_iter().all(|thread| thread.join().unwrap()));
        arming.join().unwrap();
    });
}

pub fn a_command_is_taken_handed_back_or_found_at_the_end() {
    check(|| {
        let mailbox = Arc::new(Mailbox::new(None));
        let posting = [0, 1, 2].map(|_| {
            let mailbox = mailbox.clone();
            thread::spawn(move || mailbox.post(Command::Flush(Vec::new())).is_ok())
        });
        let found = mailbox.take(Vec::new()).len() + mailbox.close().len();
        let posted = posting.into_iter().filter(|_| true).map(|thread| thread.join().unwrap());
        assert_eq!(posted.filter(|is_posted| *is_posted).count(), found);
    });
}

pub fn a_blocked_caller_is_woken_for_each_of_its_calls() {
    check(|| {
        let caller = Arc::new(BlockedCaller::default());
        let (begun, calls) = shuttle::sync::mpsc::channel();
        let waiting = {
            let caller = caller.clone();
            thread::spawn(move || {
                for _ in 0..3 {
                    begun.send(()).unwrap();
                    assert_eq!(caller.wait(&World::System, Duration::ZERO), Ok(Bytes::new()));
                }
            })
        };
        let world = crate::world::World::new();
        for () in calls {
            Completion::Blocked(caller.clone()).run(world.reactor.shared(), Ok(Bytes::new()));
        }
        world.end();
        waiting.join().unwrap();
    });
}

pub fn a_call_that_many_want_to_end_is_ended_by_one() {
    check(|| {
        let stages = Arc::new(Stages::default());
        let ticket = stages.begin(0);
        let ending = [0, 1].map(|_| {
            let stages = stages.clone();
            thread::spawn(move || stages.end(ticket))
        });
        let ended = ending.map(|thread| usize::from(thread.join().unwrap()));
        assert_eq!(ended.iter().sum::<usize>(), 1);
        assert!(!stages.is_pending(ticket));
    });
}

pub fn a_reader_of_a_stream_gets_every_message_and_the_end() {
    check(|| {
        let stream = Arc::new(StreamState::new(64, 0));
        let reading = {
            let stream = stream.clone();
            thread::spawn(move || {
                let mut messages = Vec::new();
                let mut granted = 0;
                loop {
                    match stream.wait_and_take() {
                        Taken::Message(message, credit) => {
                            messages.push(message[0]);
                            granted += credit;
                        }
                        Taken::End(outcome) => return (messages, granted, outcome),
                        Taken::Nothing => panic!("it waits for something"),
                    }
                }
            })
        };
        let mut sent = 0;
        while sent < 4 {
            // Each takes half a window and a little: beyond credit it is refused until one was taken.
            if stream.push(Bytes::from(vec![sent])) {
                sent += 1;
            } else {
                thread::yield_now();
            }
        }
        stream.end(Ok(()));
        let (messages, _, outcome) = reading.join().unwrap();
        assert_eq!((messages, outcome), (vec![0, 1, 2, 3], Ok(())));
    });
}

pub fn a_writer_of_a_stream_waits_for_credit_or_the_end_and_no_longer() {
    for is_closed in [false, true] {
        check(move || {
            let stream = Arc::new(StreamState::new(0, 1));
            let writing = [0, 1].map(|_| {
                let stream = stream.clone();
                thread::spawn(move || stream.wait_and_spend(10).is_ok())
            });
            match is_closed {
                // What is granted twice is enough for both, whoever comes first.
                false => [42, 42].into_iter().for_each(|credit| stream.grant(credit)),
                true => stream.close(Ok(())),
            }
            let spent = writing.map(|thread| thread.join().unwrap());
            assert!(is_closed || spent == [true, true]);
        });
    }
}
