//! The network of a simulation: pipes between whoever connects and whoever listens.
//!
//! What is sent is under way until the simulation has a piece of it delivered, cut anywhere; so is a connection until it is
//! made. News of a piece is told once, as the system tells it, and a read that finds less than it has room for has found all.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use slab::Slab;

use super::pipe::{End, Watcher};
use crate::primitives::Mutex;
use crate::reactor::lock::lock;
use crate::reactor::net::News;

/// Connections that wait at a listener, at most; further attempts hang.
const BACKLOG_MAX: usize = 128;

/// See the module's text. One leaf lock guards it all.
pub(crate) struct Network {
    inner: Mutex<Inner>,
}

struct Inner {
    random: u64,
    piece_bytes_max: usize,
    pipe_bytes_max: usize,
    is_exhausted: bool,
    names: BTreeMap<String, Vec<SocketAddr>>,
    cut: BTreeSet<SocketAddr>,
    attempts: BTreeMap<SocketAddr, u64>,
    listeners: BTreeMap<SocketAddr, Listening>,
    pipes: Slab<PipeState>,
    /// Ports given so far.
    ports: u16,
    /// What each reactor has not been told yet.
    news: Vec<Vec<News>>,
    /// Reactors whose wait ends without news, whatever there is.
    interrupted: BTreeSet<usize>,
}

#[derive(Default)]
struct Listening {
    /// Pipes.
    waiting: VecDeque<usize>,
    watcher: Option<Watcher>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Refused,
    Made,
}

struct PipeState {
    stage: Stage,
    /// Of who has connected.
    client: SocketAddr,
    /// Connected to.
    server: SocketAddr,
    ends: [EndState; 2],
}

#[derive(Default)]
struct EndState {
    /// Sent by this end, not delivered.
    under_way: VecDeque<u8>,
    /// Delivered to this end, not read.
    come: VecDeque<u8>,
    /// This end sends nothing more; it is delivered behind what is under way.
    has_ended: bool,
    /// And what the other has sent is lost.
    has_reset: bool,
    /// This end's word that it has ended has been delivered.
    is_end_told: bool,
    /// The other has ended.
    hears_end: bool,
    is_broken: bool,
    /// This end reads nothing more.
    is_deaf: bool,
    /// Nobody holds this end any more.
    is_gone: bool,
    /// A write has found no room.
    wants_room: bool,
    watcher: Option<Watcher>,
}

/// The arrival of a piece of what an end has sent.
pub(super) struct Delivery(End);

impl Inner {
    /// The next number of a SplitMix64 sequence.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ self.random >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn end(&mut self, end: End) -> &mut EndState {
        &mut self.pipes[end.pipe].ends[end.side]
    }

    fn tell(&mut self, watcher: Option<Watcher>, is_writable: bool, is_read_closed: bool) {
        if let Some(Watcher { reactor, token }) = watcher {
            let is_readable = !is_writable || is_read_closed;
            self.news[reactor].push(News { token, is_readable, is_writable, is_read_closed });
        }
    }

    fn tell_end(&mut self, end: End, is_writable: bool) {
        let EndState { watcher, hears_end, is_broken, is_deaf, .. } = self.end(end);
        let (watcher, is_read_closed) = (*watcher, *hears_end || *is_broken || *is_deaf);
        self.tell(watcher, is_writable, is_read_closed);
    }

    /// Bytes that an end may send now.
    fn room(&self, end: End) -> usize {
        let [own, other] = [end, end.other()].map(|it| &self.pipes[it.pipe].ends[it.side]);
        self.pipe_bytes_max.saturating_sub(own.under_way.len() + other.come.len())
    }

    fn break_end(&mut self, end: End) {
        let state = self.end(end);
        (state.is_broken, state.has_ended, state.is_end_told) = (true, true, true);
        state.under_way.clear();
        self.tell_end(end, true);
    }

    fn has_delivery(&self, end: End) -> bool {
        let pipe = &self.pipes[end.pipe];
        let state = &pipe.ends[end.side];
        if self.cut.contains(&pipe.server) {
            return false;
        }
        match pipe.stage {
            Stage::Refused => false,
            Stage::Connecting => {
                let listening = self.listeners.get(&pipe.server);
                end.side == 0 && listening.is_none_or(|it| it.waiting.len() < BACKLOG_MAX)
            }
            Stage::Made => !state.under_way.is_empty() || state.has_ended && !state.is_end_told,
        }
    }

    /// A connection is made, or refused.
    fn arrive(&mut self, end: End) {
        let address = self.pipes[end.pipe].server;
        let listening = self.listeners.get_mut(&address).map(|listening| {
            listening.waiting.push_back(end.pipe);
            listening.watcher
        });
        self.pipes[end.pipe].stage = if listening.is_some() { Stage::Made } else { Stage::Refused };
        self.end(end.other()).is_gone = listening.is_none();
        if let Some(watcher) = listening {
            self.tell(watcher, false, false);
        }
        self.tell_end(end, true);
    }

    fn deliver(&mut self, from: End) {
        if self.pipes[from.pipe].stage == Stage::Connecting {
            return self.arrive(from);
        }
        let to = from.other();
        let is_deaf = self.end(to).is_deaf;
        let sent = self.end(from).under_way.len();
        if sent > 0 && is_deaf {
            return self.break_end(from);
        }
        if sent > 0 {
            let longest = sent.min(self.piece_bytes_max).max(1);
            let bytes = 1 + (self.random() % longest as u64) as usize;
            let piece: Vec<u8> = self.end(from).under_way.drain(..bytes).collect();
            self.end(to).come.extend(piece);
            return self.tell_end(to, false);
        }
        let state = self.end(from);
        state.is_end_told = true;
        if state.has_reset {
            self.break_end(to);
        } else {
            self.end(to).hears_end = true;
            self.tell_end(to, false);
        }
    }

    /// Nobody holds this end any more.
    fn close(&mut self, end: End) {
        let state = self.end(end);
        state.has_reset = !state.come.is_empty();
        if state.has_reset {
            state.under_way.clear();
        }
        (state.has_ended, state.is_deaf, state.is_gone, state.watcher) = (true, true, true, None);
        if self.end(end.other()).is_gone || self.pipes[end.pipe].stage == Stage::Connecting {
            self.pipes.remove(end.pipe);
        }
    }
}

