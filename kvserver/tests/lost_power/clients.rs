//! Clients on the virtual cluster: they append numbers, one after the other, and know what they were told.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use kvserver::state_machine::{Command, Reply, Stamp};
use kvserver::{Outcome, ReplySink};

use crate::cluster::{Cluster, NODES};

/// Where an outcome is left.
#[derive(Clone, Default)]
struct Mailbox(Arc<Mutex<Option<Outcome>>>);

impl ReplySink for Mailbox {
    fn send(self: Box<Self>, outcome: Outcome) {
        let before = self.0.lock().unwrap().replace(outcome);
        assert!(before.is_none(), "a request is answered once");
    }
}

/// Steps without an answer after which a client asks another node, with the same stamp.
const PATIENCE: u64 = 400;

/// A client that appends `0,`, `1,`, `2,` … to its own key, each exactly once.
pub(crate) struct Appender {
    id: u64,
    node: u64,
    session: Option<u64>,
    acknowledged: u64,
    waiting: Option<(Mailbox, u64)>,
}

impl Appender {
    /// The client of this number.
    pub(crate) fn new(id: u64) -> Appender {
        Appender { id, node: id % NODES, session: None, acknowledged: 0, waiting: None }
    }

    /// Its key.
    pub(crate) fn key(&self) -> String {
        format!("key {}", self.id)
    }

    /// How many appends it was told are done.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Looks for an answer; sends what is due.
    pub(crate) fn act(&mut self, cluster: &mut Cluster) {
        if let Some((mailbox, waited)) = &mut self.waiting {
            let outcome = mailbox.0.lock().unwrap().take();
            match outcome {
                Some(outcome) => self.hear(outcome),
                None if *waited < PATIENCE => *waited += 1,
                None => self.move_on(),
            }
        }
        if self.waiting.is_none() {
            let mailbox = Mailbox::default();
            let intake = Arc::clone(&cluster.nodes[&self.node].parts.intake);
            intake.write(self.command(), Box::new(mailbox.clone()));
            cluster.end_of_turn(self.node);
            self.waiting = Some((mailbox, 0));
        }
    }

    fn command(&self) -> Bytes {
        let Some(client_id) = self.session else { return Command::OpenSession.encode() };
        let seq = self.acknowledged + 1;
        let stamp = Stamp { client_id, seq, acked_below: seq };
        let value = format!("{},", self.acknowledged);
        Command::Append { stamp, key: self.key().as_bytes(), value: value.as_bytes() }.encode()
    }

    fn hear(&mut self, outcome: Outcome) {
        self.waiting = None;
        match outcome {
            Outcome::Applied(Reply::SessionOpened { client_id }) => self.session = Some(client_id),
            Outcome::Applied(Reply::Written { .. }) => self.acknowledged += 1,
            Outcome::Refused(_) => self.move_on(),
            other => panic!("an append of an open session comes to {other:?}"),
        }
    }

    fn move_on(&mut self) {
        self.waiting = None;
        self.node = (self.node + 1) % NODES;
    }

    /// What it was told must be there, in order, once; one more may be, which it was not told of yet.
    pub(crate) fn check(&self, value: Option<&[u8]>) {
        let numbers = |count: u64| (0..count).map(|number| format!("{number},")).collect::<String>();
        let told = numbers(self.acknowledged);
        let one_more = numbers(self.acknowledged + 1);
        let value = std::str::from_utf8(value.unwrap_or_default()).expect("numbers are text");
        assert!(
            value == told || value == one_more,
            "client {} was told of {told:?} and finds {value:?}",
            self.id
        );
    }
}

/// Reads all keys from whoever leads, linearizably.
pub(crate) fn read_all(cluster: &mut Cluster, keys: &[String], steps_max: u64) -> Vec<Option<Bytes>> {
    let mut values = Vec::new();
    let mut node = 0;
    let mut steps = 0;
    while values.len() < keys.len() {
        let mailbox = Mailbox::default();
        let key = Bytes::from(keys[values.len()].clone());
        let intake = Arc::clone(&cluster.nodes[&node].parts.intake);
        intake.read(key, Box::new(mailbox.clone()));
        cluster.end_of_turn(node);
        let outcome = loop {
            if let Some(outcome) = mailbox.0.lock().unwrap().take() {
                break outcome;
            }
            cluster.step();
            steps += 1;
            assert!(steps < steps_max, "a cluster whose power is back serves again");
        };
        match outcome {
            Outcome::Found { value, .. } => values.push(Some(value)),
            Outcome::Missing => values.push(None),
            Outcome::Refused(_) => {
                node = (node + 1) % NODES;
                // Somebody must be given the time to be elected.
                (0..50).for_each(|_| cluster.step());
                steps += 50;
                assert!(steps < steps_max, "a cluster whose power is back serves again");
            }
            Outcome::Applied(reply) => panic!("a read is not applied: {reply:?}"),
        }
    }
    values
}
