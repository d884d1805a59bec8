//! A model of the whole: calls, streams, faults and pauses by chance, in any order that a seed gives. Whatever happens, each
//! call is answered once, by its deadline, and says the truth about whether it has run.

use std::collections::BTreeMap;

use super::common::Text;
use super::flows::{COUNT, Flows, REPEAT, TALLY, number_of, send_from};
use super::*;
use rpc::{
    Call, PendingReply, Reply, Responder, RetryConfig, RetryPolicy, Service, StreamItem, StreamReader,
    StreamWriter,
};

/// Seeds of the test command; another range may be given as `RPC_MODEL_SEEDS=FIRST..END`.
const SEEDS: std::ops::Range<u64> = 0..150;

/// What a KiB takes to read or write where that takes time.
const COPYING: Duration = Duration::from_micros(300);

/// By how much a deadline may be seen late there: what some visits take.
const LATE_MAX: Duration = ms(40);

/// Things done in a run, beside what happens by itself.
const DEEDS: usize = 150;

/// Echoes numbered calls and counts how often each has run.
#[derive(Default)]
struct Recorder {
    ran: Mutex<BTreeMap<u64, u32>>,
    kept: Mutex<Vec<(Text, Reply<Text>)>>,
}

const METHODS: [Method; 4] = [
    Method::new("model", "Echo"),
    Method::new("model", "Keep"),
    Method::new("model", "Later"),
    Method::new("model", "Drop"),
];

/// A request's number stands at its beginning.
fn text_of(number: u64, bytes: u64) -> Text {
    Text::new([number.to_le_bytes().as_slice(), &vec![7; bytes as usize]].concat())
}

impl Service for Recorder {
    fn name(&self) -> &str {
        "model"
    }

    fn call(&self, call: Call<'_>, responder: Responder) {
        let method = call.method.to_vec();
        rpc::dispatch(call, responder, |request: Text, reply: Reply<Text>| {
            let number = u64::from_le_bytes(request.text[..8].try_into().unwrap());
            *self.ran.lock().unwrap().entry(number).or_default() += 1;
            match method.as_slice() {
                b"Echo" => reply.send(&request),
                b"Keep" => self.kept.lock().unwrap().push((request, reply)),
                b"Later" => reply.send_after(ms(number % 40), request),
                _ => drop(reply),
            }
        });
    }
}

pub(super) struct Chance(pub(super) u64);

impl Chance {
    /// A number below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % end as u64) as usize
    }
}

/// A call of the model.
struct Made {
    text: Text,
    due: Duration,
    controller: RpcController,
    is_cancelled: bool,
    answers: Arc<Mutex<Vec<Answer>>>,
    kind: usize,
}

/// A stream of the model, as its caller sees it.
struct Flow {
    up_to: u32,
    sent: u32,
    writer: Option<StreamWriter<Text>>,
    seen: u32,
    reader: Option<StreamReader<Text>>,
    tally: Option<PendingReply<Text>>,
}

struct Run {
    chance: Chance,
    world: Arc<Simulation>,
    client: Reactor,
    server: Reactor,
    provider: Option<RpcProvider>,
    config: ProviderConfig,
    recorder: Arc<Recorder>,
    flows: Arc<Flows>,
    channels: Vec<RpcChannel>,
    made: Vec<Made>,
    streams: Vec<Flow>,
    /// What is sent by the byte is not much.
    piece_bytes_max: usize,
    /// By how much a deadline may be seen late.
    late_max: Duration,
    seed: u64,
}

impl Run {
    fn new(seed: u64) -> Run {
        let world = Arc::new(Simulation::new(seed));
        let mut chance = Chance(seed);
        let piece_bytes_max = [1, 7, 100, 5_000, 65_536][chance.below(5)];
        world.set_piece_bytes_max(piece_bytes_max);
        world.set_pipe_bytes_max([64, 1_000, 20_000, 65_536][chance.below(4)]);
        let reactors = [(); 2].map(|()| {
            let read_bytes_max = [16, 300, 4_096, 65_536][chance.below(4)];
            let reads_per_turn_max = 1 + chance.below(4);
            let write_bytes_per_turn_max = [100, 5_000, 1 << 20][chance.below(3)];
            world.reactor(ReactorConfig {
                read_bytes_max,
                reads_per_turn_max,
                write_bytes_per_turn_max,
                ..ReactorConfig::default()
            })
        });
        // In every other world turns end before all have had theirs.
        let is_slow = chance.below(2) == 0;
        world.set_copying(if is_slow { COPYING } else { Duration::ZERO });
        let late_max = if is_slow { LATE_MAX } else { Duration::ZERO };
        let [server, client] = reactors;
        let config = ProviderConfig {
            calls_in_flight_per_connection_max: 1 + chance.below(20),
            calls_in_flight_max: 1 + chance.below(60),
            unsent_bytes_high_water: 100 + chance.below(5_000),
            idle_timeout: ms(200),
            drain_timeout: ms(100),
            half_closed_timeout: ms(100),
            unfinished_timeout: ms(300),
            stalled_timeout: ms(300),
            ..ProviderConfig::default()
        };
        let (recorder, flows) = (Arc::new(Recorder::default()), Arc::new(Flows::default()));
        let mut run = Run {
            chance,
            world,
            client,
            server,
            provider: None,
            config,
            recorder,
            flows,
            channels: Vec::new(),
            made: Vec::new(),
            streams: Vec::new(),
            piece_bytes_max,
            late_max,
            seed,
        };
        run.serve();
        run.channels = (0..4).map(|kind| run.channel(kind)).collect();
        run
    }

