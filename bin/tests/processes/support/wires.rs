//! Wires between nodes: each directed pair has a relay that the one takes for the other. A direction that is cut holds
//! every byte back, as a network does that loses each packet and all that are sent again; mended, it delivers them late.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use super::network::Network;

/// How much is carried at once, in bytes.
const PIECE_BYTES: usize = 64 << 10;

/// How long a relay waits for bytes before it looks whether it is cut.
const READ_PATIENCE: Duration = Duration::from_millis(5);

/// All wires of one cluster. They lie until the test program ends.
pub struct Wires {
    ports: Vec<Vec<u16>>,
    cuts: Arc<Cuts>,
}

#[derive(Default)]
struct Cuts {
    /// The directions, from whom to whom, in which nothing passes.
    cut: Mutex<BTreeSet<(usize, usize)>>,
    mended: Condvar,
}

impl Cuts {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<(usize, usize)>> {
        self.cut.lock().unwrap()
    }

    fn wait_until_open(&self, way: (usize, usize)) {
        let guard = self.mended.wait_while(self.lock(), |cut| cut.contains(&way));
        drop(guard.unwrap());
    }
}

impl Wires {
    /// Between nodes that listen on these ports of this machine, each with each.
    pub fn lay(real: &[u16]) -> Wires {
        let cuts = Arc::new(Cuts::default());
        let relay = |from: usize, to: usize| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let (cuts, target) = (Arc::clone(&cuts), real[to]);
            thread::spawn(move || accept(&listener, target, (from, to), &cuts));
            port
        };
        let ports = (0..real.len()).map(|from| (0..real.len()).map(|to| relay(from, to)).collect()).collect();
        Wires { ports, cuts }
    }

    /// Where `from` finds `to`.
    pub fn port(&self, from: usize, to: usize) -> u16 {
        self.ports[from][to]
    }
}

impl Network for Wires {
    fn nodes(&self) -> usize {
        self.ports.len()
    }

    fn cut_way(&self, from: usize, to: usize) {
        self.cuts.lock().insert((from, to));
    }

    fn mend(&self) {
        self.cuts.lock().clear();
        self.cuts.mended.notify_all();
    }
}

fn accept(listener: &TcpListener, target: u16, (from, to): (usize, usize), cuts: &Arc<Cuts>) {
    while let Ok((near, _)) = listener.accept() {
        let cuts = Arc::clone(cuts);
        thread::spawn(move || {
            // A connection is not made through a wire that is cut, in whichever direction.
            cuts.wait_until_open((from, to));
            cuts.wait_until_open((to, from));
            // Nobody listens there: the near end learns it by the end of its connection.
            let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else { return };
            let (near_back, far_back) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            let back = Arc::clone(&cuts);
            thread::spawn(move || carry(far_back, near_back, (to, from), &back));
            carry(near, far, (from, to), &cuts);
        });
    }
}

/// Carries bytes one way until an end closes.
fn carry(mut source: TcpStream, mut sink: TcpStream, way: (usize, usize), cuts: &Cuts) {
    let mut piece = vec![0; PIECE_BYTES];
    source.set_read_timeout(Some(READ_PATIENCE)).unwrap();
    sink.set_nodelay(true).unwrap();
    loop {
        cuts.wait_until_open(way);
        let length = match source.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(_) => break,
        };
        cuts.wait_until_open(way);
        if sink.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    // Either may be closed already.
    let _ = source.shutdown(Shutdown::Both);
    let _ = sink.shutdown(Shutdown::Both);
}
