//! A hundred connections that are busy at once: no turn lasts long, so that what is due hardly waits, nor who wants little; and
//! all have their turns.

use std::collections::BTreeMap;

use super::common::raw::request_to;
use super::*;
use rpc::{Call, Peer, Responder, Service};

const BUSY: usize = 100;

/// What is due, and little calls, wait no longer.
const WAIT_MAX: Duration = Duration::from_millis(5);

const EVERY: Duration = Duration::from_millis(10);

/// Has each call take its time, and notes whose it was.
struct Worker {
    world: Arc<Simulation>,
    takes: Duration,
    reply_bytes: usize,
    /// Connections, in the order of their calls.
    served: Mutex<Vec<u64>>,
    /// Calls to be answered by others.
    kept: Mutex<Vec<Responder>>,
}

impl Service for Worker {
    fn name(&self) -> &str {
        "worker"
    }

    fn call(&self, call: Call<'_>, responder: Responder) {
        if call.method == b"Little" {
            return responder.send(&Text::new("x"));
        }
        self.world.work(self.takes);
        self.served.lock().unwrap().push(responder.context().connection_id);
        if call.method == b"Keep" {
            return self.kept.lock().unwrap().push(responder);
        }
        responder.send(&Text::new(vec![7; self.reply_bytes]));
    }
}

/// A server with busy peers, and who must not wait for them.
struct Scene {
    world: Arc<Simulation>,
    worker: Arc<Worker>,
    reactor: Reactor,
    peers: Vec<Peer>,
    little: Peer,
    /// When its call was sent, and how long those before took.
    little_sent: Duration,
    little_took: Vec<Duration>,
    /// A channel whose calls nobody answers.
    silent: Option<RpcChannel>,
    /// By how much timers and deadlines were late.
    late: Arc<Mutex<Vec<Duration>>>,
    provider: RpcProvider,
}

impl Scene {
    fn new(takes: Duration, reply_bytes: usize) -> Scene {
        let world = Arc::new(Simulation::new(1));
        world.set_pipe_bytes_max(8 << 20);
        world.set_piece_bytes_max(8 << 20);
        let config = ReactorConfig {
            read_bytes_max: 4 << 10,
            write_bytes_per_turn_max: 64 << 10,
            ..ReactorConfig::default()
        };
        let reactor = world.reactor(config);
        let config = ProviderConfig { unsent_bytes_high_water: 32 << 10, ..ProviderConfig::default() };
        let provider = RpcProvider::new(&reactor, config);
        let (served, kept) = Default::default();
        let worker = Arc::new(Worker { world: world.clone(), takes, reply_bytes, served, kept });
        provider.notify_service(worker.clone()).unwrap();
        provider.listen(SERVER).unwrap();
        let [little, peers @ ..] = &mut [(); BUSY + 1].map(|()| Some(world.connect(server_address())));
        let (little, peers) = (little.take().unwrap(), peers.iter_mut().filter_map(Option::take).collect());
        world.settle();
        let (little_sent, little_took, late) = Default::default();
        Scene {
            world,
            worker,
            reactor,
            peers,
            little,
            little_sent,
            little_took,
            silent: None,
            late,
            provider,
        }
    }

    /// Has all peers send so many calls, which are there before any is served.
    fn ask(&self, method: &str, calls: u64) {
        let all: Vec<u8> = (1..=calls).flat_map(|id| request_to("worker", method, id, &[7; 30])).collect();
        self.peers.iter().for_each(|peer| assert_eq!(peer.send(&all), all.len()));
    }

    /// From now on so many timers are due, and as many deadlines.
    fn begin(&mut self, count: u32) {
        let silent: SocketAddr = "10.0.0.9:80".parse().unwrap();
        self.world.cut(silent);
        let config = ChannelConfig { connect_timeout: ms(60_000), ..ChannelConfig::default() };
        let channel = self.silent.insert(RpcChannel::new(&self.reactor, &silent.to_string(), config));
        for number in 1..=count {
            let due = self.world.now() + number * EVERY;
            let note = {
                let (world, late) = (self.world.clone(), self.late.clone());
                move || late.lock().unwrap().push(world.now() - due)
            };
            let controller = RpcController::new();
            controller.set_timeout(number * EVERY);
            self.reactor.run_after(number * EVERY, Box::new(note.clone()));
            let method = Method::new("any", "Any");
            channel.call_async(&method, &controller, &(), move |reply: Result<(), _>| {
                if matches!(reply, Err(RpcError::DeadlineExceeded { .. })) {
                    note();
                }
            });
        }
        self.send_little();
    }

    fn send_little(&mut self) {
        self.little_sent = self.world.now();
        self.little.send(&request_to("worker", "Little", 1, b"x"));
    }