    fn serve(&mut self) {
        let provider = RpcProvider::new(&self.server, self.config.clone());
        provider.notify_service(self.recorder.clone()).unwrap();
        provider.notify_service(self.flows.clone()).unwrap();
        provider.listen(SERVER).unwrap();
        self.provider = Some(provider);
    }

    fn channel(&self, kind: usize) -> RpcChannel {
        let retry = RetryConfig { policy: RetryPolicy::attempts(4), ..RetryConfig::default() };
        let config = ChannelConfig {
            connect_timeout: ms(100),
            backoff_min: ms(5),
            backoff_max: ms(50),
            keep_alive: ms(60),
            ping_timeout: ms(50),
            idle_timeout: ms(150),
            wait_for_ready: kind == 1,
            retry: if kind == 2 { retry } else { RetryConfig::default() },
            legacy: kind == 3,
            ..ChannelConfig::default()
        };
        RpcChannel::new(&self.client, SERVER, config)
    }

    fn call(&mut self) {
        let number = self.made.len() as u64;
        let bytes = [0, 10, 300, 900, 30_000][self.chance.below(5)].min(self.piece_bytes_max as u64 * 50);
        let text = text_of(number, bytes);
        let timeout = ms(1 + self.chance.below(400) as u64);
        let controller = RpcController::new();
        controller.set_timeout(timeout);
        let answers = Arc::new(Mutex::new(Vec::new()));
        let (noted, world) = (answers.clone(), self.world.clone());
        let method = &METHODS[self.chance.below(4)];
        let kind = self.chance.below(4);
        let channel = &self.channels[kind];
        let due = self.world.now() + timeout;
        channel.call_async(method, &controller, &text, move |reply| {
            noted.lock().unwrap().push((world.now(), reply));
        });
        self.made.push(Made { text, due, controller, is_cancelled: false, answers, kind });
    }

    fn begin_stream(&mut self) {
        let channel = &self.channels[self.chance.below(3)];
        let controller = RpcController::new();
        controller.set_timeout(ms(1 + self.chance.below(1000) as u64));
        let up_to = self.chance.below(150.min(self.piece_bytes_max + 2)) as u32;
        let mut flow = Flow { up_to, sent: 0, writer: None, seen: 0, reader: None, tally: None };
        match self.chance.below(3) {
            0 => {
                let count = Text::new(up_to.to_string());
                flow.reader = Some(channel.call_server_stream(&COUNT, &controller, &count));
            }
            1 => {
                let (writer, tally) = channel.call_client_stream(&TALLY, &controller);
                (flow.writer, flow.tally) = (Some(writer), Some(tally));
            }
            _ => {
                let (writer, reader) = channel.call_both_ways(&REPEAT, &controller);
                (flow.writer, flow.reader) = (Some(writer), Some(reader));
            }
        }
        self.streams.push(flow);
    }

    fn answer_one(&mut self) {
        let mut kept = self.recorder.kept.lock().unwrap();
        if !kept.is_empty() {
            let chosen = self.chance.below(kept.len());
            let (text, reply) = kept.swap_remove(chosen);
            drop(kept);
            reply.send(&text);
        }
    }

    fn cancel_one(&mut self) {
        if !self.made.is_empty() {
            let chosen = self.chance.below(self.made.len());
            self.made[chosen].is_cancelled = true;
            self.made[chosen].controller.cancel();
        }
    }

    /// One thing done by those who use the framework, or to them.
    fn deed(&mut self) {
        match self.chance.below(40) {
            0..=11 => self.call(),
            12 | 13 => self.cancel_one(),
            14..=17 => self.answer_one(),
            18 => self.world.reset(server_address()),
            19 => self.world.cut(server_address()),
            20..=22 => self.world.mend(server_address()),
            23 => {
                // What it stops for is done before the next one begins.
                self.provider = None;
                self.serve();
            }
            24..=26 => self.begin_stream(),
            27..=30 if !self.streams.is_empty() => {
                let chosen = self.chance.below(self.streams.len());
                if self.chance.below(8) == 0 {
                    self.streams.swap_remove(chosen);
                } else {
                    self.streams[chosen].go_on();
                }
            }
            31 => {
                let number = self.chance.below(3);
                // It has no answer, so nothing is known of it.
                let _ = self.channels[number].send_one_way(&METHODS[0], &text_of(u64::MAX, 10));
            }
            32 => {
                let number = self.chance.below(4);
                self.channels[number] = self.channel(number);
            }
            33..=36 => self.world.advance(ms(self.chance.below(60) as u64)),
            _ => {}
        }
        for _ in 0..self.chance.below(30) {
            self.world.step();
        }
    }

