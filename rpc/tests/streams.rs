//! Streams over real sockets: their order, their end, and that a slow reader holds up nothing but its own.

#![expect(clippy::unwrap_used, reason = "a test's helper fails as the test does")]

mod common;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::raw::*;
use common::*;
use rpc::protocol::encoder::{put_stream_message, put_stream_reply};
use rpc::{
    Call, ChannelConfig, Method, ProviderConfig, ReplyStream, Responder, RpcChannel, RpcController, RpcError,
    Service, Status, StreamItem, StreamReader, corked,
};

const COUNT: Method = Method::new("streams", "Count");
const JOIN: Method = Method::new("streams", "Join");
const ECHO_ALL: Method = Method::new("streams", "EchoAll");
const FILL: Method = Method::new("streams", "Fill");
const BREAK: Method = Method::new("streams", "Break");

/// A stream of replies that a handler has left to the test, with the requests that nobody reads.
type Left = (StreamReader<Text>, ReplyStream<Text>);

/// Streams in every direction; what works long does it on a thread of its own.
struct Streams {
    /// Messages that `Fill` could send at once.
    filled: AtomicUsize,
    left: Mutex<Sender<Left>>,
    /// How the threads' last words were taken.
    ended: Mutex<Sender<Result<(), RpcError>>>,
}

impl Streams {
    fn on_thread(&self, f: impl FnOnce() -> Result<(), RpcError> + Send + 'static) {
        let ended = self.ended.lock().unwrap().clone();
        thread::spawn(move || {
            let _ = ended.send(f());
        });
    }
}

impl Service for Streams {
    fn name(&self) -> &str {
        "streams"
    }

    fn call(&self, call: Call<'_>, responder: Responder) {
        match call.method {
            b"Count" => rpc::dispatch_server_stream(call, responder, |up_to: Text, mut replies| {
                let up_to: u64 = std::str::from_utf8(&up_to.text).unwrap().parse().unwrap();
                self.on_thread(move || {
                    (0..up_to).try_for_each(|number| replies.send(&Text::new(number.to_string())))?;
                    replies.end();
                    Ok(())
                });
            }),
            b"Join" => {
                rpc::dispatch_client_stream(call, responder, |mut requests: StreamReader<Text>, reply| {
                    self.on_thread(move || {
                        let mut joined = Vec::new();
                        while let Some(request) = requests.next()? {
                            joined.extend(request.text);
                        }
                        reply.send(&Text::new(joined));
                        Ok(())
                    });
                })
            }
            b"EchoAll" => rpc::dispatch_both_ways(
                call,
                responder,
                |mut requests: StreamReader<Text>, mut replies: ReplyStream<Text>| {
                    self.on_thread(move || {
                        while let Some(request) = requests.next()? {
                            replies.send(&request)?;
                        }
                        replies.end();
                        Ok(())
                    });
                },
            ),
            b"Fill" => rpc::dispatch_both_ways(
                call,
                responder,
                |requests: StreamReader<Text>, mut replies: ReplyStream<Text>| {
                    while replies.try_send(&Text::new([7; 1000])).unwrap() {
                        self.filled.fetch_add(1, Ordering::SeqCst);
                    }
                    self.left.lock().unwrap().send((requests, replies)).unwrap();
                },
            ),
            b"Break" => rpc::dispatch_server_stream(call, responder, |_: Text, mut replies| {
                assert!(replies.try_send(&Text::new("so far")).unwrap());
                replies.fail(Status::PermissionDenied, "and no further");
            }),
            _ => rpc::no_such_method(&call, responder),
        }
    }
}

struct StreamEnds {
    ends: Ends,
    service: Arc<Streams>,
    left: Receiver<Left>,
    ended: Receiver<Result<(), RpcError>>,
}

fn stream_ends(config: ProviderConfig) -> StreamEnds {
    let ends = Ends::with(config, TestService::default());
    let ((left_sender, left), (ended_sender, ended)) = (mpsc::channel(), mpsc::channel());
    let (left_sender, ended_sender) = (Mutex::new(left_sender), Mutex::new(ended_sender));
    let service = Arc::new(Streams { filled: AtomicUsize::new(0), left: left_sender, ended: ended_sender });
    ends.provider.notify_service(service.clone()).unwrap();
    StreamEnds { ends, service, left, ended }
}

#[test]
fn a_servers_stream_is_read_in_order_to_its_end() {
    let StreamEnds { ends, ended, .. } = stream_ends(ProviderConfig::default());
    let channel = ends.channel();
    for up_to in [0, 1, 10_000] {
        let request = Text::new(up_to.to_string());
        let mut replies: StreamReader<Text> =
            channel.call_server_stream(&COUNT, &RpcController::new(), &request);
        for number in 0..up_to {
            assert_eq!(replies.next().unwrap(), Some(Text::new(number.to_string())));
        }
        assert_eq!(replies.next().unwrap(), None);
        assert_eq!(replies.next().unwrap(), None, "the end stays");
        assert_eq!(ended.recv_timeout(LONG).unwrap(), Ok(()));
    }
}

