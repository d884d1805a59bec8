//! The network: which site reaches which, what is stuck, and how much was sent. Nodes are the first sites, clients the
//! others.

/// The two connections by which something goes from one site to another: it asks on its own, and answers on the other's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// What it asks.
    Asking,
    /// What it answers.
    Answering,
}

/// Both of them.
pub(crate) const WAYS: [Way; 2] = [Way::Asking, Way::Answering];

/// Directed links between all sites.
#[derive(Debug)]
pub(crate) struct Links {
    sites: usize,
    cut: Vec<bool>,
    /// Until when nothing gets through, and nothing is lost, on either way.
    stuck_until: Vec<[u64; 2]>,
    sent: Vec<u64>,
    arrived: Vec<u64>,
    /// Messages up to this number do not arrive any more.
    forgotten: Vec<u64>,
}

impl Links {
    pub(crate) fn new(sites: usize) -> Links {
        let links = sites * sites;
        Links {
            sites,
            cut: vec![false; links],
            stuck_until: vec![[0; 2]; links],
            sent: vec![0; links],
            arrived: vec![0; links],
            forgotten: vec![0; links],
        }
    }

    fn place(&self, from: usize, to: usize) -> usize {
        from * self.sites + to
    }

    /// Whether what is sent arrives.
    pub(crate) fn is_open(&self, from: usize, to: usize) -> bool {
        !self.cut[self.place(from, to)]
    }

    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        let place = self.place(from, to);
        self.cut[place] = true;
    }

    pub(crate) fn cut_both_ways(&mut self, one: usize, other: usize) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// Whether everybody reaches everybody.
    pub(crate) fn are_whole(&self) -> bool {
        !self.cut.contains(&true)
    }

    /// Everybody reaches everybody.
    pub(crate) fn mend(&mut self) {
        self.cut.fill(false);
    }

    /// Nothing gets through on this way until then; what comes meanwhile waits and keeps its order.
    pub(crate) fn stick(&mut self, from: usize, to: usize, way: Way, until: u64) {
        let place = self.place(from, to);
        let stuck_until = &mut self.stuck_until[place][way as usize];
        *stuck_until = until.max(*stuck_until);
    }

    /// Until when nothing gets through on this way.
    pub(crate) fn stuck_until(&self, from: usize, to: usize, way: Way) -> u64 {
        self.stuck_until[self.place(from, to)][way as usize]
    }

    /// A site has other connections than before.
    pub(crate) fn renew(&mut self, site: usize) {
        for other in 0..self.sites {
            for place in [self.place(site, other), self.place(other, site)] {
                self.stuck_until[place] = [0; 2];
            }
        }
    }

    /// Nothing is stuck any more.
    pub(crate) fn loosen(&mut self) {
        self.stuck_until.fill([0; 2]);
    }

    /// One more message is sent on a link; its number.
    pub(crate) fn send(&mut self, from: usize, to: usize) -> u64 {
        let place = self.place(from, to);
        self.sent[place] += 1;
        self.sent[place]
    }

    /// What is on its way now gets lost.
    pub(crate) fn forget(&mut self) {
        self.forgotten.clone_from(&self.sent);
    }

    /// Whether this message got lost on its way.
    pub(crate) fn is_forgotten(&self, from: usize, to: usize, number: u64) -> bool {
        number <= self.forgotten[self.place(from, to)]
    }

    /// A message arrives; whether a later one arrived before it.
    pub(crate) fn arrive(&mut self, from: usize, to: usize, number: u64) -> bool {
        let place = self.place(from, to);
        let is_late = number < self.arrived[place];
        self.arrived[place] = self.arrived[place].max(number);
        is_late
    }
}
