//! One line of log per call, with the request's number, so that the lines of one request can be found on every machine it
//! came through.

use log::Level;

use super::{CallInfo, CallSide, Ended, Middleware};
use crate::protocol::status::Status;

/// Logs each call when it has ended: answered ones at a level of choice, the others as warnings.
#[derive(Debug, Clone, Copy)]
pub struct CallLog {
    level: Level,
}

impl CallLog {
    /// Logs calls that were answered at `level`.
    pub fn new(level: Level) -> CallLog {
        CallLog { level }
    }
}

impl Middleware for CallLog {
    fn after(&self, call: &CallInfo<'_>, ended: &Ended) {
        let level = if ended.status == Status::Ok { self.level } else { Level::Warn };
        let way = if call.side == CallSide::Client { "to" } else { "from" };
        log::log!(
            level,
            "request {:016x} {way} {}: {}.{}, {} B: {} in {} us{}",
            call.request_id,
            call.peer,
            call.service,
            call.method,
            call.args_bytes,
            ended.status,
            ended.took.as_micros(),
            if ended.was_awaited { "" } else { ", too late" },
        );
    }
}
