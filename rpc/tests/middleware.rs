//! What happens around calls: refusals, tokens, request numbers, counters, on both sides.

#![expect(clippy::unwrap_used, reason = "a test's helper fails as the test does")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::*;
use rpc::protocol::encoder::{CallFields, Names, put_call_with};
use rpc::protocol::reply_decoder::ReplyDecoder;
use rpc::{
    AuthToken, Call, CallInfo, CallLog, CallMetrics, CallSide, ChannelConfig, Ended, Method, Middleware,
    MiddlewareStack, ProviderConfig, Refused, Responder, RpcChannel, RpcController, RpcError, Service,
    Status, TokenAuth,
};

/// Writes down what it is asked and told; refuses one method, panics at another.
#[derive(Default)]
struct Notes {
    name: &'static str,
    refuses: &'static str,
    lines: Arc<Mutex<Vec<String>>>,
    requests: Mutex<Vec<u64>>,
}

impl Notes {
    fn note(&self, line: String) {
        self.lines.lock().unwrap().push(line);
    }
}

impl Middleware for Notes {
    fn before(&self, call: &CallInfo<'_>) -> Result<(), Refused> {
        assert_ne!(call.method, "Panic", "as planned");
        self.requests.lock().unwrap().push(call.request_id);
        self.note(format!("{} before {:?} {}.{}", self.name, call.side, call.service, call.method));
        if call.method == self.refuses {
            return Err(Refused { status: Status::PermissionDenied, text: format!("{} says no", self.name) });
        }
        Ok(())
    }

    fn after(&self, call: &CallInfo<'_>, ended: &Ended) {
        self.note(format!("{} after {:?} {} {}", self.name, call.side, call.method, ended.status));
    }
}

fn ends_with(middleware: MiddlewareStack) -> Ends {
    Ends::with(ProviderConfig { middleware, ..ProviderConfig::default() }, TestService::default())
}

fn channel_with(ends: &Ends, middleware: MiddlewareStack) -> RpcChannel {
    ends.channel_with(ChannelConfig { middleware, ..ChannelConfig::default() })
}

/// A stack of two that share one list of lines.
fn two(refuses: &'static str) -> (MiddlewareStack, Arc<Mutex<Vec<String>>>) {
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let layer =
        |name, refuses| Arc::new(Notes { name, refuses, lines: lines.clone(), requests: Mutex::default() });
    (MiddlewareStack::default().with(layer("outer", "")).with(layer("inner", refuses)), lines)
}

#[test]
fn layers_are_asked_in_order_and_told_in_the_opposite_one_on_either_side() {
    let (on_server, server_lines) = two("Empty");
    let (on_client, client_lines) = two("Missing");
    let ends = ends_with(on_server);
    let channel = channel_with(&ends, on_client);
    assert!(call(&channel, &ECHO, "x").is_ok());
    for (lines, side) in [(&client_lines, CallSide::Client), (&server_lines, CallSide::Server)] {
        let lines = std::mem::take(&mut *lines.lock().unwrap());
        let expected = [
            format!("outer before {side:?} test.Echo"),
            format!("inner before {side:?} test.Echo"),
            format!("inner after {side:?} Echo OK"),
            format!("outer after {side:?} Echo OK"),
        ];
        assert_eq!(lines, expected);
    }
    let refused = call(&channel, &MISSING, "x").unwrap_err();
    assert!(matches!(refused, RpcError::Refused { status: Status::PermissionDenied, .. }), "{refused:?}");
    assert!(!refused.may_have_run() && server_lines.lock().unwrap().is_empty(), "nothing was sent");
    assert_eq!(client_lines.lock().unwrap().last().unwrap(), "outer after Client Missing PERMISSION_DENIED");
    let calls = ends.service.calls.load(std::sync::atomic::Ordering::SeqCst);
    let refused = call(&channel, &EMPTY, "x").unwrap_err();
    assert!(refused.to_string().contains("PERMISSION_DENIED: inner says no"), "{refused}");
    assert_eq!(ends.service.calls.load(std::sync::atomic::Ordering::SeqCst), calls, "no handler was asked");
    let lines = server_lines.lock().unwrap();
    assert_eq!(lines[lines.len() - 1], "outer after Server Empty PERMISSION_DENIED");
    assert!(!lines.iter().any(|line| line == "inner after Server Empty PERMISSION_DENIED"));
}

