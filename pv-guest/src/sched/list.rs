//! Lists of threads, linked through the thread table: adding and removing needs no memory, so
//! interrupt handlers may do it. A thread is in one list at most.

/// How many threads there can be, the idle thread among them.
pub const MAX_THREADS: usize = 256;

/// A place in the thread table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u8);

const _: () = assert!(MAX_THREADS == u8::MAX as usize + 1);

impl Slot {
    /// The idle thread's.
    pub const IDLE: Self = Self(0);

    /// The place of this index.
    pub fn new(index: usize) -> Option<Self> {
        u8::try_from(index).ok().map(Self)
    }

    /// The index, below [`MAX_THREADS`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Every place.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..=u8::MAX).map(Self)
    }
}

/// For each thread the one that follows it in its list.
#[derive(Debug)]
pub struct Links([Option<Slot>; MAX_THREADS]);

impl Links {
    /// Nobody follows anybody.
    pub const fn new() -> Self {
        Self([None; MAX_THREADS])
    }
}

impl Default for Links {
    fn default() -> Self {
        Self::new()
    }
}

/// A list of threads.
#[derive(Debug, Default)]
pub struct List {
    head: Option<Slot>,
    tail: Option<Slot>,
}

impl List {
    /// An empty list.
    pub const fn new() -> Self {
        Self {
            head: None,
            tail: None,
        }
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// The first thread.
    pub fn first(&self) -> Option<Slot> {
        self.head
    }

    /// Add a thread at the end.
    pub fn push_back(&mut self, links: &mut Links, slot: Slot) {
        links.0[slot.index()] = None;
        match self.tail {
            Some(tail) => links.0[tail.index()] = Some(slot),
            None => self.head = Some(slot),
        }
        self.tail = Some(slot);
    }

    /// Take the first thread out.
    pub fn pop_front(&mut self, links: &mut Links) -> Option<Slot> {
        let first = self.head?;
        self.head = links.0[first.index()].take();
        if self.head.is_none() {
            self.tail = None;
        }
        Some(first)
    }

    /// Take a thread out, wherever it is; `false` when it is not in the list.
    pub fn remove(&mut self, links: &mut Links, slot: Slot) -> bool {
        let mut previous = None;
        let mut next = self.head;
        while let Some(at) = next.filter(|at| *at != slot) {
            previous = Some(at);
            next = links.0[at.index()];
        }
        if next.is_none() {
            return false;
        }
        let follower = links.0[slot.index()].take();
        match previous {
            Some(previous) => links.0[previous.index()] = follower,
            None => self.head = follower,
        }
        if follower.is_none() {
            self.tail = previous;
        }
        true
    }

    /// Add a thread before the first one that `is_later`, or at the end.
    pub fn insert(&mut self, links: &mut Links, slot: Slot, is_later: impl Fn(Slot) -> bool) {
        let mut previous = None;
        let mut next = self.head;
        while let Some(at) = next.filter(|at| !is_later(*at)) {
            previous = Some(at);
            next = links.0[at.index()];
        }
        links.0[slot.index()] = next;
        match previous {
            Some(previous) => links.0[previous.index()] = Some(slot),
            None => self.head = Some(slot),
        }
        if next.is_none() {
            self.tail = Some(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn slot(index: usize) -> Slot {
        Slot::new(index).unwrap()
    }

    fn drain(list: &mut List, links: &mut Links) -> Vec<usize> {
        std::iter::from_fn(|| list.pop_front(links).map(Slot::index)).collect()
    }

    #[test]
    fn first_in_is_first_out() {
        let (mut list, mut links) = (List::new(), Links::new());
        for index in [5, 3, 255] {
            list.push_back(&mut links, slot(index));
        }
        assert_eq!(list.first(), Some(slot(5)));
        assert_eq!(drain(&mut list, &mut links), [5, 3, 255]);
        assert!(list.is_empty());
        list.push_back(&mut links, slot(3));
        assert_eq!(drain(&mut list, &mut links), [3]);
    }

    #[test]
    fn a_thread_is_taken_out_wherever_it_is() {
        for gone in [4, 5, 6] {
            let (mut list, mut links) = (List::new(), Links::new());
            for index in [4, 5, 6] {
                list.push_back(&mut links, slot(index));
            }
            assert!(list.remove(&mut links, slot(gone)));
            assert!(!list.remove(&mut links, slot(gone)));
            list.push_back(&mut links, slot(7));
            let mut expected = std::vec![4, 5, 6, 7];
            expected.retain(|index| *index != gone);
            assert_eq!(drain(&mut list, &mut links), expected);
            list.push_back(&mut links, slot(gone));
            assert!(list.remove(&mut links, slot(gone)) && list.is_empty());
        }
    }

    #[test]
    fn insertion_keeps_an_order_and_equals_in_turn() {
        let (mut list, mut links) = (List::new(), Links::new());
        for index in [40, 10, 30, 20, 11, 50] {
            list.insert(&mut links, slot(index), |at| at.index() / 10 > index / 10);
        }
        list.push_back(&mut links, slot(60));
        assert_eq!(drain(&mut list, &mut links), [10, 11, 20, 30, 40, 50, 60]);
    }
}
