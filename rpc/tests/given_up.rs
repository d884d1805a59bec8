//! Calls that are given up: cancelled, dropped or late. The server is told or knows by itself, and its handler can see it.

#![expect(clippy::unwrap_used, reason = "a test's helper fails as the test does")]

mod common;

use std::io::Write;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::raw::*;
use common::*;
use rpc::protocol::encoder::put_cancel;
use rpc::protocol::reply_decoder::ReplyFrame;
use rpc::{Call, CallContext, Method, Responder, RpcChannel, RpcController, RpcError, Service, Status};

fn kept_by(ends: &Ends) -> Receiver<()> {
    let (sender, kept) = mpsc::channel();
    *ends.service.on_keep.lock().unwrap() = Some(sender);
    kept
}

/// The context of the only call that is kept.
fn context_of(ends: &Ends) -> CallContext {
    ends.service.kept.lock().unwrap()[0].1.context().clone()
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < until, "never: {what}");
        thread::yield_now();
    }
}

fn frame(method: &str, call_id: u64, timeout_ms: u64) -> Vec<u8> {
    request_within(timeout_ms, ("test", method), call_id, b"x")
}

fn status(reply: &ReplyFrame) -> Status {
    Status::from_code(reply.head.status)
}

#[test]
fn a_handler_sees_that_its_call_was_cancelled() {
    let ends = Ends::new();
    let kept = kept_by(&ends);
    let controller = RpcController::new();
    ends.channel_with_call(&controller, |channel| {
        kept.recv_timeout(LONG).unwrap();
        let context = context_of(&ends);
        assert!(!context.is_cancelled());
        controller.cancel();
        eventually("the handler sees it", || context.is_cancelled());
        assert!(call(channel, &ECHO, "the others go on").is_ok());
    });
}

#[test]
fn dropping_a_begun_call_cancels_it_and_no_other() {
    let ends = Ends::new();
    let kept = kept_by(&ends);
    let channel = ends.channel();
    let dropped = channel.begin::<_, Text>(&KEEP, &RpcController::new(), &Text::new("dropped"));
    kept.recv_timeout(LONG).unwrap();
    let context = context_of(&ends);
    let awaited = channel.begin::<_, Text>(&KEEP, &RpcController::new(), &Text::new("awaited"));
    kept.recv_timeout(LONG).unwrap();
    drop(dropped);
    eventually("the handler sees it", || context.is_cancelled());
    for (text, reply) in ends.service.kept.lock().unwrap().drain(..) {
        assert_eq!(reply.context().is_cancelled(), text == Text::new("dropped"));
        reply.send(&text);
    }
    assert_eq!(awaited.wait(), Ok(Text::new("awaited")));
    let in_scope = rpc::corked(|| {
        channel.begin::<_, Text>(&ECHO, &RpcController::new(), &Text::new("held back")).wait()
    });
    assert_eq!(in_scope, Ok(Text::new("held back")));
}

#[test]
fn a_handler_sees_that_its_caller_has_gone() {
    let ends = Ends::new();
    let kept = kept_by(&ends);
    let stream = connect(ends.address);
    (&stream).write_all(&frame("Keep", 1, 60_000)).unwrap();
    kept.recv_timeout(LONG).unwrap();
    let context = context_of(&ends);
    assert!(!context.is_cancelled());
    // Unread bytes make the close a reset: the server need not wait for half-closed peers.
    ends.service.kept.lock().unwrap().drain(..).for_each(|(text, reply)| reply.send(&text));
    assert!(context.is_cancelled(), "an answered call awaits nothing");
    (&stream).write_all(&frame("Keep", 2, 60_000)).unwrap();
    kept.recv_timeout(LONG).unwrap();
    let context = context_of(&ends);
    stream.peek(&mut [0]).unwrap();
    drop(stream);
    eventually("the handler sees it", || context.is_cancelled());
}

#[test]
fn a_cancelled_call_gets_one_reply_and_so_does_a_late_one() {
    let ends = Ends::new();
    let kept = kept_by(&ends);
    let mut stream = connect(ends.address);
    let mut cancel = Vec::new();
    [1, 2, 2, 77].iter().for_each(|call_id| put_cancel(&mut cancel, *call_id));
    let calls = [frame("Keep", 1, 60_000), frame("Keep", 2, 60_000), frame("Keep", 3, 60_000)].concat();
    stream.write_all(&[calls, cancel, frame("Keep", 4, 10)].concat()).unwrap();
    (0..4).for_each(|_| kept.recv_timeout(LONG).unwrap());
    let mut replies = read_replies(&mut stream, 3);
    // Whatever the handlers say now, only the third call is still owed an answer.
    ends.service.kept.lock().unwrap().drain(..).for_each(|(text, reply)| reply.send(&text));
    stream.write_all(&frame("Echo", 5, 0)).unwrap();
    replies.extend(read_replies(&mut stream, 2));
    let seen: Vec<_> = replies.iter().map(|it| (it.head.call_id, status(it))).collect();
    let (cancelled, late) = (Status::Cancelled, Status::DeadlineExceeded);
    assert_eq!(seen, [(1, cancelled), (2, cancelled), (4, late), (3, Status::Ok), (5, Status::Ok)]);
}

