//! A server that is killed, under calls in flight: each ends exactly once, and says of itself what is true.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use rpc::{ChannelConfig, Method, RpcChannel, RpcController, RpcError};

use crate::common::{KEEP, LONG, Text, call};
use crate::peer::{Peer, client};
use crate::sized;

/// Says that it has run before it is answered.
const MARK: Method = Method::new("marks", "Mark");

/// Calls at a time.
const IN_FLIGHT: u64 = 64;

#[test]
fn a_server_killed_under_64_calls_answers_each_of_them_once() {
    let (mut server, address) = Peer::server("");
    let (reactor, channel) = client(&address, ChannelConfig::default());
    let (sender, ended) = mpsc::channel();
    for number in 0..IN_FLIGHT {
        let sender = sender.clone();
        channel.call_async(
            &KEEP,
            &RpcController::new(),
            &Text::new("x"),
            move |reply: Result<Text, RpcError>| {
                sender.send((number, reply)).unwrap();
            },
        );
    }
    drop(sender);
    server.ask_until("kept", |kept| kept == IN_FLIGHT);
    drop(server);
    let ends: Vec<_> = ended.iter().collect();
    assert!(
        ends.iter().all(|(_, reply)| matches!(reply, Err(RpcError::Closed { may_have_run: true, .. }))),
        "{ends:?}"
    );
    let numbers: BTreeSet<u64> = ends.iter().map(|(number, _)| *number).collect();
    assert_eq!((ends.len() as u64, numbers.len() as u64), (IN_FLIGHT, IN_FLIGHT), "each once");
    let after = call(&channel, &KEEP, "after");
    assert!(matches!(after, Err(RpcError::Connect { .. })), "nobody listens: {after:?}");
    reactor.stop(LONG);
}

/// How the calls of a lane after lane have ended, by number.
type Ends = Arc<Mutex<BTreeMap<u64, Vec<Result<Text, RpcError>>>>>;

/// A closed loop: each answer begins the next call, until one fails.
fn go_on(channel: &RpcChannel, number: u64, ends: &Ends, has_failed: &mpsc::Sender<()>) {
    let (next, ends, has_failed) = (channel.clone(), ends.clone(), has_failed.clone());
    let text = Text::new(number.to_string());
    channel.call_async(&MARK, &RpcController::new(), &text, move |reply: Result<Text, RpcError>| {
        let is_ok = reply.is_ok();
        ends.lock().unwrap().entry(number).or_default().push(reply);
        if is_ok {
            go_on(&next, number + IN_FLIGHT, &ends, &has_failed);
        } else {
            has_failed.send(()).unwrap();
        }
    });
}

#[test]
fn what_the_calls_of_a_killed_server_say_of_themselves_is_true() {
    let mut unknown = 0;
    for round in 0..sized(5, 100) {
        let (server, address) = Peer::server("");
        let (reactor, channel) = client(&address, ChannelConfig::default());
        let (sender, has_failed) = mpsc::channel();
        let ends = Ends::default();
        rpc::corked(|| (0..IN_FLIGHT).for_each(|lane| go_on(&channel, lane, &ends, &sender)));
        // It dies at another moment in each round.
        for _ in 0..20 + 37 * round % 500 {
            server.hear("mark");
        }
        server.signal(rustix::process::Signal::KILL);
        (0..IN_FLIGHT).for_each(|_| has_failed.recv_timeout(LONG).unwrap());
        drop(channel);
        reactor.stop(LONG);
        let ran: BTreeSet<u64> = server.last_words("mark").into_iter().collect();
        let first_left = ran.first().copied().unwrap_or(u64::MAX);
        for (number, its_ends) in ends.lock().unwrap().iter() {
            let [end] = &its_ends[..] else { panic!("call {number} ended so: {its_ends:?}") };
            // The first marks have been taken away above: of those calls only the answer can be judged.
            let has_run = *number < first_left || ran.contains(number);
            match end {
                Ok(text) => assert!(*text == Text::new(number.to_string()) && has_run, "{number}: {text:?}"),
                Err(error) if error.may_have_run() => unknown += 1,
                Err(error) => assert!(!ran.contains(number), "{number} has run, and says {error:?}"),
            }
        }
    }
    println!("{unknown} calls were under way");
}
