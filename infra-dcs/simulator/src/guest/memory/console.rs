//! A machine's console: its last lines, in memory.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// Bytes of a console that are kept: a boot with kubeadm's words, and what came before a failure.
const KEPT: usize = 24 * 1024;
/// Longest line; what is longer is cut.
const LINE: usize = 2048;

/// See the [module](self).
#[derive(Default)]
pub struct Console(Mutex<Lines>);

#[derive(Default)]
struct Lines {
    lines: VecDeque<Box<str>>,
    bytes: usize,
}

impl Console {
    /// Adds a line; the oldest make room for it.
    pub fn push(&self, line: &str) {
        let end = (0..=LINE.min(line.len())).rev().find(|end| line.is_char_boundary(*end)).unwrap_or_default();
        let line: Box<str> = line[..end].into();
        let mut kept = self.0.lock();
        kept.bytes += line.len();
        kept.lines.push_back(line);
        while kept.bytes > KEPT {
            let Some(oldest) = kept.lines.pop_front() else { break };
            kept.bytes -= oldest.len();
        }
    }

    /// The last lines, oldest first.
    pub fn tail(&self, lines: usize) -> Vec<String> {
        let kept = self.0.lock();
        kept.lines.iter().skip(kept.lines.len().saturating_sub(lines)).map(ToString::to_string).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_is_bounded() {
        let console = Console::default();
        for number in 0..10_000 {
            console.push(&format!("line {number} {}", "ü".repeat(10)));
        }
        assert_eq!(console.tail(1).len(), 1);
        assert!(console.tail(1)[0].starts_with("line 9999"));
        assert!(console.tail(usize::MAX).iter().map(String::len).sum::<usize>() <= KEPT);
        console.push(&"ü".repeat(LINE));
        assert!(console.tail(1)[0].len() <= LINE);
    }
}
