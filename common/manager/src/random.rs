//! Randomness, passed in, so that a controller can run under a fixed seed.

use std::time::Duration;

use kubeadm::token::NoRandomness;
use rand::{Rng, TryRng};

/// Gives random numbers. Keys are made by the cryptographic library, which has its own.
pub trait Random: Send + Sync + 'static {
    /// A number below `bound`; 0 when `bound` is 0.
    fn below(&self, bound: u64) -> u64;

    /// Fills bytes that nobody can guess.
    fn secret(&self, bytes: &mut [u8]) -> Result<(), NoRandomness>;

    /// `duration`, made up to a tenth longer, so that what began together does not stay together.
    fn jittered(&self, duration: Duration) -> Duration {
        let tenth = u64::try_from(duration.as_millis() / 10).unwrap_or(u64::MAX);
        duration + Duration::from_millis(self.below(tenth))
    }

    /// Five characters such as Kubernetes appends to generated names: no vowels, nothing that looks alike.
    fn name_suffix(&self) -> String {
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let letter = |_| LETTERS[usize::try_from(self.below(LETTERS.len() as u64)).unwrap_or_default()] as char;
        (0..5).map(letter).collect()
    }
}

/// The operating system's randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { rand::rng().next_u64() % bound }
    }

    fn secret(&self, bytes: &mut [u8]) -> Result<(), NoRandomness> {
        rand::rngs::SysRng.try_fill_bytes(bytes).map_err(|error| NoRandomness(error.to_string()))
    }
}
