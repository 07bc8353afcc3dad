//! Chance from a seed: the same seed gives the same numbers, on every machine and in every release of every library.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use kubeadm::token::NoRandomness;
use manager::random::Random;

/// Odd, so that every state comes up once (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators).
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A stream of numbers (`SplitMix64`). Streams of other names are independent of it.
#[derive(Debug)]
pub struct Chance {
    seed: u64,
    state: AtomicU64,
}

impl Chance {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, state: AtomicU64::new(mixed(seed)) }
    }

    /// The stream of the same seed for somebody: what one draws changes nothing for another.
    #[must_use]
    pub fn of(&self, name: &str) -> Self {
        // FNV-1a: the standard library's hashes may change between releases.
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self::new(self.seed ^ hash)
    }

    /// The next number.
    pub fn next(&self) -> u64 {
        mixed(self.state.fetch_add(STEP, Ordering::Relaxed))
    }

    /// A number below `bound`; 0 when that is 0.
    pub fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next() % bound }
    }

    /// Whether something happens that happens once in `times`.
    pub fn once_in(&self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// A time between two, in whole milliseconds.
    pub fn between(&self, least: Duration, most: Duration) -> Duration {
        let span = most.saturating_sub(least).as_millis();
        least + Duration::from_millis(self.below(u64::try_from(span).unwrap_or(u64::MAX).saturating_add(1)))
    }

    /// One of several; `None` where there are none.
    pub fn pick<'a, T>(&self, from: &'a [T]) -> Option<&'a T> {
        from.get(usize::try_from(self.below(from.len() as u64)).ok()?)
    }
}

fn mixed(mut state: u64) -> u64 {
    state = state.wrapping_add(STEP);
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

impl Random for Chance {
    fn below(&self, bound: u64) -> u64 {
        Self::below(self, bound)
    }

    fn secret(&self, bytes: &mut [u8]) -> Result<(), NoRandomness> {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_itself_and_names_are_apart() {
        let numbers = |chance: Chance| (0..8).map(|_| chance.next()).collect::<Vec<_>>();
        assert_eq!(numbers(Chance::new(7)), numbers(Chance::new(7)));
        assert_ne!(numbers(Chance::new(7)), numbers(Chance::new(8)));
        assert_ne!(numbers(Chance::new(7).of("a")), numbers(Chance::new(7).of("b")));
        assert_eq!(numbers(Chance::new(7).of("a")), numbers(Chance::new(7).of("a")));
    }

    #[test]
    fn bounds_hold() {
        let chance = Chance::new(1);
        let (least, most) = (Duration::from_millis(3), Duration::from_millis(5));
        assert!((0..100).all(|_| (least..=most).contains(&chance.between(least, most))));
        assert_eq!((chance.below(0), chance.pick::<u8>(&[])), (0, None));
    }
}