impl Network {
    pub(super) fn new(seed: u64) -> Network {
        let inner = Inner {
            random: seed,
            piece_bytes_max: 64 * 1024,
            pipe_bytes_max: 64 * 1024,
            is_exhausted: false,
            names: BTreeMap::new(),
            cut: BTreeSet::new(),
            attempts: BTreeMap::new(),
            listeners: BTreeMap::new(),
            pipes: Slab::new(),
            ports: 0,
            news: Vec::new(),
            interrupted: BTreeSet::new(),
        };
        Network { inner: Mutex::new(inner) }
    }

    pub(crate) fn random(&self) -> u64 {
        lock(&self.inner).random()
    }

    pub(super) fn add_reactor(&self) -> usize {
        let mut inner = lock(&self.inner);
        inner.news.push(Vec::new());
        inner.news.len() - 1
    }

    /// Whether a reactor's wait is over.
    pub(super) fn has_news(&self, reactor: usize) -> bool {
        let inner = lock(&self.inner);
        !inner.news[reactor].is_empty() || inner.interrupted.contains(&reactor)
    }

    /// Tells a reactor its news, unless its wait has been interrupted.
    pub(crate) fn take_news(&self, reactor: usize, news: &mut Vec<News>) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        if inner.interrupted.remove(&reactor) {
            return Err(ErrorKind::Interrupted.into());
        }
        news.append(&mut inner.news[reactor]);
        Ok(())
    }

    /// All waits end without news.
    pub(super) fn interrupt(&self) {
        let mut inner = lock(&self.inner);
        inner.interrupted = (0..inner.news.len()).collect();
    }

    pub(super) fn deliveries(&self) -> Vec<Delivery> {
        let inner = lock(&self.inner);
        let ends = inner.pipes.iter().flat_map(|(pipe, _)| [0, 1].map(|side| End { pipe, side }));
        ends.filter(|end| inner.has_delivery(*end)).map(Delivery).collect()
    }

    pub(super) fn deliver(&self, Delivery(from): Delivery) {
        lock(&self.inner).deliver(from);
    }

    pub(super) fn set_piece_bytes_max(&self, bytes: usize) {
        lock(&self.inner).piece_bytes_max = bytes;
    }

    pub(super) fn set_pipe_bytes_max(&self, bytes: usize) {
        lock(&self.inner).pipe_bytes_max = bytes;
    }

    pub(super) fn set_exhausted(&self, is_exhausted: bool) {
        lock(&self.inner).is_exhausted = is_exhausted;
    }

    pub(super) fn set_name(&self, name: &str, addresses: &[SocketAddr]) {
        lock(&self.inner).names.insert(name.to_owned(), addresses.to_vec());
    }

    pub(crate) fn addresses_of(&self, name: &str) -> Vec<SocketAddr> {
        lock(&self.inner).names.get(name).cloned().unwrap_or_default()
    }

    pub(super) fn set_cut(&self, address: SocketAddr, is_cut: bool) {
        let mut inner = lock(&self.inner);
        if is_cut {
            inner.cut.insert(address);
        } else {
            inner.cut.remove(&address);
        }
    }

    pub(super) fn reset(&self, address: SocketAddr) {
        let mut inner = lock(&self.inner);
        let is_meant = |(pipe, state): (usize, &PipeState)| (state.server == address).then_some(pipe);
        let meant: Vec<usize> = inner.pipes.iter().filter_map(is_meant).collect();
        for pipe in meant {
            inner.break_end(End { pipe, side: 0 });
            inner.break_end(End { pipe, side: 1 });
        }
    }

    pub(super) fn attempts(&self, address: SocketAddr) -> u64 {
        lock(&self.inner).attempts.get(&address).copied().unwrap_or(0)
    }
}

