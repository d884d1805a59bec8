//! Large bytes on their way out: held, not copied, until they have left; and what stands around them.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use rpc::{
    Call, LargestLast, PendingReply, Reply, Responder, Service, StreamReader, StreamWriter, TakeApart,
    take_largest,
};

use super::*;

const LARGE: usize = 100_000;

#[derive(Clone, PartialEq, prost::Message)]
struct Blob {
    #[prost(bytes = "bytes", tag = "1")]
    small: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    large: Bytes,
    #[prost(uint64, tag = "3")]
    number: u64,
}

impl Blob {
    fn new(number: u64) -> Blob {
        Blob { small: Bytes::from_static(b"small"), large: vec![number as u8; LARGE].into(), number }
    }
}

/// As it is generated.
const TAKE_APART: TakeApart<Blob> =
    |message| take_largest(message, |it| [(1, &mut it.small), (2, &mut it.large)]);

const ECHO: Method = Method::new("blobs", "Echo");
const TAKE: Method = Method::new("blobs", "Take");

/// Echoes blobs, and keeps what it echoes; or takes a stream of them.
#[derive(Default)]
struct Blobs {
    echoed: Mutex<Vec<Bytes>>,
    calls: AtomicUsize,
    taken: Mutex<Option<(StreamReader<Blob>, Reply<Blob>)>>,
}

impl Service for Blobs {
    fn name(&self) -> &str {
        "blobs"
    }

    fn is_stream(&self, method: &[u8]) -> bool {
        method == b"Take"
    }

    fn call(&self, call: Call<'_>, responder: Responder) {
        if call.method == b"Take" {
            let keep = |blobs, reply| *self.taken.lock().unwrap() = Some((blobs, reply));
            return rpc::dispatch_client_stream(call, responder, keep);
        }
        rpc::dispatch(call, responder, |blob: Blob, reply: Reply<Blob>| {
            self.calls.fetch_add(1, Ordering::SeqCst);
            self.echoed.lock().unwrap().push(blob.large.clone());
            reply.largest_last(TAKE_APART).send(&blob);
        });
    }
}

fn serve(pair: &Pair) -> Arc<Blobs> {
    let blobs = Arc::new(Blobs::default());
    pair.provider.notify_service(blobs.clone()).unwrap();
    blobs
}

fn begin(channel: &RpcChannel, blob: &Blob) -> PendingReply<Blob> {
    channel.begin(&ECHO, &RpcController::new(), &LargestLast::new(blob, TAKE_APART))
}

#[test]
fn large_bytes_are_held_until_they_have_left_and_arrive_as_they_were() {
    let pair = Pair::new();
    let service = serve(&pair);
    let channel = pair.channel();
    let blobs = [1, 2, 3].map(Blob::new);
    pair.world.cut(server_address());
    let calls: Vec<_> = blobs.iter().map(|blob| begin(&channel, blob)).collect();
    pair.world.settle();
    assert!(blobs.iter().all(|blob| !blob.large.is_unique()), "the channel has them, and not copies");
    pair.world.mend(server_address());
    // Replies come in pieces: what they echo is held by whoever sends it.
    pair.world.set_pipe_bytes_max(10_000);
    for (call, blob) in calls.into_iter().zip(&blobs) {
        assert_eq!(call.wait().as_ref(), Ok(blob));
    }
    pair.world.settle();
    assert!(blobs.iter().all(|blob| blob.large.is_unique()), "they have left");
    assert!(service.echoed.lock().unwrap().iter().all(Bytes::is_unique), "the replies have, too");
}

#[test]
fn a_large_call_that_is_given_up_before_it_could_leave_does_not_run_and_the_others_do() {
    let pair = Pair::new();
    let service = serve(&pair);
    let channel = pair.channel();
    assert!(begin(&channel, &Blob::new(0)).wait().is_ok());
    pair.world.cut(server_address());
    pair.world.set_pipe_bytes_max(1_000);
    let blobs = [1, 2, 3].map(Blob::new);
    let [first, second, third] = [0, 1, 2].map(|number: usize| begin(&channel, &blobs[number]));
    pair.world.settle();
    drop(second);
    pair.world.mend(server_address());
    assert_eq!([first, third].map(|call| call.wait().unwrap().number), [1, 3]);
    assert_eq!(service.calls.load(Ordering::SeqCst), 3, "the one before, the first and the third");
}

#[test]
fn the_large_messages_of_a_stream_are_held_too() {
    let pair = Pair::new();
    let service = serve(&pair);
    let channel = pair.channel();
    let (requests, reply): (StreamWriter<Blob>, PendingReply<Blob>) =
        channel.call_client_stream(&TAKE, &RpcController::new());
    let mut requests = requests.largest_last(TAKE_APART);
    pair.world.settle();
    pair.world.cut(server_address());
    let blob = Blob::new(7);
    assert_eq!(requests.try_send(&blob), Ok(true));
    assert!(!blob.large.is_unique());
    pair.world.mend(server_address());
    requests.end();
    pair.world.settle();
    assert!(blob.large.is_unique());
    let (mut read, answer) = service.taken.lock().unwrap().take().unwrap();
    assert_eq!(read.next(), Ok(Some(blob.clone())));
    answer.send(&blob);
    assert_eq!(reply.wait(), Ok(blob));
}

#[test]
fn a_repeated_call_sends_the_same_bytes_again() {
    let pair = Pair::new();
    let service = serve(&pair);
    let retry = rpc::RetryConfig { policy: rpc::RetryPolicy::attempts(3), ..rpc::RetryConfig::default() };
    let channel = pair.channel_with(ChannelConfig { retry, ..ChannelConfig::default() });
    pair.world.cut(server_address());
    let blob = Blob::new(9);
    let request = LargestLast::new(&blob, TAKE_APART);
    let answer = Arc::new(Mutex::new(None));
    let noted = answer.clone();
    channel.call_async(&ECHO, &RpcController::new(), &request, move |reply: Result<Blob, RpcError>| {
        *noted.lock().unwrap() = Some(reply);
    });
    pair.world.settle();
    // The attempt to connect has its time, and the next one succeeds.
    pair.world.advance(ms(2_000));
    pair.world.mend(server_address());
    pair.world.advance(ms(1_000));
    assert_eq!(*answer.lock().unwrap(), Some(Ok(blob)));
    assert_eq!(service.calls.load(Ordering::SeqCst), 1);
}
