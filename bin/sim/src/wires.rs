//! What is on its way: messages, chunks and requests between sites, with all that a network may do to them.
//!
//! Between nodes the RPC layer is modelled as it is: each request that arrives gets a token, so does each copy of it;
//! whoever answers names the token; an answer reaches only the life that asked. A chunk's sender gets one answer or
//! learns that there is none.

use clerk::{Consistency, Request, Verdict};
use raft::core::{Body, Message, ReplyToken};

use crate::dice::Dice;
use crate::event::{Event, Parcel, Room};
use crate::faults::Fault;
use crate::service::nobody_listens;
use crate::simulation::{Question, Simulation};
use crate::tap::Attempt;
use crate::violation::Violation;

/// How long it takes to learn that a connection is refused or broken, at most.
const REFUSED_US_MAX: u64 = 5_000;

/// Messages that somebody gets who is not meant, in a thousand, where that is one of the faults.
const MISDIRECTED_PERMILLE: u64 = 5;

impl Simulation<'_> {
    /// Sends a parcel from one site to another: it may be lost, doubled, delayed.
    pub(crate) fn send(&mut self, from: usize, to: usize, parcel: Parcel) {
        let (is_rough, plan) = (self.is_rough(), self.plan);
        if is_rough && self.dice_of(&parcel).permille(plan.loss_permille) {
            self.counters.count(Fault::Loss);
            self.lose(from, to, &parcel);
            return;
        }
        if is_rough && self.dice_of(&parcel).permille(plan.duplication_permille) {
            self.counters.count(Fault::Duplication);
            if let Parcel::Request { attempt, request: Request::Write { stamp, .. } } = &parcel {
                self.history.doubled(attempt.client, (stamp.client_id, stamp.seq));
            }
            self.send_once(from, to, parcel.clone());
        }
        self.send_once(from, to, parcel);
    }

    fn send_once(&mut self, from: usize, to: usize, parcel: Parcel) {
        let (is_rough, plan) = (self.is_rough(), self.plan);
        let (low, high) = plan.delay_us;
        let mut delay = self.dice_of(&parcel).between(low, high);
        if is_rough && self.dice_of(&parcel).permille(plan.slow_permille) {
            self.counters.count(Fault::Delay);
            delay += self.dice_of(&parcel).between(1, plan.slow_us_max);
        }
        let number = self.links.send(from, to);
        self.events.schedule(self.now + delay, Event::Arrival { from, to, number, parcel });
    }

    /// What becomes of a parcel on its way is chance; probes have dice of their own.
    fn dice_of(&mut self, parcel: &Parcel) -> &mut Dice {
        match parcel {
            Parcel::Probe { .. } | Parcel::ProbeAnswer { .. } => &mut self.newcomer_dice,
            _ => &mut self.network_dice,
        }
    }

    /// A message of the core leaves its node.
    pub(crate) fn send_message(&mut self, node: usize, message: Message) -> Result<(), Violation> {
        self.say_of_node(node, || format!("says {message}"));
        self.hear_for_ambush(node);
        let to = message.to.0 as usize;
        self.misdirect(node, &message);
        if message.body.is_request() {
            let (letter, life) = (self.post.write(message), self.machines[node].life);
            self.send(node, to, Parcel::Question { letter, life });
            return Ok(());
        }
        match self.machines[node].questions.remove(&message.token.0) {
            Some(Question { asker, asked_in, .. }) => {
                assert_eq!(asker, message.to, "an answer goes to who asked");
                let letter = self.post.write(message);
                self.send(node, to, Parcel::Answer { letter, life: asked_in });
                Ok(())
            }
            None => {
                Violation::of("answered-once", format!("nobody waits for what node {node} says: {message}"))
            }
        }
    }

    /// Somebody gets what is not for it: an address was another's before, or another cluster lists it.
    fn misdirect(&mut self, node: usize, message: &Message) {
        let is_rough = self.is_rough() && self.plan.has(Fault::Misdirection);
        if !is_rough || !self.news_dice.permille(MISDIRECTED_PERMILLE) {
            return;
        }
        self.counters.count(Fault::Misdirection);
        let to = message.to.0 as usize;
        let somebody = self.news_dice.place(self.machines.len());
        let (to, letter) = match somebody {
            // Nobody is a peer of its own.
            somebody if somebody != to && somebody != node => (somebody, self.post.write(message.clone())),
            _ => (to, self.post.write_as_a_stranger(message.clone())),
        };
        self.send_once(node, to, Parcel::Stray { letter });
    }

    /// Something arrives, unless the link is cut by now.
    pub(crate) fn arrive(
        &mut self,
        from: usize,
        to: usize,
        number: u64,
        parcel: Parcel,
    ) -> Result<(), Violation> {
        // Who sent a chunk waits for its answer much longer than for others.
        let is_chunk = matches!(parcel, Parcel::Chunk { .. } | Parcel::ChunkAnswer { .. });
        let is_forgotten = !is_chunk && self.links.is_forgotten(from, to, number);
        if is_forgotten || !self.links.is_open(from, to) {
            self.lose(from, to, &parcel);
            return Ok(());
        }
        let read_at = self.unread_until(from, to, parcel.way());
        if read_at > self.now {
            self.events.schedule(read_at, Event::Arrival { from, to, number, parcel });
            return Ok(());
        }
        if self.links.arrive(from, to, number) {
            self.counters.count(Fault::Reordering);
        }
        if matches!(parcel, Parcel::Probe { .. } | Parcel::ProbeAnswer { .. }) {
            return self.deliver_probe(from, to, &parcel);
        }
        if self.machines[to].node.is_none() {
            self.find_nobody(from, to, parcel);
            return Ok(());
        }
        self.deliver(to, parcel)
    }

    /// A node takes what has come.
    fn deliver(&mut self, to: usize, parcel: Parcel) -> Result<(), Violation> {
        match parcel {
            Parcel::Question { letter, life } => {
                let message = self.post.read(&letter)?;
                match message.body {
                    // An order is answered by what it brings about.
                    Body::TimeoutNow => self.hand_over(to, message),
                    _ => self.ask(to, message, life),
                }
            }
            Parcel::Answer { letter, life } => {
                if self.machines[to].life != life {
                    return Ok(());
                }
                let message = self.post.read(&letter)?;
                self.hand_over(to, message)
            }
            Parcel::Stray { letter } => self.post.refuse(to, &letter),
            Parcel::Probe { .. } | Parcel::ProbeAnswer { .. } => Ok(()),
            Parcel::Chunk { number, bytes } => {
                let (from, request) = self.post.read_chunk(to, bytes)?;
                if let Some(alive) = &self.machines[to].node {
                    alive.receive_chunk(from, number, request);
                }
                self.look_at(to)
            }
            Parcel::ChunkAnswer { number, bytes } => {
                let Some(chunk) = self.chunks.remove(&number) else { return Ok(()) };
                let answer = self.post.read_chunk_answer(to, chunk.to, bytes)?;
                if self.machines[chunk.from].life == chunk.life {
                    (chunk.done)(Some(answer));
                }
                self.look_at(to)
            }
            Parcel::Request { attempt, request } => {
                self.note_stale_read(to, attempt, &request);
                if let Some(alive) = &self.machines[to].node {
                    alive.receive_request(attempt, &request);
                }
                self.turn_reactor(to);
                self.look_at(to)
            }
        }
    }

    /// A node gets a read that may be stale: what it must have seen is known now.
    fn note_stale_read(&mut self, node: usize, attempt: Attempt, request: &Request) {
        let Request::Read { key, consistency: Consistency::Stale { max_age } } = request else { return };
        let age_us = max_age.map(|age| self.machines[node].clock.until(age));
        self.staleness.asked(attempt, key, self.consensus.applied(node).0, self.now, age_us);
    }

    /// A peer's request gets a token of its own, by which it will be answered.
    fn ask(&mut self, to: usize, mut message: Message, life: u32) -> Result<(), Violation> {
        let machine = &mut self.machines[to];
        machine.next_token += 1;
        message.token = ReplyToken(machine.next_token);
        let question = Question { asker: message.from, asked_in: life, heard_at: self.now };
        machine.questions.insert(machine.next_token, question);
        self.hand_over(to, message)
    }

    fn hand_over(&mut self, to: usize, message: Message) -> Result<(), Violation> {
        self.say_of_node(to, || format!("hears {message}"));
        self.consensus.hears(to, &message);
        if let Some(alive) = &self.machines[to].node {
            alive.receive(message);
        }
        self.turn_reactor(to);
        self.look_at(to)
    }

    /// The reactor ends its turn soon; what arrives until then is part of it.
    pub(crate) fn turn_reactor(&mut self, node: usize) {
        if self.machines[node].due[Room::Reactor as usize].is_none() {
            let after = self.turn_us();
            self.schedule_step(node, Room::Reactor, after);
        }
    }

    /// Nobody listens there: who asked by a connection learns it.
    fn find_nobody(&mut self, from: usize, to: usize, parcel: Parcel) {
        let after = self.network_dice.between(1, REFUSED_US_MAX);
        match parcel {
            Parcel::Request { attempt, .. } if self.links.is_open(to, from) => {
                let verdict = nobody_listens(to);
                self.events.schedule(self.now + after, Event::Heard { attempt, verdict });
            }
            Parcel::Chunk { number, .. } => {
                self.events.schedule(self.now + after, Event::ChunkTimeout { number });
            }
            parcel => self.lose(from, to, &parcel),
        }
    }

    /// The answer to a chunk did not come: its sender learns it.
    pub(crate) fn lose_chunk(&mut self, number: u64) -> Result<(), Violation> {
        let Some(chunk) = self.chunks.remove(&number) else { return Ok(()) };
        if self.machines[chunk.from].life != chunk.life {
            return Ok(());
        }
        (chunk.done)(None);
        self.look_at(chunk.from)
    }

    /// What became of a client's attempt goes back to it.
    pub(crate) fn send_outcome(&mut self, node: usize, attempt: Attempt, verdict: Verdict) {
        let site = self.machines.len() + attempt.client;
        let is_lost = self.is_rough() && self.network_dice.permille(self.plan.loss_permille);
        if is_lost || !self.links.is_open(node, site) {
            self.counters.count(Fault::Loss);
            return;
        }
        let (low, high) = self.plan.delay_us;
        let mut delay = self.network_dice.between(low, high);
        if self.is_rough() && self.network_dice.permille(self.plan.slow_permille) {
            self.counters.count(Fault::Delay);
            delay += self.network_dice.between(1, self.plan.slow_us_max);
        }
        self.say_of_node(node, || {
            format!("tells client {} of attempt {}: {}", attempt.client, attempt.number, brief(&verdict))
        });
        self.events.schedule(self.now + delay, Event::Heard { attempt, verdict });
    }

    /// Peers' ids, for those who draw among them.
    pub(crate) fn node_ids(&self) -> Vec<usize> {
        (0..self.machines.len()).collect()
    }
}

/// A verdict in few words: values may be long.
pub(crate) fn brief(verdict: &Verdict) -> String {
    let mut text = format!("{verdict:?}");
    if text.len() > 120 {
        text.truncate((0..=120).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0));
        text.push('…');
    }
    text
}
