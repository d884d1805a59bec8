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
        if log::log_enabled!(level) {
            log::log!(level, "{}", line(call, ended));
        }
    }
}

/// What is said of a call. A method's name is the peer's to choose: whatever it is, it makes no second line.
fn line(call: &CallInfo<'_>, ended: &Ended) -> String {
    let way = if call.side == CallSide::Client { "to" } else { "from" };
    format!(
        "request {:016x} {way} {}: {}.{}, {} B: {} in {} us{}",
        call.request_id,
        call.peer,
        call.service,
        call.method.escape_debug(),
        call.args_bytes,
        ended.status,
        ended.took.as_micros(),
        if ended.was_awaited { "" } else { ", too late" },
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_call_is_one_line_whatever_its_method_is_called() {
        let call = CallInfo {
            side: CallSide::Server,
            service: "kv",
            method: "Get\nrequest 0",
            peer: &"10.0.0.1:80",
            request_id: 0x2a,
            args_bytes: 7,
        };
        let (status, took) = (Status::NoSuchMethod, Duration::from_micros(9));
        let ended = Ended { status, took, was_awaited: false };
        assert_eq!(
            line(&call, &ended),
            "request 000000000000002a from 10.0.0.1:80: kv.Get\\nrequest 0, 7 B: NO_SUCH_METHOD in 9 us, too late"
        );
    }
}
