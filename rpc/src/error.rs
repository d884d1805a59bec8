//! The one error of the framework: where it failed, whether the request may have run, and the cause.

use std::time::Duration;

use crate::protocol::status::Status;

/// What was going on with a connection when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Reading failed, or found the end that the peer has made, or what cannot be understood.
    Read,
    /// Writing failed.
    Write,
    /// The peer was asked for a sign of life and gave none in time.
    KeepAlive,
    /// Nothing failed: this side has ended it.
    Here,
}

/// How a connection has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End<'a> {
    pub(crate) step: Step,
    pub(crate) cause: &'a str,
}

impl End<'_> {
    /// The error of a call, or a stream, that was under way with the peer at `address`.
    pub(crate) fn error(self, address: &str, may_have_run: bool) -> RpcError {
        let (address, cause) = (address.to_owned(), self.cause.to_owned());
        RpcError::Closed { address, step: self.step, cause, may_have_run }
    }
}

/// Why a call, or the setting up of a server, failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RpcError {
    /// The name in an address has no addresses, or the address is none.
    #[error("cannot resolve {address}: {cause}")]
    Resolve {
        /// As it was given.
        address: String,
        /// In the words of the system.
        cause: String,
    },
    /// No connection could be made, now or at the latest attempt of a channel that is waiting for its next one.
    #[error("cannot connect to {address}: {cause}")]
    Connect {
        /// As it was given.
        address: String,
        /// In the words of the system.
        cause: String,
    },
    /// The connection ended before the reply.
    #[error("the connection to {address} ended: {cause}")]
    Closed {
        /// The server's, as it was given.
        address: String,
        /// Where it failed.
        step: Step,
        /// In the words of the system; or who ended it, and why.
        cause: String,
        /// Whether the whole request had left.
        may_have_run: bool,
    },
    /// The deadline passed before the reply.
    #[error("no reply within {} ms", timeout.as_millis())]
    DeadlineExceeded {
        /// The time allowed.
        timeout: Duration,
        /// Whether the whole request had left.
        may_have_run: bool,
    },
    /// The caller cancelled the call.
    #[error("the call was cancelled")]
    Cancelled {
        /// Whether the request had been sent.
        may_have_run: bool,
    },
    /// The server answered, but not with a reply.
    #[error("the server answered {status}: {text}")]
    Status {
        /// What it answered.
        status: Status,
        /// For people.
        text: String,
    },
    /// A middleware on this side refused the call; nothing was sent.
    #[error("refused on this side: {status}: {text}")]
    Refused {
        /// What it says.
        status: Status,
        /// For people.
        text: String,
    },
    /// The reply is no message of the expected type. An origin server says so what it cannot say otherwise.
    #[error("an unreadable reply: {cause}")]
    BadReply {
        /// What is wrong with it.
        cause: String,
    },
    /// A message is beyond its limit.
    #[error("{what} of {bytes} bytes, the maximum is {max}")]
    TooLarge {
        /// Which message, or what of it: `arguments`, `a reply`, `a stream's message`, `an auth token` or `a method's names`.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The limit.
        max: u64,
        /// Arguments beyond the limit are never sent; a reply comes from a call that has run.
        may_have_run: bool,
    },
    /// A named limit on this side is reached; nothing was sent.
    #[error("too much at once: {limit} is {max}")]
    Busy {
        /// The limit's name in the configuration.
        limit: &'static str,
        /// Its value.
        max: u64,
    },
    /// Nothing more can be sent on a stream: this end has ended it, or the call has ended. How is the reader's to say.
    #[error("the stream has ended")]
    StreamEnded,
    /// The reactor or the channel has been stopped.
    #[error("stopped")]
    Stopped {
        /// Whether the request had been sent.
        may_have_run: bool,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// As it was given.
        address: String,
        /// In the words of the system.
        cause: String,
    },
    /// A service of this name is registered already.
    #[error("a service named {name} is registered already")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The reactor's thread or its poll cannot be made.
    #[error("cannot start the reactor: {cause}")]
    Start {
        /// In the words of the system.
        cause: String,
    },
}

impl RpcError {
    /// Whether the server may have executed the call. `false` is a promise: sending it again cannot do it twice.
    pub fn may_have_run(&self) -> bool {
        match self {
            RpcError::Closed { may_have_run, .. }
            | RpcError::DeadlineExceeded { may_have_run, .. }
            | RpcError::Cancelled { may_have_run }
            | RpcError::TooLarge { may_have_run, .. }
            | RpcError::Stopped { may_have_run } => *may_have_run,
            RpcError::Status { status, .. } => status.may_have_run(),
            RpcError::BadReply { .. } | RpcError::StreamEnded => true,
            RpcError::Resolve { .. }
            | RpcError::Connect { .. }
            | RpcError::Busy { .. }
            | RpcError::Refused { .. }
            | RpcError::Listen { .. }
            | RpcError::NameTaken { .. }
            | RpcError::Start { .. } => false,
        }
    }
}
