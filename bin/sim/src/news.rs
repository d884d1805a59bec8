//! What a node's transport notices of its peers: that a message or its answer is lost, and that a process is gone.
//!
//! Both are guesses. A loss is noticed at once if the connection broke, else when the sender's patience ends; the end of
//! a process is noticed by whoever can reach its machine, sometimes so late that the next one runs already.

use raft::core::NodeId;
use raft::net::{Inbox, PEER_TIMEOUT};

use crate::event::{Event, Parcel};
use crate::plan::MS;
use crate::simulation::{Question, Simulation};
use crate::violation::Violation;

/// How long an answer of a peer is waited for.
const PATIENCE_US: u64 = PEER_TIMEOUT.as_micros() as u64;

/// How long it takes to see that a connection broke, and that nobody listens any more, at most.
const BROKEN_US_MAX: u64 = 20 * MS;
const GONE_US_MAX: u64 = 300 * MS;

/// What is noticed of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// An append, a heartbeat or the answer to one is lost.
    Lost,
    /// Its process is gone.
    Gone,
}

impl Simulation<'_> {
    /// A parcel will not arrive. Whoever asked learns it, of requests of which a core is told that.
    pub(crate) fn lose(&mut self, from: usize, to: usize, parcel: &Parcel) {
        let (asker, life, peer) = match parcel {
            Parcel::Question { letter, life } if letter.is_told_when_lost() => (from, *life, to),
            Parcel::Answer { letter, life } if letter.is_told_when_lost() => (to, *life, from),
            _ => return,
        };
        let breaks = self.news_dice.permille(300);
        let after = if breaks { self.news_dice.between(1, BROKEN_US_MAX) } else { PATIENCE_US };
        self.schedule_news(asker, life, peer, News::Lost, after);
    }

    /// A life ended, and with it every request that it had not answered. If its connections broke, those who asked it learn that at once, and most that can reach its machine
    /// find out that nobody listens there; else those who asked wait in vain.
    pub(crate) fn spread_end(&mut self, node: usize, connections_break: bool) {
        let questions = std::mem::take(&mut self.machines[node].questions);
        for Question { asker, asked_in, .. } in questions.into_values() {
            let after =
                if connections_break { self.news_dice.between(1, BROKEN_US_MAX) } else { PATIENCE_US };
            self.schedule_news(asker.0 as usize, asked_in, node, News::Lost, after);
        }
        if !connections_break {
            return;
        }
        for other in self.node_ids() {
            let reaches = self.links.is_open(other, node) && self.links.is_open(node, other);
            if other != node && reaches && self.news_dice.permille(700) {
                let after = self.news_dice.skewed(MS, GONE_US_MAX);
                let life = self.machines[other].life;
                self.schedule_news(other, life, node, News::Gone, after);
            }
        }
    }

    fn schedule_news(&mut self, node: usize, life: u32, peer: usize, news: News, after: u64) {
        self.events.schedule(self.now + after, Event::News { node, life, peer, news });
    }

    /// A node's transport tells it of a peer.
    pub(crate) fn hear_news(
        &mut self,
        node: usize,
        life: u32,
        peer: usize,
        news: News,
    ) -> Result<(), Violation> {
        let machine = &self.machines[node];
        let reads_on_at = self.deaf_until(node);
        if machine.life == life && reads_on_at > self.now {
            self.events.schedule(reads_on_at, Event::News { node, life, peer, news });
            return Ok(());
        }
        // While nothing goes wrong nobody guesses wrong.
        let is_wrong = news == News::Gone && self.machines[peer].node.is_some();
        let Some(alive) = machine.node.as_ref().filter(|_| machine.life == life) else { return Ok(()) };
        if is_wrong && !self.is_rough() {
            return Ok(());
        }
        let id = NodeId(peer as u64);
        match news {
            News::Lost => alive.parts.node.lost(id),
            News::Gone => alive.parts.node.gone(id),
        }
        self.say_of_node(node, || match news {
            News::Lost => format!("learns that a message to node {peer} is lost"),
            News::Gone => format!("learns that node {peer} is gone"),
        });
        self.turn_reactor(node);
        self.look_at(node)
    }
}