#[test]
fn a_clients_stream_is_answered_when_it_has_said_all() {
    let StreamEnds { ends, .. } = stream_ends(ProviderConfig::default());
    let channel = ends.channel();
    for messages in [0, 1, 3_000] {
        let (mut requests, reply) = channel.call_client_stream::<Text, Text>(&JOIN, &RpcController::new());
        for _ in 0..messages {
            requests.send(&Text::new([7; 100])).unwrap();
        }
        requests.end();
        assert_eq!(reply.wait().unwrap().text.len(), messages * 100);
    }
}

#[test]
fn both_ways_at_once_and_many_streams_beside_each_other() {
    let StreamEnds { ends, .. } = stream_ends(ProviderConfig::default());
    let channel = ends.channel();
    thread::scope(|scope| {
        for lane in 0..8_u8 {
            let channel = channel.clone();
            scope.spawn(move || {
                let (mut requests, mut replies) =
                    channel.call_both_ways::<Text, Text>(&ECHO_ALL, &RpcController::new());
                // More than a window lies between the two.
                let text = move |number: usize| Text::new(vec![lane; number % 5_000]);
                let writing = thread::spawn(move || {
                    (0..500).for_each(|number| requests.send(&text(number)).unwrap());
                    requests.end();
                });
                for number in 0..500 {
                    assert_eq!(replies.next().unwrap(), Some(text(number)), "lane {lane}");
                }
                assert_eq!(replies.next().unwrap(), None);
                writing.join().unwrap();
            });
        }
    });
}

#[test]
fn who_waits_for_a_stream_does_not_hold_back_what_it_has_sent() {
    let StreamEnds { ends, .. } = stream_ends(ProviderConfig::default());
    let channel = ends.channel();
    let (mut requests, mut replies) = channel.call_both_ways::<Text, Text>(&ECHO_ALL, &RpcController::new());
    corked(|| {
        requests.send(&Text::new("x")).unwrap();
        assert_eq!(replies.next().unwrap(), Some(Text::new("x")));
    });
    let (mut requests, reply) = channel.call_client_stream::<Text, Text>(&JOIN, &RpcController::new());
    corked(|| (0..1000).for_each(|_| requests.send(&Text::new([7; 1000])).unwrap()));
    requests.end();
    assert_eq!(reply.wait().unwrap().text.len(), 1_000_000);
}

#[test]
fn a_slow_reader_holds_up_its_own_stream_only() {
    let StreamEnds { ends, service, left, .. } = stream_ends(ProviderConfig::default());
    let channel = ends.channel();
    let (_requests, mut replies) = channel.call_both_ways::<Text, Text>(&FILL, &RpcController::new());
    let (_, mut writer) = left.recv_timeout(LONG).unwrap();
    // 64 KiB, by messages of 1,003 bytes and what each costs beside; the last may go beyond.
    assert_eq!(service.filled.load(Ordering::SeqCst), (65_536_usize).div_ceil(1_003 + 32));
    assert!(!writer.try_send(&Text::new("x")).unwrap());
    assert_eq!(call(&channel, &ECHO, "others").unwrap(), Text::new("others"));
    let (sender, ready) = mpsc::channel();
    writer.on_ready(move || sender.send(()).unwrap());
    ready.recv_timeout(LONG).unwrap();
    for _ in 0..64 {
        assert_eq!(replies.next().unwrap().unwrap().text.len(), 1000);
    }
    assert_eq!(replies.try_next().unwrap(), StreamItem::Nothing);
    ready.recv_timeout(LONG).unwrap();
    assert!(writer.try_send(&Text::new("more")).unwrap(), "what was read was given back");
    assert_eq!(replies.next().unwrap(), Some(Text::new("more")));
    writer.end();
    assert_eq!(replies.next().unwrap(), None);
}

#[test]
fn a_reader_that_is_dropped_cancels_the_call_and_its_server_sees_it() {
    let StreamEnds { ends, ended, .. } = stream_ends(ProviderConfig::default());
    let channel = ends.channel();
    let endless = Text::new("1000000000");
    let mut replies: StreamReader<Text> = channel.call_server_stream(&COUNT, &RpcController::new(), &endless);
    assert_eq!(replies.next().unwrap(), Some(Text::new("0")));
    drop(replies);
    let error = ended.recv_timeout(LONG).unwrap().unwrap_err();
    assert!(matches!(error, RpcError::Status { status: Status::Cancelled, .. }), "{error:?}");
    let (requests, reply) = channel.call_client_stream::<Text, Text>(&JOIN, &RpcController::new());
    drop(requests);
    assert!(matches!(reply.wait(), Err(RpcError::Cancelled { .. })), "it has not said all");
    assert!(ended.recv_timeout(LONG).unwrap().is_err());
}

