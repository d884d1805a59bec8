//! A network of the system's own: each node lives in a network namespace with a cable to a bridge, where the test is. A way
//! that is cut drops each packet at its receiver, and the two systems do what they do then: send again, ever more rarely. A
//! cable that is cut carries nothing to anybody, the test included.
//!
//! No rights are needed for any of this, only a user namespace, in which a test runs itself once more.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::network::Network;
use super::process::run;
use super::wait::{LONG, until};

/// Set in a test that runs inside.
const INSIDE: &str = "LAB_INSIDE";

/// How long a test may take inside.
const TEST_WITHIN: Duration = Duration::from_secs(300);

/// Where every node listens.
pub const PORT: u16 = 7000;

/// The rule that drops comes before all others.
const RULE_OF_CUTS: &str = "10";

/// See the module's text.
pub struct Lab {
    /// Each holds a node's namespace, and does nothing.
    rooms: Vec<Child>,
    cut: RefCell<BTreeSet<(usize, usize)>>,
}

/// Whether the test that asks runs inside.
pub fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// What makes a place for a lab and runs a program there.
fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--mount-proc"]);
    command.arg("--kill-child").stdin(Stdio::null());
    command
}

/// Runs the test of this name once more, inside. Where the system has no `ip`, or gives no namespaces, there is no way to do
/// that, which is said.
pub fn run_inside(test: &str) {
    let tried = unshare().args(["ip", "link", "add", "bridge", "type", "bridge"]).output();
    if !tried.as_ref().is_ok_and(|output| output.status.success()) {
        return eprintln!("{test}: not run, for want of `ip`, `unshare` or the right to use them: {tried:?}");
    }
    let mut command = unshare();
    command.arg(env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(INSIDE, "yes");
    let output = run(command, TEST_WITHIN);
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success() && said[0].contains("1 passed"), "{}\n{}", said[0], said[1]);
}

fn ip(arguments: &str) {
    obey(Command::new("ip").args(arguments.split(' ')));
}

fn obey(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Lab {
    /// A room for each of so many nodes.
    pub fn build(nodes: usize) -> Lab {
        assert!(is_inside(), "the machine's own network is not touched");
        ip("link set lo up");
        ip("link add bridge type bridge");
        ip("link set bridge up");
        ip("addr add 10.77.0.254/24 dev bridge");
        let mut lab = Lab { rooms: Vec::new(), cut: RefCell::default() };
        (0..nodes).for_each(|node| lab.add_room(node));
        lab
    }

    fn add_room(&mut self, node: usize) {
        // Ends when its standard input does.
        let mut holder = Command::new("unshare");
        let holder = holder.args(["--net", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
        let pid = holder.id();
        self.rooms.push(holder);
        let namespace = |of: &str| fs::read_link(format!("/proc/{of}/ns/net")).unwrap();
        until("a room is there", LONG, || namespace(&pid.to_string()) != namespace("self"));
        ip(&format!("link add cable{node} type veth peer name cable netns {pid}"));
        ip(&format!("link set cable{node} master bridge up"));
        self.inside(node, "link set lo up");
        self.inside(node, &format!("addr add {}/24 dev cable", Lab::host(node)));
        self.inside(node, "link set cable up");
        // The rule for packets to this node comes first as it is, and cannot be moved: a second one, then the first goes.
        self.inside(node, "rule add pref 100 lookup local");
        self.inside(node, "rule del pref 0");
    }

    /// Where a node is.
    pub fn host(node: usize) -> String {
        format!("10.77.0.{}", node + 1)
    }

    /// Nothing passes between a node and anybody else, either way.
    pub fn cut_cable(&self, node: usize) {
        ip(&format!("link set cable{node} down"));
    }

    pub fn mend_cable(&self, node: usize) {
        ip(&format!("link set cable{node} up"));
    }

    fn enter(&self, node: usize) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.rooms[node].id()));
        command
    }

    fn inside(&self, node: usize, arguments: &str) {
        obey(self.enter(node).arg("ip").args(arguments.split(' ')));
    }

    fn rule(&self, verb: &str, (from, to): (usize, usize)) {
        let from = Lab::host(from);
        self.inside(to, &format!("rule {verb} pref {RULE_OF_CUTS} from {from} blackhole"));
    }
}

impl Network for Lab {
    fn nodes(&self) -> usize {
        self.rooms.len()
    }

    fn cut_way(&self, from: usize, to: usize) {
        if self.cut.borrow_mut().insert((from, to)) {
            self.rule("add", (from, to));
        }
    }

    fn mend(&self) {
        self.cut.take().into_iter().for_each(|way| self.rule("del", way));
    }

    fn start_here(&self, node: usize, command: Command) -> Command {
        let mut entered = self.enter(node);
        entered.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => entered.env(name, value),
                None => entered.env_remove(name),
            };
        }
        entered
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // A cable goes with its room, too, but only some time after that; and the next lab wants its name.
            (0..self.rooms.len()).for_each(|node| ip(&format!("link del cable{node}")));
            ip("link del bridge");
        }
        for room in &mut self.rooms {
            // Both fail only for a process that has ended and been waited for.
            let _ = room.kill();
            let _ = room.wait();
        }
    }
}
