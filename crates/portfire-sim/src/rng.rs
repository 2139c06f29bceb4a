//! The randomness of a simulation: one seed, one stream, the same on every machine.

use std::time::Duration;

/// A seeded stream of random numbers (xoshiro256++ by Blackman and Vigna, seeded by splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// The stream of a seed.
    pub(crate) fn new(seed: u64) -> Rng {
        let mut mixed = seed;
        Rng { state: std::array::from_fn(|_| splitmix(&mut mixed)) }
    }

    /// A stream of its own, so that what is drawn from it does not shift what this one gives.
    pub(crate) fn fork(&mut self) -> Rng {
        Rng::new(self.bits())
    }

    /// 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let drawn = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        drawn
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `least` to `most`, both included.
    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most.saturating_sub(least) + 1)
    }

    /// Whether something of this probability happens.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.fraction() < probability
    }

    /// One of these.
    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// A fraction in [0, 1).
    pub(crate) fn fraction(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A time from `least` to `most`.
    pub(crate) fn time(&mut self, least: Duration, most: Duration) -> Duration {
        Duration::from_nanos(self.between(least.as_nanos() as u64, most.as_nanos() as u64))
    }

    /// A time with a heavy tail: half of all are under about `usual`, and each doubling is half as
    /// frequent as the one before, up to `most`.
    pub(crate) fn heavy_tail(&mut self, usual: Duration, most: Duration) -> Duration {
        let doublings = self.bits().trailing_ones().min(30);
        let scaled = usual.saturating_mul(1 << doublings).mul_f64(0.5 + self.fraction());
        scaled.min(most)
    }
}

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_stream() {
        let draw = |seed| -> Vec<u64> {
            let mut rng = Rng::new(seed);
            (0..8).map(|_| rng.bits()).collect()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn bounds_are_kept_and_reached() {
        let mut rng = Rng::new(3);
        let drawn: std::collections::BTreeSet<u64> = (0..200).map(|_| rng.between(2, 5)).collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [2, 3, 4, 5]);
        assert_eq!(rng.below(0), 0);
    }

    #[test]
    fn the_tail_is_heavy_and_ends() {
        let mut rng = Rng::new(4);
        let (usual, most) = (Duration::from_millis(1), Duration::from_secs(1));
        let mut drawn: Vec<Duration> = (0..10_000).map(|_| rng.heavy_tail(usual, most)).collect();
        drawn.sort();
        assert!(drawn[5_000] < 2 * usual, "{:?}", drawn[5_000]);
        assert!(drawn[9_900] > 20 * usual, "{:?}", drawn[9_900]);
        assert!(drawn[9_999] <= most);
    }
}
