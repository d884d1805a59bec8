//! How the ends of a stream write: a client's frames are requests, a server's are replies.

use std::sync::Arc;

use crate::error::RpcError;
use crate::protocol::encoder::{
    Body, put_credit, put_reply_credit, put_stream_end, put_stream_message_head, put_stream_reply_head,
};
use crate::reactor::appending::payload;
use crate::reactor::outbox::{AppendError, Outbox};

/// Where a stream's frames go.
#[derive(Clone)]
pub(crate) struct Carrier {
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) call_id: u64,
    /// Largest message, in bytes.
    pub(crate) message_bytes_max: usize,
}

impl Carrier {
    fn is_server(&self) -> bool {
        self.outbox.server.is_some()
    }

    /// Refuses a message that is too large.
    pub(crate) fn check(&self, body_bytes: usize) -> Result<(), RpcError> {
        let (bytes, max) = (body_bytes as u64, self.message_bytes_max as u64);
        if bytes <= max {
            return Ok(());
        }
        Err(RpcError::TooLarge { what: "a stream's message", bytes, max, may_have_run: true })
    }

    /// Sends a message, for which credit has been spent.
    pub(crate) fn send(&self, body: &dyn Body, body_bytes: usize) -> Result<(), RpcError> {
        let appended = self.outbox.append_message(None, payload(body, body_bytes), |buffer| {
            if self.is_server() {
                put_stream_reply_head(buffer, self.call_id, body_bytes);
            } else {
                put_stream_message_head(buffer, self.call_id, body_bytes);
            }
        });
        let result = match appended {
            Ok(_) => Ok(()),
            Err(AppendError::Closed) => Err(RpcError::StreamEnded),
            Err(AppendError::Full) => {
                Err(RpcError::Busy { limit: "unsent_bytes_max", max: self.outbox.unsent_bytes_max() })
            }
        };
        self.outbox.finish();
        result
    }

    /// Gives the peer credit.
    pub(crate) fn grant(&self, bytes: u64) {
        // A connection that takes nothing any more ends, and its streams with it.
        let _ = self.outbox.append_word(|buffer| {
            if self.is_server() {
                put_reply_credit(buffer, self.call_id, bytes);
            } else {
                put_credit(buffer, self.call_id, bytes);
            }
        });
        self.outbox.finish();
    }

    /// A client says that it has sent its last message.
    pub(crate) fn end(&self) {
        let _ = self.outbox.append_word(|buffer| put_stream_end(buffer, self.call_id));
        self.outbox.finish();
    }
}
