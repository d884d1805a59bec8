//! What a turn is: its time, and what visits of connections use of it and leave for its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::Token;

use super::clock::{self, Nanos};
use super::world::World;
use crate::client::pending_call::Answered;
use crate::config::ReactorConfig;
use crate::protocol::reply_decoder::ReplyFrame;
use crate::server::provider::ServiceEntry;

/// How long a turn goes on visiting connections that have something for it, and then for as long again writing. What is
/// due is looked for between turns, so that many connections that are busy cannot have it wait.
const STRETCH: Duration = Duration::from_millis(1);

/// See the module's text.
pub(crate) struct Turn {
    /// When it began.
    pub(crate) now: Instant,
    pub(crate) nanos: Nanos,
    pub(crate) number: u64,
    /// When the present stretch of it is over.
    until: Nanos,
    world: World,
    pub(crate) scratch: Box<[u8]>,
    /// Bytes that one connection may be read, and as many may be answered at a time.
    pub(crate) share: usize,
    /// Services called in this turn.
    pub(crate) called: Vec<Arc<ServiceEntry>>,
    /// Whether something was dispatched, so that the hooks run.
    pub(crate) has_dispatched: bool,
    /// Servers' connections with calls that have a deadline.
    pub(crate) timed: Vec<Token>,
    /// Room for a client connection's replies.
    pub(crate) replies: Vec<ReplyFrame>,
    /// Room for calls that are answered.
    pub(crate) answered: Vec<Answered>,
}

impl Turn {
    pub(super) fn new(config: &ReactorConfig, world: World) -> Turn {
        let now = world.now();
        let scratch_bytes = config.read_bytes_max.max(1);
        Turn {
            now,
            nanos: clock::nanos_of(now),
            number: 0,
            until: 0,
            world,
            scratch: vec![0; scratch_bytes].into(),
            share: scratch_bytes * config.reads_per_turn_max.max(1),
            called: Vec::new(),
            has_dispatched: false,
            timed: Vec::new(),
            replies: Vec::new(),
            answered: Vec::new(),
        }
    }

    /// The next one begins, on its thread.
    pub(super) fn begin(&mut self) {
        self.now = self.world.now();
        self.nanos = clock::nanos_of(self.now);
        self.until = self.nanos.saturating_add(clock::nanos_in(STRETCH));
        clock::begin_turn(self.nanos);
        self.number += 1;
        self.has_dispatched = false;
    }

    /// What has been read and answered is written from now on.
    pub(super) fn begin_writing(&mut self) {
        self.until = self.world.nanos().saturating_add(clock::nanos_in(STRETCH));
    }

    /// Whether something more may be begun. A look at the clock: not for each frame.
    pub(crate) fn has_time(&self) -> bool {
        self.world.nanos() < self.until
    }
}
