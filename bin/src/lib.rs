//! What the programs share: how they write, where nodes of this machine listen, and how they are asked to stop. It knows nothing of the store.

pub mod loopback_ports;
pub mod output;
pub mod stop_signals;
