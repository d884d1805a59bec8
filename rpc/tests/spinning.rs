//! Threads that look for what they wait for instead of sleeping miss nothing of what would have woken them.

mod common;

use std::sync::{Arc, mpsc};
use std::time::Duration;

use common::*;
use rpc::{
    ChannelConfig, Method, ProviderConfig, Reactor, ReactorConfig, RpcChannel, RpcController, RpcError,
    RpcProvider,
};

/// As good as for ever: unless its core is taken, a thread does not sleep at all.
const SPIN: Duration = Duration::from_secs(3600);

/// Both ends on one reactor, so that it has a core to itself.
#[test]
fn calls_deadlines_timers_other_threads_and_the_end_are_seen_while_looking() {
    let reactor = Reactor::start("both", ReactorConfig { spin: SPIN, ..ReactorConfig::default() }).unwrap();
    let provider = RpcProvider::new(&reactor, ProviderConfig::default());
    let service = Arc::new(TestService::default());
    provider.notify_service(service.clone()).unwrap();
    let address = provider.listen("127.0.0.1:0").unwrap().to_string();
    let channel = RpcChannel::new(&reactor, &address, ChannelConfig::default());

    let (sender, receiver) = mpsc::channel();
    let begin = |method: Method, timeout: Duration| {
        let (controller, sender) = (RpcController::new(), sender.clone());
        controller.set_timeout(timeout);
        channel.call_async(&method, &controller, &Text::new("x"), move |reply: Result<Text, RpcError>| {
            sender.send(reply).unwrap();
        });
    };
    begin(ECHO, LONG);
    assert_eq!(receiver.recv_timeout(LONG).unwrap(), Ok(Text::new("x")));
    begin(LATER, LONG);
    assert_eq!(receiver.recv_timeout(LONG).unwrap(), Ok(Text::new("later")));
    begin(KEEP, Duration::from_millis(20));
    let late = receiver.recv_timeout(LONG).unwrap();
    assert!(matches!(late, Err(RpcError::DeadlineExceeded { .. })), "{late:?}");
    let of_timer = sender.clone();
    reactor.run_after(Duration::from_millis(5), Box::new(move || of_timer.send(Ok(Text::new("t"))).unwrap()));
    assert_eq!(receiver.recv_timeout(LONG).unwrap(), Ok(Text::new("t")));

    for text in ["of a thread that waits", "once more"] {
        assert_eq!(call(&channel, &ECHO, text).unwrap(), Text::new(text));
    }
    service.kept.lock().unwrap().clear();
    reactor.stop(LONG);
}