#[test]
fn the_server_ends_late_calls_itself_and_no_others() {
    let ends = Ends::new();
    let kept = kept_by(&ends);
    let mut stream = connect(ends.address);
    let begun = Instant::now();
    for (call_id, timeout_ms) in [(1, 60_000), (2, 60), (3, 20), (4, 40)] {
        stream.write_all(&frame("Keep", call_id, timeout_ms)).unwrap();
        kept.recv_timeout(LONG).unwrap();
    }
    let replies = read_replies(&mut stream, 3);
    assert!(begun.elapsed() >= Duration::from_millis(60));
    // In which order, `pipe/deadlines` says: here the machine may stop for longer than all of them have.
    let mut seen: Vec<_> = replies.iter().map(|it| it.head.call_id).collect();
    seen.sort_unstable();
    assert_eq!(seen, [2, 3, 4]);
    let left = context_of(&ends).remaining();
    assert!(left > Duration::from_secs(20) && left < Duration::from_secs(60), "{left:?}");
    for (_, reply) in &ends.service.kept.lock().unwrap()[1..] {
        assert!(reply.context().is_cancelled() && reply.context().remaining().is_zero());
    }
}

#[test]
fn places_are_used_again_and_again() {
    let ends = Ends::new();
    let kept = kept_by(&ends);
    let channel = ends.channel();
    for round in 1..40 {
        let replies: Vec<_> = (0..round)
            .map(|_| channel.begin::<_, Text>(&KEEP, &RpcController::new(), &Text::new("x")))
            .collect();
        (0..round).for_each(|_| kept.recv_timeout(LONG).unwrap());
        ends.service.kept.lock().unwrap().drain(..).for_each(|(text, reply)| reply.send(&text));
        for reply in replies {
            assert!(reply.wait().is_ok());
        }
    }
}

/// Answers with the time that a call made on its behalf was given.
struct Front {
    back: RpcChannel,
    workers: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl Service for Front {
    fn name(&self) -> &str {
        "front"
    }

    fn call(&self, call: Call<'_>, responder: Responder) {
        let controller = RpcController::new();
        controller.set_timeout(Duration::from_secs(50));
        match call.method {
            b"Inline" => self.ask(&controller, responder),
            b"Detached" => rpc::detached(|| self.ask(&controller, responder)),
            _ => {
                let back = self.back.clone();
                let worker = thread::spawn(move || {
                    let context = responder.context().clone();
                    let reply = context.scope(|| back.call::<_, Text>(&WAIT, &controller, &Text::new("")));
                    responder.fail(Status::BadRequest, &reply.unwrap_err().to_string());
                });
                self.workers.lock().unwrap().push(worker);
            }
        }
    }
}

impl Front {
    fn ask(&self, controller: &RpcController, responder: Responder) {
        let done = move |reply: Result<Text, RpcError>| {
            responder.fail(Status::BadRequest, &reply.unwrap_err().to_string());
        };
        self.back.call_async(&WAIT, controller, &Text::new(""), done);
    }
}

#[test]
fn calls_of_a_handler_inherit_what_is_left() {
    let ends = Ends::new();
    let front = Arc::new(Front { back: ends.channel(), workers: Mutex::default() });
    ends.provider.notify_service(front.clone()).unwrap();
    let channel = ends.channel();
    let ask = |method| {
        let controller = RpcController::new();
        controller.set_timeout(Duration::from_secs(30));
        let method = Method::new("front", method);
        channel.call::<_, Text>(&method, &controller, &Text::new("")).unwrap_err().to_string()
    };
    for method in ["Inline", "Thread"] {
        let text = ask(method);
        let told: u64 = text.rsplit(' ').nth(1).unwrap().parse().unwrap();
        assert!((10_000..=30_000).contains(&told), "{method}: {text}");
    }
    // By now its channel is connected, which would be taken off.
    assert!(ask("Detached").contains(" 50000 ms"));
    front.workers.lock().unwrap().drain(..).for_each(|worker| worker.join().unwrap());
}

impl Ends {
    /// Runs `f` while a call that is never answered is in flight.
    fn channel_with_call(&self, controller: &RpcController, f: impl FnOnce(&RpcChannel)) {
        let channel = self.channel();
        let call = channel.begin::<_, Text>(&KEEP, controller, &Text::new("x"));
        f(&channel);
        assert!(matches!(call.wait(), Err(RpcError::Cancelled { .. })));
    }
}