/// Panics whenever a call has ended.
struct NeverContent;

impl Middleware for NeverContent {
    fn after(&self, call: &CallInfo<'_>, _: &Ended) {
        panic!("as planned, on the {:?}", call.side);
    }
}

#[test]
fn a_middleware_that_panics_when_a_call_has_ended_keeps_nobody_from_the_answer() {
    let stack = || MiddlewareStack::default().with(Arc::new(NeverContent));
    let ends = ends_with(stack());
    for middleware in [MiddlewareStack::default(), stack()] {
        let channel = channel_with(&ends, middleware);
        assert_eq!(call(&channel, &ECHO, "x"), Ok(Text::new("x")));
        assert!(matches!(call(&channel, &DROP, "x"), Err(RpcError::Status { status: Status::Internal, .. })));
    }
    assert_eq!(ends.provider.gauges().calls_in_flight, 0);
}

#[test]
fn a_middleware_that_panics_refuses_its_call_only() {
    let metrics = Arc::new(CallMetrics::default());
    let layers = MiddlewareStack::default().with(metrics.clone()).with(Arc::new(Notes::default()));
    let ends = ends_with(layers);
    let channel = ends.channel();
    let error = call(&channel, &PANIC, "x").unwrap_err();
    assert!(error.to_string().contains("middleware of the server panicked"), "{error}");
    let counted = metrics.snapshot();
    assert_eq!((counted.begun, counted.ended(Status::Internal)), (1, 1), "who let it pass is told");
    assert!(call(&channel, &ECHO, "x").is_ok());
}

#[test]
fn a_token_opens_a_connection_and_nothing_else_does() {
    let auth = TokenAuth::new([AuthToken::new("open sesame")]);
    let ends = ends_with(MiddlewareStack::default().with(Arc::new(auth)));
    let with_token = |token: &'static str| {
        let auth_token = AuthToken::new(token);
        ends.channel_with(ChannelConfig { auth_token, ..ChannelConfig::default() })
    };
    let good = with_token("open sesame");
    for _ in 0..3 {
        assert!(call(&good, &ECHO, "x").is_ok(), "shown once, believed from then on");
    }
    for bad in [with_token(""), with_token("open barley")] {
        for _ in 0..2 {
            let error = call(&bad, &ECHO, "x").unwrap_err();
            assert!(matches!(error, RpcError::Status { status: Status::Unauthenticated, .. }), "{error:?}");
            assert!(!error.may_have_run());
        }
    }
    let too_long: &'static str = "x".repeat(rpc::AUTH_TOKEN_BYTES_MAX + 1).leak();
    let error = call(&with_token(too_long), &ECHO, "x").unwrap_err();
    assert!(matches!(error, RpcError::TooLarge { what: "an auth token", .. }), "{error:?}");
    let origin = ends.channel_with(ChannelConfig { legacy: true, ..ChannelConfig::default() });
    assert!(matches!(call(&origin, &ECHO, "x"), Err(RpcError::BadReply { .. })), "the lone zero");
    assert!(
        !format!("{:?}", ChannelConfig { auth_token: AuthToken::new("pssst"), ..Default::default() })
            .contains("pssst")
    );
}

