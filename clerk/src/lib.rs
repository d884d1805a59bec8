//! The client of the store.
mod config;
mod error;
pub mod leader_cache;
pub mod machine;
mod operation;
pub mod retry;
pub mod session;
pub use config::*;
pub use error::ClerkError;
pub use operation::*;
