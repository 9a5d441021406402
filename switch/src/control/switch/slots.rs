//! Names to numbers: which port or bridge has which id.

/// A row of things with a small number each. A number that became free is given out again, lowest first.
#[derive(Debug)]
pub(super) struct Slots<T>(Vec<Option<T>>);

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Slots<T> {
    /// The number that [`Slots::insert`] would give out next; `None` when all 65,536 are taken.
    pub(super) fn next_id(&self) -> Option<u16> {
        let free = self.0.iter().position(Option::is_none).unwrap_or(self.0.len());
        u16::try_from(free).ok()
    }

    pub(super) fn insert(&mut self, id: u16, thing: T) {
        let index = usize::from(id);
        if index >= self.0.len() {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index] = Some(thing);
    }

    pub(super) fn remove(&mut self, id: u16) -> Option<T> {
        self.0.get_mut(usize::from(id))?.take()
    }

    pub(super) fn get(&self, id: u16) -> Option<&T> {
        self.0.get(usize::from(id))?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: u16) -> Option<&mut T> {
        self.0.get_mut(usize::from(id))?.as_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u16, &T)> {
        (0..).zip(&self.0).filter_map(|(id, thing)| Some((id, thing.as_ref()?)))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u16, &mut T)> {
        (0..).zip(&mut self.0).filter_map(|(id, thing)| Some((id, thing.as_mut()?)))
    }

    pub(super) fn find(&self, mut wanted: impl FnMut(&T) -> bool) -> Option<(u16, &T)> {
        self.iter().find(|(_, thing)| wanted(thing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_number_is_given_out_again() {
        let mut slots = Slots::default();
        for (id, name) in (0..3).zip(["a", "b", "c"]) {
            assert_eq!(slots.next_id(), Some(id));
            slots.insert(id, name);
        }
        assert_eq!(slots.remove(1), Some("b"));
        assert_eq!(slots.next_id(), Some(1));
        assert_eq!(slots.find(|name| *name == "c"), Some((2, &"c")));
        assert_eq!(slots.iter().count(), 2);
    }
}
