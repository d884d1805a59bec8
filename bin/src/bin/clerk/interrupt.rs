//! Ctrl-C and SIGTERM: the first asks to stop and print what there is, the second stops at once.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use signal_hook::{consts::TERM_SIGNALS, flag};

use crate::failure::Failure;

/// What a shell expects of a program ended by Ctrl-C.
const EXIT_CODE: i32 = 130;

/// Whether the user asked to stop.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    asked: Arc<AtomicBool>,
}

impl Interrupt {
    /// Begins to listen.
    pub(crate) fn listen() -> Result<Interrupt, Failure> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in TERM_SIGNALS {
            // The order matters: the first finds the flag unset, so only a second signal ends the process.
            let armed = flag::register_conditional_shutdown(*signal, EXIT_CODE, Arc::clone(&asked))
                .and_then(|_| flag::register(*signal, Arc::clone(&asked)));
            armed.map_err(|error| Failure::Unavailable(format!("signals cannot be watched: {error}")))?;
        }
        Ok(Interrupt { asked })
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}