#[test]
fn a_stream_has_a_deadline_if_it_is_given_one() {
    let StreamEnds { ends, left, .. } = stream_ends(ProviderConfig::default());
    let channel = ends.channel_with(ChannelConfig {
        default_timeout: Duration::from_millis(1),
        ..ChannelConfig::default()
    });
    let controller = RpcController::new();
    controller.set_timeout(Duration::from_millis(50));
    let (mut requests, mut replies) = channel.call_both_ways::<Text, Text>(&FILL, &controller);
    let (mut unread, mut writer) = left.recv_timeout(LONG).unwrap();
    let error = loop {
        match replies.next() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it has not ended"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, RpcError::DeadlineExceeded { .. }), "{error:?}");
    assert_eq!(requests.send(&Text::new("x")), Err(error));
    let error = unread.next().unwrap_err();
    assert!(matches!(error, RpcError::Status { .. }), "{error:?}");
    assert!(writer.send(&Text::new("x")).is_err());
    let lasting: StreamReader<Text> =
        channel.call_server_stream(&COUNT, &RpcController::new(), &Text::new("1000000000"));
    assert!({ lasting }.next().is_ok(), "the default is for single replies");
}

#[test]
fn what_came_before_a_failure_is_read_before_it() {
    let StreamEnds { ends, left, .. } = stream_ends(ProviderConfig::default());
    let channel = ends.channel();
    let mut replies: StreamReader<Text> =
        channel.call_server_stream(&BREAK, &RpcController::new(), &Text::new(""));
    assert_eq!(replies.next().unwrap(), Some(Text::new("so far")));
    let refused = RpcError::Status { status: Status::PermissionDenied, text: "and no further".to_owned() };
    assert_eq!(replies.next(), Err(refused));

    let (mut requests, mut replies) = channel.call_both_ways::<Text, Text>(&FILL, &RpcController::new());
    let (mut unread, mut writer) = left.recv_timeout(LONG).unwrap();
    // All that was sent has come before the server ends: an answer on the same connection shows it.
    assert!(call(&channel, &ECHO, "behind them").is_ok());
    ends.server.stop(Duration::ZERO);
    for _ in 0..64 {
        assert!(replies.next().unwrap().is_some());
    }
    assert!(matches!(replies.next(), Err(RpcError::Closed { .. })));
    assert!(requests.send(&Text::new("x")).is_err());
    assert!(matches!(unread.next(), Err(RpcError::Closed { .. })) && writer.send(&Text::new("x")).is_err());
}

#[test]
fn a_stream_that_cannot_be_begun_says_why() {
    let StreamEnds { ends, .. } = stream_ends(ProviderConfig::default());
    let channel = ends.channel();
    let mut missing: StreamReader<Text> =
        channel.call_server_stream(&Method::new("streams", "Missing"), &RpcController::new(), &Text::new(""));
    assert!(matches!(missing.next(), Err(RpcError::Status { status: Status::NoSuchMethod, .. })));
    channel.close();
    let (mut requests, reply) = channel.call_client_stream::<Text, Text>(&JOIN, &RpcController::new());
    assert!(matches!(requests.send(&Text::new("x")), Err(RpcError::Stopped { .. })));
    assert!(matches!(reply.wait(), Err(RpcError::Stopped { .. })));
}

#[test]
fn a_peer_that_sends_beyond_its_credit_is_cut() {
    let StreamEnds { ends, left, .. } = stream_ends(ProviderConfig::default());
    let mut stream = connect(ends.address);
    stream.write_all(&request_to("streams", "Fill", 1, b"")).unwrap();
    let _unread = left.recv_timeout(LONG).unwrap();
    let mut messages = Vec::new();
    for _ in 0..100 {
        put_stream_message(&mut messages, 1, &Text::new([7; 1000]), 1003);
    }
    stream.write_all(&messages).unwrap();
    assert_closed(&mut stream);
    assert!(call(&ends.channel(), &ECHO, "the others are served").is_ok());
}

#[test]
fn a_server_that_sends_beyond_its_credit_fails_that_call_only() {
    let StreamEnds { ends, .. } = stream_ends(ProviderConfig::default());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let channel = RpcChannel::new(&ends.client, &address, ChannelConfig::default());
    let mut replies: StreamReader<Text> =
        channel.call_server_stream(&COUNT, &RpcController::new(), &Text::new("1"));
    let (mut stream, _) = listener.accept().unwrap();
    // Only what has been asked can be answered: a connection stands before the request has left.
    assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
    // The first id that a channel with its default limits gives.
    let call_id = 1 << 16;
    let mut messages = Vec::new();
    for _ in 0..100 {
        put_stream_reply(&mut messages, call_id, &Text::new([7; 1000]), 1003);
    }
    stream.write_all(&messages).unwrap();
    // Nothing is read before the call has ended, which its server is told: whoever reads gives credit.
    stream.read_exact(&mut [0]).unwrap();
    let error = loop {
        if let Err(error) = replies.next() {
            break error;
        }
    };
    assert!(error.to_string().contains("beyond its credit"), "{error}");
}
