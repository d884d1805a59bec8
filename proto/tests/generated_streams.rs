//! What the generator makes of streams: the trait's and the stub's side of each direction, end to end.

use std::sync::Arc;
use std::thread;

use proto::friend_streams::{FriendTalk, FriendTalkDispatcher, FriendTalkStub, Line, Tally};
use rpc::{
    ChannelConfig, ProviderConfig, Reactor, ReactorConfig, Reply, ReplyStream, RpcChannel, RpcController,
    RpcError, RpcProvider, Service, StreamReader,
};

/// Works on threads of its own, since a handler must not wait.
struct Talk;

impl FriendTalk for Talk {
    fn read(&self, request: Line, mut replies: ReplyStream<Line>) {
        thread::spawn(move || {
            for text in request.text.split(|byte| *byte == b'\n') {
                if replies.send(&Line { text: request.text.slice_ref(text) }).is_err() {
                    return;
                }
            }
            replies.end();
        });
    }

    fn count(&self, mut requests: StreamReader<Line>, reply: Reply<Tally>) {
        thread::spawn(move || {
            let mut tally = Tally::default();
            while let Ok(Some(line)) = requests.next() {
                tally.lines += 1;
                tally.bytes += line.text.len() as u64;
            }
            reply.send(&tally);
        });
    }

    fn echo(&self, mut requests: StreamReader<Line>, mut replies: ReplyStream<Line>) {
        thread::spawn(move || -> Result<(), RpcError> {
            while let Some(line) = requests.next()? {
                replies.send(&line)?;
            }
            replies.end();
            Ok(())
        });
    }
}

#[test]
fn a_generated_service_streams_in_every_direction() {
    let reactor = Reactor::start("reactor-0", ReactorConfig::default()).unwrap();
    let provider = RpcProvider::new(&reactor, ProviderConfig::default());
    let dispatcher = FriendTalkDispatcher::new(Arc::new(Talk));
    assert!([b"Read", b"Echo"].iter().all(|method| dispatcher.is_stream(*method)));
    assert!(!dispatcher.is_stream(b"Sing"));
    provider.notify_service(Arc::new(dispatcher)).unwrap();
    let address = provider.listen("127.0.0.1:0").unwrap().to_string();
    let stub = FriendTalkStub::new(RpcChannel::new(&reactor, &address, ChannelConfig::default()));
    let controller = RpcController::new();
    let lines = ["what", "is", "a", "stream"];

    let mut read = stub.read(&controller, &Line { text: lines.join("\n").into() });
    for line in lines {
        assert_eq!(read.next().unwrap().unwrap().text, line);
    }
    assert_eq!(read.next().unwrap(), None);

    let (mut requests, tally) = stub.count(&controller);
    lines.iter().for_each(|line| requests.send(&Line { text: (*line).into() }).unwrap());
    requests.end();
    assert_eq!(tally.wait().unwrap(), Tally { lines: 4, bytes: 13 });

    let (mut requests, mut replies) = stub.echo(&controller);
    for line in lines {
        requests.send(&Line { text: line.into() }).unwrap();
        assert_eq!(replies.next().unwrap().unwrap().text, line);
    }
    requests.end();
    assert_eq!(replies.next().unwrap(), None);
    reactor.stop(std::time::Duration::from_secs(1));
}
