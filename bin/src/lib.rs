//! What the programs share: how they write, and how they are asked to stop. It knows nothing of the store.

pub mod output;
pub mod stop_signals;
