//! A disk under each node that stalls or fails when the test says so: a library that the node is started with and that
//! stands between it and the system. It is built by the C compiler that building the workspace needs anyway.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::run;
use super::wait::LONG;

/// What a node's disk does with its log.
#[derive(Clone, Copy)]
pub enum Order {
    Work,
    /// Nothing comes back until another order is given.
    Stall,
    /// Each write and sync fails.
    Error,
}

pub struct BadDisks {
    library: PathBuf,
    folder: PathBuf,
}

impl BadDisks {
    /// Builds the library into `folder`, where the orders lie, too.
    pub fn build(folder: &Path) -> BadDisks {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/processes/support/bad_disk.c");
        let library = folder.join("bad_disk.so");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl");
        let output = run(compiler, LONG);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        BadDisks { library, folder: folder.to_owned() }
    }

    /// Has the node, once started, ask the disk that obeys [`BadDisks::order`].
    pub fn put_under(&self, command: &mut Command, node: usize) {
        command.env("LD_PRELOAD", &self.library).env("BAD_DISK_ORDERS", self.orders(node));
    }

    pub fn order(&self, node: usize, order: Order) {
        let word = match order {
            Order::Work => "work",
            Order::Stall => "stall",
            Order::Error => "error",
        };
        // Renamed, so that no half-written order is read.
        let draft = self.folder.join("order.draft");
        fs::write(&draft, word).unwrap();
        fs::rename(draft, self.orders(node)).unwrap();
    }

    fn orders(&self, node: usize) -> PathBuf {
        self.folder.join(format!("disk{node}.order"))
    }
}