#[test]
fn a_token_that_comes_later_is_refused() {
    let ends = Ends::new();
    let mut stream = TcpStream::connect(ends.address).unwrap();
    let mut bytes = Vec::new();
    for call_id in 1..=2 {
        let fields = CallFields { call_id, auth_token: b"t", ..CallFields::default() };
        put_call_with(&mut bytes, Names::Plain("test", "Echo"), &fields, &Text::default(), 0);
    }
    stream.write_all(&bytes).unwrap();
    let mut decoder = ReplyDecoder::new(1000);
    let mut statuses = Vec::new();
    let mut buffer = [0; 1000];
    while statuses.len() < 2 {
        let count = stream.read(&mut buffer).unwrap();
        decoder.feed(&buffer[..count]);
        while let Some(reply) = decoder.next_frame().unwrap() {
            statuses.push(Status::from_code(reply.head.status));
        }
    }
    assert_eq!(statuses, [Status::Ok, Status::Unauthenticated]);
}

/// Asks another service on behalf of its caller.
struct Front(RpcChannel);

impl Service for Front {
    fn name(&self) -> &str {
        "front"
    }

    fn call(&self, _call: Call<'_>, responder: Responder) {
        self.0.call_async(&ECHO, &RpcController::new(), &Text::new("x"), move |reply: Result<Text, _>| {
            responder.send(&reply.unwrap());
        });
    }
}

#[test]
fn a_requests_number_goes_with_it_and_with_the_calls_of_its_handler() {
    let seen = Arc::new(Notes::default());
    let ends = ends_with(MiddlewareStack::default().with(seen.clone()));
    // The handler's own channel has no middleware and passes on what came.
    ends.provider.notify_service(Arc::new(Front(ends.channel()))).unwrap();
    let own = Arc::new(Notes::default());
    let channel = channel_with(&ends, MiddlewareStack::default().with(own.clone()));
    for _ in 0..2 {
        assert!(call(&channel, &Method::new("front", "Ask"), "x").is_ok());
    }
    let own = own.requests.lock().unwrap().clone();
    assert!(own[0] != 0 && own[1] != 0 && own[0] != own[1]);
    assert_eq!(*seen.requests.lock().unwrap(), [own[0], own[0], own[1], own[1]]);
    assert!(call(&ends.channel(), &ECHO, "x").is_ok());
    assert_eq!(seen.requests.lock().unwrap().last(), Some(&0), "nobody has given it a number");
}

#[test]
fn counters_count_what_has_ended_and_how() {
    let (on_server, on_client) = (Arc::new(CallMetrics::default()), Arc::new(CallMetrics::default()));
    let log = Arc::new(CallLog::new(log::Level::Debug));
    let ends = ends_with(MiddlewareStack::default().with(on_server.clone()).with(log.clone()));
    let channel = channel_with(&ends, MiddlewareStack::default().with(on_client.clone()).with(log));
    for _ in 0..5 {
        assert!(call(&channel, &ECHO, "abc").is_ok());
    }
    assert!(call(&channel, &DROP, "").is_err());
    let controller = RpcController::new();
    controller.set_timeout(Duration::from_millis(20));
    assert!(channel.call::<_, Text>(&KEEP, &controller, &Text::new("")).is_err());
    for metrics in [&on_client, &on_server] {
        let counted = metrics.snapshot();
        assert_eq!((counted.begun, counted.args_bytes), (7, 5 * 5));
        assert_eq!((counted.ended(Status::Ok), counted.ended(Status::Internal)), (5, 1));
        assert!(counted.quantile(0.5) < LONG);
    }
    assert_eq!(on_client.snapshot().ended(Status::DeadlineExceeded), 1);
    let kept = || ends.service.kept.lock().unwrap().pop();
    let (text, reply) = std::iter::repeat_with(kept).find_map(|it| it).unwrap();
    while !reply.context().is_cancelled() {
        std::thread::yield_now();
    }
    // The reactor tells the caller of a late call when it sees it; by then the handler is too late.
    assert!(call(&channel, &ECHO, "abc").is_ok());
    reply.send(&text);
    assert_eq!(on_server.snapshot().ended(Status::Ok), 7);
}