    /// Goes on until so much has come from the worker, and it has had so many calls.
    fn run_until(&mut self, calls: usize, bytes: usize) {
        let (mut received, mut steps) = (0, 0);
        while self.worker.served.lock().unwrap().len() < calls || received < bytes {
            assert!(self.world.step(), "{received} of {bytes} bytes have come");
            if !self.little.receive().is_empty() {
                self.little_took.push(self.world.now() - self.little_sent);
                self.send_little();
            }
            steps += 1;
            if steps % 100 == 0 {
                received += self.peers.iter().map(|peer| peer.receive().len()).sum::<usize>();
            }
        }
    }

    /// Nothing was late while all were busy.
    fn assert_prompt(&self, count: usize) {
        let late = self.late.lock().unwrap();
        assert!(late.len() >= 2 * count, "{} were due", late.len());
        assert!(late.iter().all(|late| *late <= WAIT_MAX), "{:?}", late.iter().max());
        let mut took = self.little_took.clone();
        took.sort_unstable();
        assert!(took.len() >= count, "{} little calls", took.len());
        // The network takes some turns of time, too: it is chance what happens next.
        assert!(took[took.len() / 2] <= WAIT_MAX, "{took:?}");
    }
}

#[test]
fn calls_that_take_long_of_a_hundred_connections_have_nothing_else_wait_and_each_connection_has_its_share() {
    const CALLS: usize = 500;
    let mut scene = Scene::new(Duration::from_micros(20), 10);
    scene.ask("Any", CALLS as u64);
    // All come at once. When each has had its turn, they are those that want more.
    let begun = |scene: &Scene| scene.worker.served.lock().unwrap().len();
    while begun(&scene) < BUSY * 100 {
        assert!(scene.world.step());
    }
    let since = scene.world.now();
    scene.begin(100);
    scene.run_until(BUSY * CALLS, 0);
    assert!(scene.world.now() - since > ms(700), "{:?}", scene.world.now() - since);
    scene.assert_prompt(70);

    let mut calls = BTreeMap::<u64, usize>::new();
    for connection in &*scene.worker.served.lock().unwrap() {
        *calls.entry(*connection).or_default() += 1;
        if calls[connection] == CALLS {
            break;
        }
    }
    assert_eq!(calls.len(), BUSY);
    assert!(calls.values().all(|calls| *calls >= CALLS / 2), "when the first has had all: {calls:?}");
}

#[test]
fn replies_that_take_long_to_write_on_a_hundred_connections_have_nothing_else_wait() {
    const CALLS: usize = 60;
    let mut scene = Scene::new(Duration::ZERO, 10_000);
    scene.world.set_copying(Duration::from_micros(15));
    scene.ask("Any", CALLS as u64);
    while scene.worker.served.lock().unwrap().len() < BUSY {
        assert!(scene.world.step());
    }
    scene.begin(100);
    scene.run_until(BUSY * CALLS, BUSY * CALLS * 10_000);
    scene.assert_prompt(60);
}

#[test]
fn replies_of_other_threads_to_a_hundred_connections_have_nothing_else_wait() {
    let mut scene = Scene::new(Duration::ZERO, 0);
    scene.ask("Keep", 2);
    scene.world.settle();
    scene.world.set_copying(Duration::from_micros(50));
    let mut kept = std::mem::take(&mut *scene.worker.kept.lock().unwrap());
    assert_eq!(kept.len(), 2 * BUSY);
    let text = Text::new(vec![7; 50_000]);
    let answer = |kept: Vec<Responder>| {
        rpc::corked(|| kept.into_iter().for_each(|responder| responder.send(&text)));
    };
    // What a turn leaves for the next is done, though nothing else has the reactor turn.
    answer(kept.split_off(BUSY));
    scene.world.settle();
    let received = |peer: &Peer| peer.receive().len();
    assert!(scene.peers.iter().map(received).sum::<usize>() > BUSY * 50_000);

    scene.begin(100);
    answer(kept);
    scene.run_until(2 * BUSY, BUSY * 50_000);
    scene.assert_prompt(20);
}

#[test]
fn a_provider_that_stops_serves_what_has_come_though_it_has_not_been_its_turn() {
    let scene = Scene::new(MILLISECOND, 10);
    let call = request_to("worker", "Any", 1, b"");
    let (last, all_but_last) = call.split_last().unwrap();
    let send = |bytes: &[u8]| scene.peers.iter().for_each(|peer| assert_eq!(peer.send(bytes), bytes.len()));
    // Nobody has said so much that he can be told to leave; the last byte of each is one arrival.
    send(all_but_last);
    scene.world.settle();
    send(&[*last]);
    while scene.worker.served.lock().unwrap().len() < BUSY / 2 {
        assert!(scene.world.step());
    }
    scene.provider.stop();
    assert_eq!(scene.worker.served.lock().unwrap().len(), BUSY);
    scene.world.settle();
    assert!(scene.peers.iter().all(|peer| !peer.receive().is_empty()));
}
