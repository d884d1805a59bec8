//! What clients did and saw, with the times between which it took effect.

use std::sync::Mutex;
use std::time::Instant;

use bytes::Bytes;
use clerk::{Clerk, ClerkError, Consistency};

/// What one client asked for and, for a get, saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Get { saw: Option<Bytes> },
    Put { value: Bytes },
    Append { value: Bytes },
}

/// One operation on one key. Without `end` it is not known whether it took effect; if it did, then after `begin`.
#[derive(Debug, Clone)]
pub struct Operation {
    pub key: Bytes,
    pub action: Action,
    pub begin: u64,
    pub end: Option<u64>,
    /// The version that a write made, if its answer came.
    pub version: Option<u64>,
}

/// The record of all clients; times are nanoseconds since it began.
pub struct History {
    started: Instant,
    operations: Mutex<Vec<Operation>>,
}

impl History {
    pub fn start() -> History {
        History { started: Instant::now(), operations: Mutex::new(Vec::new()) }
    }

    pub fn get(&self, clerk: &Clerk, key: &str) -> Option<Bytes> {
        self.try_get(clerk, key, Consistency::Linearizable).ok()?
    }

    pub fn try_get(
        &self,
        clerk: &Clerk,
        key: &str,
        consistency: Consistency,
    ) -> Result<Option<Bytes>, ClerkError> {
        let begin = self.now();
        // A get that failed saw nothing, so there is nothing to record.
        let saw = clerk.get_with(key.to_owned(), consistency)?;
        self.record(key, Action::Get { saw: saw.clone() }, begin, Some(self.now()), None);
        Ok(saw)
    }

    pub fn put(&self, clerk: &Clerk, key: &str, value: Bytes) -> Result<u64, ClerkError> {
        let begin = self.now();
        let result = clerk.put(key.to_owned(), value.clone());
        self.record_write(key, Action::Put { value }, begin, &result);
        result
    }

    pub fn append(&self, clerk: &Clerk, key: &str, value: Bytes) -> Result<u64, ClerkError> {
        let begin = self.now();
        let result = clerk.append(key.to_owned(), value.clone());
        self.record_write(key, Action::Append { value }, begin, &result);
        result
    }

    pub fn operations(self) -> Vec<Operation> {
        self.operations.into_inner().unwrap()
    }

    /// A write that failed for certain never happened; one that may have run stays open.
    fn record_write(&self, key: &str, action: Action, begin: u64, result: &Result<u64, ClerkError>) {
        match result {
            Ok(version) => self.record(key, action, begin, Some(self.now()), Some(*version)),
            Err(error) if error.may_have_run() => self.record(key, action, begin, None, None),
            Err(_) => {}
        }
    }

    fn record(&self, key: &str, action: Action, begin: u64, end: Option<u64>, version: Option<u64>) {
        let operation =
            Operation { key: Bytes::copy_from_slice(key.as_bytes()), action, begin, end, version };
        self.operations.lock().unwrap().push(operation);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap()
    }
}
