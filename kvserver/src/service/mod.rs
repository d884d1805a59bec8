//! The services of the store, one file each: they check what comes, hand it to the intake, and put the outcome
//! into their own wire's words.

mod admin;
mod forward;
mod kv;
mod kv_server_rpc;
mod kv_wire;
mod members;

pub use admin::AdminService;
pub use forward::ForwardService;
pub(crate) use forward::from_wire as forwarded_outcome;
pub use kv::KvService;
pub use kv_server_rpc::KvServerService;
pub use kv_wire::{KvReply, KvWrite, read_of};
pub use members::{MemberChange, MemberDesk};

/// The largest key and value a service lets in. What is applied is bounded again, by the state machine itself.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// The largest key, in bytes.
    pub key_bytes_max: usize,
    /// The largest value, in bytes.
    pub value_bytes_max: usize,
}

impl RequestLimits {
    /// One sentence about what is too large, if anything is.
    fn check(&self, key: &[u8], value: &[u8]) -> Result<(), String> {
        if key.len() > self.key_bytes_max {
            return Err(format!("a key of {} bytes is over the limit of {}", key.len(), self.key_bytes_max));
        }
        if value.len() > self.value_bytes_max {
            return Err(format!(
                "a value of {} bytes is over the limit of {}",
                value.len(),
                self.value_bytes_max
            ));
        }
        Ok(())
    }
}
