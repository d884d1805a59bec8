//! What a reply says about its call: the `status` of `RpcReplyHeader` (design §3.1).

use std::fmt;

/// How a call ended, in the words of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// The reply's body is the answer.
    Ok,
    /// No service of that name is registered at the server.
    NoSuchService,
    /// The service has no method of that name.
    NoSuchMethod,
    /// The arguments are no message of the expected type, or the frame asks for something unknown.
    BadRequest,
    /// The server gave up because the caller's deadline had passed. A write may have happened.
    DeadlineExceeded,
    /// The call was cancelled. A write may have happened.
    Cancelled,
    /// A named limit of the server is reached; the call was not executed.
    Overloaded,
    /// The connection has not proven who its peer is.
    Unauthenticated,
    /// The peer is known and may not do this.
    PermissionDenied,
    /// The server failed; whether the call had an effect is unknown.
    Internal,
    /// The server is stopping; the call was not executed.
    ShuttingDown,
    /// The arguments are larger than the server takes; the call was not executed. The text has both numbers.
    TooLarge,
}

/// In the order of their numbers.
const ALL: [Status; 12] = [
    Status::Ok,
    Status::NoSuchService,
    Status::NoSuchMethod,
    Status::BadRequest,
    Status::DeadlineExceeded,
    Status::Cancelled,
    Status::Overloaded,
    Status::Unauthenticated,
    Status::PermissionDenied,
    Status::Internal,
    Status::ShuttingDown,
    Status::TooLarge,
];

impl Status {
    /// How many there are.
    pub const COUNT: usize = ALL.len();

    /// The number on the wire.
    pub fn code(self) -> u32 {
        self as u32
    }

    /// The status of a number; an unknown one reads as [`Status::Internal`].
    pub fn from_code(code: u64) -> Status {
        usize::try_from(code).ok().and_then(|index| ALL.get(index)).copied().unwrap_or(Status::Internal)
    }

    /// Whether a call that ended so may have had its effect all the same.
    pub fn may_have_run(self) -> bool {
        matches!(self, Status::Ok | Status::DeadlineExceeded | Status::Cancelled | Status::Internal)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Status::Ok => "OK",
            Status::NoSuchService => "NO_SUCH_SERVICE",
            Status::NoSuchMethod => "NO_SUCH_METHOD",
            Status::BadRequest => "BAD_REQUEST",
            Status::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Status::Cancelled => "CANCELLED",
            Status::Overloaded => "OVERLOADED",
            Status::Unauthenticated => "UNAUTHENTICATED",
            Status::PermissionDenied => "PERMISSION_DENIED",
            Status::Internal => "INTERNAL",
            Status::ShuttingDown => "SHUTTING_DOWN",
            Status::TooLarge => "TOO_LARGE",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_wire_and_unknown_ones_read_as_internal() {
        for (index, status) in ALL.into_iter().enumerate() {
            assert_eq!(status.code() as usize, index);
            assert_eq!(Status::from_code(index as u64), status);
        }
        assert_eq!(Status::from_code(12), Status::Internal);
        assert_eq!(Status::from_code(u64::MAX), Status::Internal);
    }
}