    /// Faults end; what is open comes to its end.
    fn come_to_rest(&mut self) {
        self.world.mend(server_address());
        for _ in 0..30 {
            while !self.recorder.kept.lock().unwrap().is_empty() {
                self.answer_one();
            }
            self.streams.iter_mut().for_each(Flow::go_on);
            self.world.advance(ms(100));
        }
        for channel in &self.channels {
            let controller = RpcController::new();
            let reply = channel.call::<_, Text>(&METHODS[0], &controller, &text_of(u64::MAX, 0));
            assert_eq!(reply, Ok(text_of(u64::MAX, 0)), "seed {}: it does not recover", self.seed);
        }
        // The last kept calls may have come after all had been answered.
        while !self.recorder.kept.lock().unwrap().is_empty() {
            self.answer_one();
        }
    }

    /// Holds all answers against what has happened. Returns them as text.
    fn check(&self) -> String {
        let ran = self.recorder.ran.lock().unwrap();
        let mut seen = String::new();
        for (number, made) in self.made.iter().enumerate() {
            let at = format!("seed {}, call {number} on channel {}", self.seed, made.kind);
            let answers = made.answers.lock().unwrap();
            assert_eq!(answers.len(), 1, "{at}: one answer");
            let (when, answer) = &answers[0];
            assert!(*when <= made.due + self.late_max, "{at}: answered at {when:?}, due at {:?}", made.due);
            let times = ran.get(&(number as u64)).copied().unwrap_or(0);
            assert!(times <= 1, "{at}: it has run {times} times");
            match answer {
                Ok(reply) => assert!(*reply == made.text && times == 1, "{at}: a reply of its own"),
                Err(error) => assert!(times == 0 || error.may_have_run(), "{at}: it has run, and: {error:?}"),
            }
            match answer {
                Err(RpcError::DeadlineExceeded { .. }) => assert!(*when >= made.due, "{at}: at {when:?}"),
                Err(RpcError::Cancelled { .. }) => {
                    assert!(made.is_cancelled, "{at}: nobody has cancelled it")
                }
                _ => {}
            }
            seen += &format!("{number} {when:?} {:?}\n", answer.as_ref().map(|_| ()));
        }
        seen
    }
}

impl Flow {
    /// Reads and sends what can be read and sent.
    fn go_on(&mut self) {
        while let Some(reader) = &mut self.reader {
            match reader.try_next() {
                Ok(StreamItem::Message(message)) => {
                    assert_eq!(number_of(&message), self.seen, "in the order they were sent");
                    self.seen += 1;
                }
                Ok(StreamItem::Nothing) => break,
                Ok(StreamItem::End) => {
                    assert_eq!(self.seen, self.up_to, "all of them");
                    self.reader = None;
                }
                Err(_) => self.reader = None,
            }
        }
        let Some(writer) = &mut self.writer else { return };
        let sent = send_from(&mut self.sent, self.up_to, writer);
        if sent.is_err() {
            self.writer = None;
        } else if self.sent == self.up_to
            && let Some(writer) = self.writer.take()
        {
            writer.end();
            if let Some(Ok(tally)) = self.tally.take().map(PendingReply::wait) {
                assert_eq!(tally, Text::new(self.up_to.to_string()));
            }
        }
    }
}

/// A whole run. Returns what was answered.
fn run(seed: u64) -> String {
    let mut run = Run::new(seed);
    for _ in 0..DEEDS {
        run.deed();
    }
    run.come_to_rest();
    let seen = run.check();
    let Run { world, client, server, provider, recorder, flows, channels, streams, .. } = run;
    drop((provider, channels, streams));
    client.stop(ms(100));
    server.stop(ms(100));
    drop((client, server, world));
    assert_eq!(Arc::strong_count(&recorder), 1, "seed {seed}: something is left");
    assert_eq!(Arc::strong_count(&flows), 1, "seed {seed}: something is left");
    seen
}

#[test]
fn each_call_is_answered_once_in_time_and_truly_under_any_interleaving() {
    let range = std::env::var("RPC_MODEL_SEEDS").ok();
    let seeds = range.map_or(SEEDS, |range| {
        let (first, end) = range.split_once("..").unwrap();
        first.parse().unwrap()..end.parse().unwrap()
    });
    for seed in seeds {
        run(seed);
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [3, 1 << 40, u64::MAX] {
        let first = run(seed);
        assert!(first.lines().count() > 20);
        assert_eq!(first, run(seed));
    }
}
