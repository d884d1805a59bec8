//! The operations under way: slots that are used again, ids that are not.
//!
//! A closed loop starts and ends an operation some ten thousand times a second, so the slots stay allocated. An id
//! carries its slot's generation: a late reply or timer of a former tenant must never reach the present one.

/// An operation's id at its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OperationId {
    slot: u32,
    generation: u32,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    tenant: Option<T>,
}

/// The table. Its bound is the caller's: it asks [`Table::len`] before it inserts.
#[derive(Debug)]
pub(super) struct Table<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Table<T> {
    pub(super) fn new() -> Table<T> {
        Table { slots: Vec::new(), free: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, tenant: T) -> OperationId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, tenant: None });
            u32::try_from(self.slots.len() - 1).expect("the table is bounded far below 2^32 operations")
        });
        let place = &mut self.slots[slot as usize];
        assert!(place.tenant.is_none(), "a free slot has no tenant");
        place.tenant = Some(tenant);
        OperationId { slot, generation: place.generation }
    }

    pub(super) fn find(&mut self, id: OperationId) -> Option<&mut T> {
        let place = self.slots.get_mut(id.slot as usize)?;
        if place.generation == id.generation { place.tenant.as_mut() } else { None }
    }

    pub(super) fn remove(&mut self, id: OperationId) -> Option<T> {
        let place = self.slots.get_mut(id.slot as usize)?;
        if place.generation != id.generation {
            return None;
        }
        let tenant = place.tenant.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(id.slot);
        Some(tenant)
    }

    /// All ids under way, in slot order.
    pub(super) fn ids(&self) -> Vec<OperationId> {
        let places = self.slots.iter().zip(0u32..);
        let taken = places.filter(|(place, _)| place.tenant.is_some());
        taken.map(|(place, slot)| OperationId { slot, generation: place.generation }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_used_again_but_its_old_id_finds_nothing() {
        let mut table = Table::new();
        let first = table.insert("first");
        assert_eq!(table.remove(first), Some("first"));
        let second = table.insert("second");
        assert_eq!((first.slot, table.len()), (second.slot, 1));
        assert_eq!(table.find(first), None);
        assert_eq!(table.remove(first), None);
        assert_eq!(table.find(second), Some(&mut "second"));
        assert_eq!(table.ids(), [second]);
    }
}