/// What the system does for its sockets.
impl Network {
    pub(super) fn listen(&self, mut address: SocketAddr) -> io::Result<SocketAddr> {
        let mut inner = lock(&self.inner);
        if address.port() == 0 {
            inner.ports += 1;
            address.set_port(inner.ports);
        }
        if inner.listeners.contains_key(&address) {
            return Err(ErrorKind::AddrInUse.into());
        }
        inner.listeners.insert(address, Listening::default());
        Ok(address)
    }

    pub(super) fn accept(&self, address: SocketAddr) -> io::Result<(End, SocketAddr)> {
        let mut inner = lock(&self.inner);
        if inner.is_exhausted {
            return Err(io::Error::other("no descriptor is free"));
        }
        let waiting = inner.listeners.get_mut(&address).and_then(|listening| listening.waiting.pop_front());
        let pipe = waiting.ok_or(ErrorKind::WouldBlock)?;
        Ok((End { pipe, side: 1 }, inner.pipes[pipe].client))
    }

    pub(super) fn close_listener(&self, address: SocketAddr) {
        let mut inner = lock(&self.inner);
        let waiting = inner.listeners.remove(&address).map(|listening| listening.waiting).unwrap_or_default();
        for pipe in waiting {
            inner.break_end(End { pipe, side: 0 });
            inner.close(End { pipe, side: 1 });
        }
    }

    pub(super) fn watch_listener(&self, address: SocketAddr, watcher: Watcher) {
        let mut inner = lock(&self.inner);
        if let Some(listening) = inner.listeners.get_mut(&address) {
            listening.watcher = Some(watcher);
            inner.tell(Some(watcher), false, false);
        }
    }

    pub(super) fn connect(&self, server: SocketAddr) -> End {
        let mut inner = lock(&self.inner);
        inner.ports += 1;
        *inner.attempts.entry(server).or_default() += 1;
        let client = SocketAddr::from(([10, 255, 255, 255], inner.ports));
        let pipe = PipeState { stage: Stage::Connecting, client, server, ends: Default::default() };
        End { pipe: inner.pipes.insert(pipe), side: 0 }
    }

    pub(super) fn is_connected(&self, end: End) -> io::Result<bool> {
        let mut inner = lock(&self.inner);
        if inner.end(end).is_broken {
            return Err(ErrorKind::ConnectionReset.into());
        }
        match inner.pipes[end.pipe].stage {
            Stage::Connecting => Ok(false),
            Stage::Refused => Err(ErrorKind::ConnectionRefused.into()),
            Stage::Made => Ok(true),
        }
    }

    pub(super) fn watch(&self, end: End, watcher: Watcher) {
        let mut inner = lock(&self.inner);
        inner.end(end).watcher = Some(watcher);
        if inner.pipes[end.pipe].stage == Stage::Made {
            inner.tell_end(end, true);
            inner.tell_end(end, false);
        }
    }

    /// Reads at most `room` bytes; `put` is given each piece and its place.
    pub(super) fn read(&self, end: End, room: usize, mut put: impl FnMut(usize, &[u8])) -> io::Result<usize> {
        let mut inner = lock(&self.inner);
        let state = inner.end(end);
        let count = room.min(state.come.len());
        if count > 0 && !state.is_deaf {
            let (first, second) = state.come.as_slices();
            let from_first = count.min(first.len());
            put(0, &first[..from_first]);
            put(from_first, &second[..count - from_first]);
            state.come.drain(..count);
            if std::mem::take(&mut inner.end(end.other()).wants_room) {
                inner.tell_end(end.other(), true);
            }
            return Ok(count);
        }
        match state {
            EndState { is_deaf: true, .. } => Ok(0),
            EndState { is_broken: true, .. } => Err(ErrorKind::ConnectionReset.into()),
            EndState { hears_end: true, .. } => Ok(0),
            _ => Err(ErrorKind::WouldBlock.into()),
        }
    }

    pub(super) fn has_ended(&self, end: End) -> bool {
        let mut inner = lock(&self.inner);
        let is_refused = inner.pipes[end.pipe].stage == Stage::Refused;
        let state = inner.end(end);
        is_refused || state.come.is_empty() && (state.hears_end || state.is_broken)
    }

    pub(super) fn write(&self, end: End, bytes: &[u8]) -> io::Result<usize> {
        let mut inner = lock(&self.inner);
        let room = inner.room(end);
        let state = inner.end(end);
        if state.is_broken || state.has_ended {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if room == 0 && !bytes.is_empty() {
            state.wants_room = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = room.min(bytes.len());
        state.under_way.extend(&bytes[..count]);
        Ok(count)
    }

    pub(super) fn end(&self, end: End) {
        lock(&self.inner).end(end).has_ended = true;
    }

    pub(super) fn shut_down(&self, end: End) {
        let mut inner = lock(&self.inner);
        let state = inner.end(end);
        (state.has_ended, state.is_deaf) = (true, true);
        inner.tell_end(end, true);
    }

    pub(super) fn close(&self, end: End) {
        lock(&self.inner).close(end);
    }
}
