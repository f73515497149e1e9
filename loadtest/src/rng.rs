//! Random numbers that a seed alone decides, the same on every machine.

/// A generator of random numbers.
#[derive(Debug)]
pub struct Rng(fastrand::Rng);

impl Rng {
    /// The generator of that seed.
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// A number below `bound`; 0 if there is none.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.u64(..bound.max(1))
    }
}
