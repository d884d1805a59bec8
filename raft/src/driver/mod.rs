//! Raft on threads: the gate around the pure core, and the turns that the threads of design §2 run.
//!
//! Every thread is a shell: it waits on a condvar and calls a `turn` that never waits for anything but, in the
//! log writer's case, the disk. What the turns do is in their own files; who calls them and in which order they
//! stop is in `supervisor`.

mod applier;
mod apply_msg;
mod clock;
mod log_writer;
mod node;
mod supervisor;
mod ticker;
mod work_list;

pub use applier::Applier;
pub use apply_msg::ApplyMsg;
pub use clock::{Clock, SystemClock};
pub use log_writer::{LogItem, LogWriter};
pub use node::{Application, NodeStopped, RaftNode, Transport};
pub use supervisor::{Supervisor, TickTimes, Watched};
pub use ticker::{Tick, Ticker};
pub use work_list::{Taken, WorkList};
