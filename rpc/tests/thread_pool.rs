//! Handlers that block, on threads of their own: the reactor and the other calls do not notice.

#![expect(clippy::unwrap_used, reason = "a test's helper fails as the test does")]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

use common::*;
use rpc::{
    Call, Method, ProviderConfig, Responder, RpcController, RpcError, Service, Status, ThreadPool,
    ThreadPoolConfig,
};

const BLOCK: Method = Method::new("slow", "Block");
const PANIC_THERE: Method = Method::new("slow", "Panic");
const REMAINING: Method = Method::new("slow", "Remaining");

/// Blocks until the test lets it go on.
struct Slow {
    begun: Mutex<Sender<()>>,
    go_on: Mutex<Receiver<()>>,
    calls: AtomicUsize,
}

impl Service for Slow {
    fn name(&self) -> &str {
        "slow"
    }

    fn call(&self, call: Call<'_>, responder: Responder) {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match call.method {
            b"Block" => rpc::dispatch(call, responder, |request: Text, reply| {
                self.begun.lock().unwrap().send(()).unwrap();
                self.go_on.lock().unwrap().recv_timeout(LONG).unwrap();
                reply.send(&request);
            }),
            b"Panic" => panic!("as asked"),
            _ => responder.send(&Text::new(thread::current().name().unwrap())),
        }
    }
}

struct Pool {
    ends: Ends,
    service: Arc<Slow>,
    begun: Receiver<()>,
    go_on: Sender<()>,
}

fn pool(waiting_max: usize) -> Pool {
    pool_of(ThreadPoolConfig { threads: 1, waiting_max })
}

fn pool_of(config: ThreadPoolConfig) -> Pool {
    let ends = Ends::with(ProviderConfig::default(), TestService::default());
    let ((begun_sender, begun), (go_on, go_on_receiver)) = (mpsc::channel(), mpsc::channel());
    let (begun_sender, go_on_receiver) = (Mutex::new(begun_sender), Mutex::new(go_on_receiver));
    let service = Arc::new(Slow { begun: begun_sender, go_on: go_on_receiver, calls: AtomicUsize::new(0) });
    let pool = ThreadPool::start("pool", config).unwrap();
    ends.provider.notify_service(pool.wrap(service.clone())).unwrap();
    Pool { ends, service, begun, go_on }
}

#[test]
fn as_many_calls_run_as_there_are_threads_though_none_may_wait() {
    let Pool { ends, begun, go_on, .. } = pool_of(ThreadPoolConfig { threads: 3, waiting_max: 0 });
    let channel = ends.channel();
    call(&channel, &ECHO, "connects").unwrap();
    let controller = RpcController::new();
    let calls =
        rpc::corked(|| [(); 3].map(|()| channel.begin::<_, Text>(&BLOCK, &controller, &Text::new("runs"))));
    // They wait for each other to say so, one after the other.
    for _ in 0..3 {
        begun.recv_timeout(LONG).unwrap();
        go_on.send(()).unwrap();
    }
    for call in calls {
        assert_eq!(call.wait(), Ok(Text::new("runs")));
    }
}

#[test]
fn a_handler_that_blocks_holds_up_nobody_and_a_full_queue_says_so() {
    let Pool { ends, begun, go_on, .. } = pool(1);
    let channel = ends.channel();
    let (sender, answers) = mpsc::channel();
    let begin = |text: &'static str| {
        let sender = sender.clone();
        channel.call_async(&BLOCK, &RpcController::new(), &Text::new(text), move |reply: Result<Text, _>| {
            sender.send(reply).unwrap();
        });
    };
    begin("runs");
    begun.recv_timeout(LONG).unwrap();
    begin("waits");
    begin("is too many");
    let refused = answers.recv_timeout(LONG).unwrap().unwrap_err();
    assert!(matches!(&refused, RpcError::Status { status: Status::Overloaded, .. }), "{refused:?}");
    assert_eq!(call(&channel, &ECHO, "meanwhile").unwrap(), Text::new("meanwhile"));
    for text in ["runs", "waits"] {
        go_on.send(()).unwrap();
        assert_eq!(answers.recv_timeout(LONG).unwrap(), Ok(Text::new(text)));
    }
}

#[test]
fn a_panic_is_its_calls_only_and_a_call_given_up_is_not_run() {
    let Pool { ends, service, begun, go_on } = pool(8);
    let channel = ends.channel();
    let error = call(&channel, &PANIC_THERE, "x").unwrap_err();
    assert!(matches!(error, RpcError::Status { status: Status::Internal, .. }), "{error:?}");
    assert_eq!(call(&channel, &REMAINING, "x").unwrap(), Text::new("pool-0"));
    let runs = channel.begin::<_, Text>(&BLOCK, &RpcController::new(), &Text::new("runs"));
    begun.recv_timeout(LONG).unwrap();
    drop(channel.begin::<_, Text>(&BLOCK, &RpcController::new(), &Text::new("given up")));
    // The server knows it when it answers what was asked later.
    assert!(call(&channel, &ECHO, "x").is_ok());
    let before = service.calls.load(Ordering::SeqCst);
    go_on.send(()).unwrap();
    assert_eq!(runs.wait().unwrap(), Text::new("runs"));
    assert_eq!(call(&channel, &REMAINING, "x").unwrap(), Text::new("pool-0"));
    assert_eq!(service.calls.load(Ordering::SeqCst), before + 1, "the other was not run");
}
