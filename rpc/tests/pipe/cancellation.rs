//! Calls that are given up: by word, by dropping, by closing the channel.

use super::common::*;
use super::*;

#[test]
fn a_call_cancelled_by_word_is_answered_at_once_and_its_handler_sees_it() {
    let pair = Pair::new();
    let channel = pair.channel();
    let [cancelled, awaited] = [(); 2].map(|()| pair.begin(&channel, &KEEP, ms(1000)));
    pair.world.settle();
    let contexts: Vec<_> =
        pair.service.kept.lock().unwrap().iter().map(|(_, reply)| reply.context().clone()).collect();
    cancelled.controller.cancel();
    assert_eq!(cancelled.answer().1, Err(RpcError::Cancelled { may_have_run: true }));
    assert!(!contexts[0].is_cancelled(), "the word is under way");
    pair.world.settle();
    assert!(contexts[0].is_cancelled() && !contexts[1].is_cancelled());
    pair.answer_kept();
    pair.world.settle();
    assert_eq!(awaited.answer().1, Ok(Text::new("x")));
    assert_eq!(cancelled.answers.lock().unwrap().len(), 1);
}

#[test]
fn a_call_cancelled_before_it_could_leave_has_not_run_and_never_will() {
    for is_connected in [false, true] {
        let pair = Pair::new();
        let channel = pair.channel();
        if is_connected {
            pair.begin(&channel, &ECHO, ms(1000));
            pair.world.settle();
        }
        pair.world.cut(server_address());
        // The first fills the pipe and has begun to leave; the others wait behind it.
        pair.world.set_pipe_bytes_max(20);
        let calls = [(); 4].map(|()| pair.begin(&channel, &KEEP, ms(10_000)));
        pair.world.settle();
        for call in [&calls[2], &calls[1]] {
            call.controller.cancel();
            assert_eq!(call.answer().1, Err(RpcError::Cancelled { may_have_run: false }));
        }
        pair.world.mend(server_address());
        pair.world.settle();
        assert_eq!(pair.service.kept.lock().unwrap().len(), 2, "the first and the last");
        pair.answer_kept();
        pair.world.settle();
        assert!([&calls[0], &calls[3]].iter().all(|call| call.answer().1.is_ok()));
    }
}

#[test]
fn a_channel_closed_before_its_calls_could_leave_sends_none_of_them() {
    let pair = Pair::new();
    pair.world.cut(server_address());
    let channel = pair.channel();
    let call = pair.begin(&channel, &ECHO, ms(1000));
    pair.world.settle();
    pair.world.mend(server_address());
    channel.close();
    assert_eq!(call.answer().1, Err(RpcError::Stopped { may_have_run: false }));
    pair.world.settle();
    assert_eq!(pair.service.calls.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[test]
fn a_call_that_is_dropped_is_cancelled_and_no_other() {
    let pair = Pair::new();
    let channel = pair.channel();
    let controller = RpcController::new();
    let dropped = channel.begin::<_, Text>(&KEEP, &controller, &Text::new("dropped"));
    let awaited = channel.begin::<_, Text>(&KEEP, &controller, &Text::new("awaited"));
    pair.world.settle();
    drop(dropped);
    pair.world.settle();
    for (text, reply) in &*pair.service.kept.lock().unwrap() {
        assert_eq!(reply.context().is_cancelled(), *text == Text::new("dropped"));
    }
    pair.answer_kept();
    assert_eq!(awaited.wait(), Ok(Text::new("awaited")));
    assert_eq!(pair.world.now(), Duration::ZERO, "nobody had to wait");
}

#[test]
fn a_channel_that_is_closed_ends_all_its_calls_and_its_servers_see_it() {
    let pair = Pair::new();
    let channel = pair.channel();
    let call = pair.begin(&channel, &KEEP, ms(1000));
    pair.world.settle();
    let context = pair.service.kept.lock().unwrap()[0].1.context().clone();
    channel.close();
    assert_eq!(call.answer().1, Err(RpcError::Stopped { may_have_run: true }));
    // The server keeps the connection for its reply as long as half-closed ones are.
    pair.world.advance(ms(10_005));
    assert!(context.is_cancelled());
}
