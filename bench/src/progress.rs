//! How the caller learns how far a run is.

/// Hears what is measured next.
pub trait Progress {
    /// Step `at` of `of` begins: `what` is measured.
    fn step(&mut self, at: usize, of: usize, what: &str);
}

/// Tells nobody.
impl Progress for () {
    fn step(&mut self, _: usize, _: usize, _: &str) {}
}

impl<F: FnMut(usize, usize, &str)> Progress for F {
    fn step(&mut self, at: usize, of: usize, what: &str) {
        self(at, of, what);
    }
}
