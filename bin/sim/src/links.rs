//! The network: which site reaches which, and how much was sent. Nodes are the first sites, clients the others.

/// Directed links between all sites.
#[derive(Debug)]
pub(crate) struct Links {
    sites: usize,
    cut: Vec<bool>,
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
