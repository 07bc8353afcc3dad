//! Where memory guests may answer other than a real cluster, and why.

/// A place at which memory guests are excused.
#[derive(Debug)]
pub struct Exception {
    /// `theme/check/field…`; `*` stands for any text, and what is below the place is meant too.
    pub place: &'static str,
    /// Why a memory guest need not, or cannot, answer as a real cluster does.
    pub why: &'static str,
}

/// All of them. One that excuses nothing any more fails the suite.
pub const EXCEPTIONS: &[Exception] = &[];
