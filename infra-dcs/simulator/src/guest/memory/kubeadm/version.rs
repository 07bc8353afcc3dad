//! Versions as Kubernetes' own version library reads and compares them: a leading `v` or none, three numbers, then a
//! pre-release (`-3`, `-rc.1`) and build metadata (`+x`).

use std::{cmp::Ordering, fmt};

/// A semantic version. Build metadata is dropped: it never decides anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// 1, so far.
    pub major: u32,
    /// What skew rules count.
    pub minor: u32,
    /// Patch.
    pub patch: u32,
    /// Identifiers after the dash; empty for a release.
    pre_release: String,
}

impl Version {
    /// Reads `v1.36.3`, `1.36.3` or either with a suffix; none for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let text = text.split('+').next().unwrap_or_default();
        let (numbers, pre_release) = text.split_once('-').unwrap_or((text, ""));
        let mut parts = numbers.split('.').map(number);
        let version = Self {
            major: parts.next()??,
            minor: parts.next()??,
            patch: parts.next()??,
            pre_release: pre_release.to_owned(),
        };
        let ends_in_dash = text.ends_with('-');
        (parts.next().is_none() && !ends_in_dash).then_some(version)
    }

    /// The first version of a minor, before all its pre-releases.
    pub fn floor(major: u32, minor: u32) -> Self {
        Self { major, minor, patch: 0, pre_release: "0".into() }
    }

    /// A release.
    pub fn release(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch, pre_release: String::new() }
    }

    /// Without the suffix.
    pub fn core(&self) -> (u32, u32, u32) {
        (self.major, self.minor, self.patch)
    }
}

/// A number without a leading zero.
fn number(text: &str) -> Option<u32> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_plain && (text == "0" || !text.starts_with('0'))).then(|| text.parse().ok()).flatten()
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.major, self.minor, self.patch)?;
        if self.pre_release.is_empty() { Ok(()) } else { write!(formatter, "-{}", self.pre_release) }
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    /// Semantic Versioning 2.0.0, section 11.
    fn cmp(&self, other: &Self) -> Ordering {
        self.core().cmp(&other.core()).then_with(|| match (self.pre_release.as_str(), other.pre_release.as_str()) {
            ("", "") => Ordering::Equal,
            ("", _) => Ordering::Greater,
            (_, "") => Ordering::Less,
            (ours, theirs) => {
                let (mut ours, mut theirs) = (ours.split('.'), theirs.split('.'));
                loop {
                    let order = match (ours.next(), theirs.next()) {
                        (None, None) => return Ordering::Equal,
                        (None, Some(_)) => return Ordering::Less,
                        (Some(_), None) => return Ordering::Greater,
                        (Some(ours), Some(theirs)) => identifier(ours, theirs),
                    };
                    if order != Ordering::Equal {
                        return order;
                    }
                }
            }
        })
    }
}

fn identifier(ours: &str, theirs: &str) -> Ordering {
    match (ours.parse::<u64>(), theirs.parse::<u64>()) {
        (Ok(ours), Ok(theirs)) => ours.cmp(&theirs),
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        (Err(_), Err(_)) => ours.cmp(theirs),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    #[test]
    fn versions_are_read_as_kubernetes_reads_them() {
        assert_eq!(version("v1.34.5-3").to_string(), "1.34.5-3");
        assert_eq!(version("1.36.0+vendor").core(), (1, 36, 0));
        for wrong in ["", "v1", "1.36", "1.036.0", "1.36.0.1", "1.36.x", "stable-1", "1.36.0-"] {
            assert_eq!(Version::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn pre_releases_come_before_their_release() {
        let ordered = ["1.36.0-0", "1.36.0-alpha.1", "1.36.0-alpha.2", "1.36.0-rc.1", "1.36.0", "1.36.1-3", "1.36.1"];
        for pair in ordered.windows(2) {
            assert!(version(pair[0]) < version(pair[1]), "{pair:?}");
        }
        assert!(Version::floor(1, 37) <= version("1.37.0-alpha.0"));
    }
}
