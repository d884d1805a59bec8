//! Clients as the store's own: one operation at a time, sent again under its number until it is answered, to another node
//! when one refuses or stays silent.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use kvserver::state_machine::{Command, Reply, Stamp};
use kvserver::{Outcome, Refusal, ReplySink};

use crate::cluster::{Cluster, Request};

/// Without an answer for this long a client asks another node.
const PATIENCE_US: u64 = 100_000;

/// After a refusal a client waits this long.
const PAUSE_US: u64 = 5_000;

/// Where an outcome is left.
#[derive(Clone, Default)]
pub(crate) struct Mailbox(Arc<Mutex<Option<Outcome>>>);

impl Mailbox {
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.0.lock().unwrap().clone()
    }
}

impl ReplySink for Mailbox {
    fn send(self: Box<Self>, outcome: Outcome) {
        let before = self.0.lock().unwrap().replace(outcome);
        assert!(before.is_none(), "a request is answered once");
    }
}

/// What a client wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Put(String, String),
    Append(String, String),
    Get(String),
}

/// An operation that was answered.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    pub(crate) wish: Wish,
    /// What a get found.
    pub(crate) value: Option<String>,
    pub(crate) begun_us: u64,
    pub(crate) ended_us: u64,
}

/// A client.
pub(crate) struct Client {
    /// The nodes it can reach.
    pub(crate) nodes: Vec<u64>,
    place: usize,
    session: Option<u64>,
    seq: u64,
    wish: Option<(Wish, u64)>,
    waiting: Option<(Mailbox, u64)>,
    rests_until: u64,
    pub(crate) done: Vec<Done>,
}

impl Client {
    pub(crate) fn new(number: usize, nodes: Vec<u64>) -> Client {
        let place = number % nodes.len();
        let (wish, waiting, done) = (None, None, Vec::new());
        Client { nodes, place, session: None, seq: 0, wish, waiting, rests_until: 0, done }
    }

    /// Begins an operation; the one before must have ended.
    pub(crate) fn begin(&mut self, wish: Wish, cluster: &Cluster) {
        assert!(self.wish.is_none(), "one operation at a time");
        self.seq += u64::from(!matches!(wish, Wish::Get(_)));
        self.wish = Some((wish, cluster.now_us()));
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.wish.is_none()
    }

    /// Looks for an answer; sends what is due.
    pub(crate) fn act(&mut self, cluster: &mut Cluster) {
        let now = cluster.now_us();
        if let Some((mailbox, since)) = &self.waiting {
            match mailbox.outcome() {
                Some(outcome) => self.hear(outcome, cluster),
                None if now - since > PATIENCE_US => self.move_on(now),
                None => {}
            }
        }
        if self.wish.is_some() && self.waiting.is_none() && now >= self.rests_until {
            let mailbox = Mailbox::default();
            self.waiting = Some((mailbox.clone(), now));
            cluster.request(self.nodes[self.place], self.request(mailbox));
        }
    }

    fn request(&self, mailbox: Mailbox) -> Request {
        let (wish, _) = self.wish.as_ref().expect("there is something to send");
        let stamp = |client_id| Stamp { client_id, seq: self.seq, acked_below: self.seq };
        let command = match (wish, self.session) {
            (Wish::Get(key), _) => {
                let key = Bytes::from(key.clone());
                return Box::new(move |intake| intake.read(key, Box::new(mailbox)));
            }
            (_, None) => Command::OpenSession.encode(),
            (Wish::Put(key, value), Some(client_id)) => {
                Command::Put { stamp: stamp(client_id), key: key.as_bytes(), value: value.as_bytes() }
                    .encode()
            }
            (Wish::Append(key, value), Some(client_id)) => {
                Command::Append { stamp: stamp(client_id), key: key.as_bytes(), value: value.as_bytes() }
                    .encode()
            }
        };
        Box::new(move |intake| intake.write(command, Box::new(mailbox)))
    }

    fn hear(&mut self, outcome: Outcome, cluster: &mut Cluster) {
        if cluster.is_chosen(cluster.loss_permille) {
            // The reply is lost: the same again, elsewhere.
            return self.move_on(cluster.now_us());
        }
        self.waiting = None;
        match outcome {
            Outcome::Applied(Reply::SessionOpened { client_id }) => self.session = Some(client_id),
            Outcome::Applied(Reply::Written { .. }) | Outcome::Missing => self.end(None, cluster),
            Outcome::Found { value, .. } => {
                let value = String::from_utf8(value.to_vec()).expect("clients write text");
                self.end(Some(value), cluster);
            }
            Outcome::Refused(Refusal::NotLeader { .. } | Refusal::Busy) => self.move_on(cluster.now_us()),
            other => panic!("an operation of an open session comes to {other:?}"),
        }
    }

    fn end(&mut self, value: Option<String>, cluster: &Cluster) {
        let (wish, begun_us) = self.wish.take().expect("something was asked");
        self.done.push(Done { wish, value, begun_us, ended_us: cluster.now_us() });
    }

    fn move_on(&mut self, now: u64) {
        self.waiting = None;
        self.place = (self.place + 1) % self.nodes.len();
        self.rests_until = now + PAUSE_US;
    }
}

/// Lets time pass until all of `clients` are idle, which takes at most `us`.
pub(crate) fn finish(cluster: &mut Cluster, clients: &mut [Client], us: u64, what: &str) {
    cluster.until(us, what, |cluster| {
        clients.iter_mut().for_each(|client| client.act(cluster));
        clients.iter().all(Client::is_idle)
    });
}

/// Does one operation to its end; how long it took.
pub(crate) fn carry_out(cluster: &mut Cluster, client: &mut Client, wish: Wish) -> Done {
    client.begin(wish, cluster);
    finish(cluster, std::slice::from_mut(client), 3_000_000, "an operation");
    client.done.last().expect("it ended").clone()
}
