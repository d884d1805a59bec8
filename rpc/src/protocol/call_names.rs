//! Who is called: names of a service and a method.
//!
//! A connection calls few methods very often. Names are kept once per connection and shared by the calls that bear them,
//! so that a call costs a comparison instead of a copy.

use std::sync::Arc;

/// Names that a connection keeps; a peer that uses more of them in turn costs a copy per call.
const KNOWN_MAX: usize = 16;

/// A name as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name {
    Text(Box<str>),
    /// No text: nobody is called so.
    Bytes(Box<[u8]>),
}

impl Name {
    fn new(bytes: &[u8]) -> Name {
        match std::str::from_utf8(bytes) {
            Ok(text) => Name::Text(text.into()),
            Err(_) => Name::Bytes(bytes.into()),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Name::Text(text) => text.as_bytes(),
            Name::Bytes(bytes) => bytes,
        }
    }

    /// For people: `?` if it is no text.
    pub(crate) fn text(&self) -> &str {
        match self {
            Name::Text(text) => text,
            Name::Bytes(_) => "?",
        }
    }
}

/// The names of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallNames {
    pub(crate) service: Name,
    pub(crate) method: Name,
}

impl CallNames {
    fn are(&self, service: &[u8], method: &[u8]) -> bool {
        self.method.bytes() == method && self.service.bytes() == service
    }
}

/// The names that a connection has used.
#[derive(Debug, Default)]
pub(super) struct KnownNames {
    known: Vec<Arc<CallNames>>,
    /// Where those of the latest call stand.
    latest: usize,
}

impl KnownNames {
    /// These names.
    pub(super) fn of(&mut self, service: &[u8], method: &[u8]) -> Arc<CallNames> {
        if let Some(latest) = self.known.get(self.latest)
            && latest.are(service, method)
        {
            return latest.clone();
        }
        self.latest = match self.known.iter().position(|known| known.are(service, method)) {
            Some(position) => position,
            None => self.learn(CallNames { service: Name::new(service), method: Name::new(method) }),
        };
        self.known[self.latest].clone()
    }

    /// Keeps new names, in the place of others if need be. Returns where.
    fn learn(&mut self, names: CallNames) -> usize {
        if self.known.len() < KNOWN_MAX {
            self.known.push(Arc::new(names));
            return self.known.len() - 1;
        }
        let next = (self.latest + 1) % KNOWN_MAX;
        self.known[next] = Arc::new(names);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_come_again_are_shared_and_however_many_come_few_are_kept() {
        let mut known = KnownNames::default();
        let (get, put) = (known.of(b"kv", b"Get"), known.of(b"kv", b"Put"));
        assert!(Arc::ptr_eq(&get, &known.of(b"kv", b"Get")) && Arc::ptr_eq(&put, &known.of(b"kv", b"Put")));
        assert!(!Arc::ptr_eq(&get, &known.of(b"vk", b"Get")), "another service's");
        for number in 0..100_u8 {
            let names = known.of(b"kv", &[0xff, number]);
            assert_eq!((names.service.text(), names.method.text()), ("kv", "?"));
            assert_eq!(names.method.bytes(), [0xff, number]);
        }
        assert_eq!(known.known.len(), KNOWN_MAX);
    }
}
