//! What a script says. Names follow the POSIX shell grammar (XCU 2.10) and the bash manual for what bash adds.

use std::sync::{Arc, OnceLock};

/// A sequence of commands.
pub(super) type List = Vec<Item>;

/// A chain with its separator.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub chain: AndOr,
    /// Ends with `&`: waited for at once, as nothing here runs beside it.
    pub background: bool,
    pub line: usize,
}

/// Pipelines joined by `&&` and `||`.
#[derive(Clone, Debug)]
pub(super) struct AndOr {
    pub first: Pipeline,
    pub rest: Vec<(Join, Pipeline)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Join {
    And,
    Or,
}

/// Commands joined by `|`.
#[derive(Clone, Debug)]
pub(super) struct Pipeline {
    pub negated: bool,
    pub commands: Vec<Command>,
}

#[derive(Clone, Debug)]
pub(super) struct Command {
    pub kind: Kind,
    pub redirects: Vec<Redirect>,
    pub line: usize,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Simple { assignments: Vec<Assignment>, arguments: Vec<Argument> },
    Group(List),
    Subshell(List),
    If { branches: Vec<(List, List)>, otherwise: Option<List> },
    Loop { until: bool, condition: List, body: List },
    For { name: String, words: Option<Vec<Word>>, body: List },
    ForArithmetic { parts: [Word; 3], body: List },
    Case { word: Word, arms: Vec<Arm> },
    Function { name: String, body: Arc<Command> },
    Test(Test),
    Arithmetic(Word),
}

/// An arm of `case`.
#[derive(Clone, Debug)]
pub(super) struct Arm {
    pub patterns: Vec<Word>,
    pub body: List,
    pub end: ArmEnd,
}

/// What follows an arm that matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ArmEnd {
    /// `;;`
    Done,
    /// `;&`
    FallThrough,
    /// `;;&`
    TestNext,
}

/// A word of a simple command; those of `local` and its like may be assignments.
#[derive(Clone, Debug)]
pub(super) enum Argument {
    Word(Word),
    Assignment(Assignment),
}

#[derive(Clone, Debug)]
pub(super) struct Assignment {
    pub name: String,
    pub index: Option<Word>,
    pub append: bool,
    pub value: AssignedValue,
}

#[derive(Clone, Debug)]
pub(super) enum AssignedValue {
    Scalar(Word),
    /// Elements, with their index or key where one is given.
    Array(Vec<(Option<Word>, Word)>),
}

#[derive(Clone, Debug)]
pub(super) struct Redirect {
    /// Descriptor; none is the operator's own.
    pub descriptor: Option<u32>,
    pub kind: RedirectKind,
}

#[derive(Clone, Debug)]
pub(super) enum RedirectKind {
    /// `<`
    Read(Word),
    /// `>` and `>|`
    Write(Word),
    /// `>>`
    Append(Word),
    /// `<>`
    ReadWrite(Word),
    /// `&>` and `>&word`
    Both { word: Word, append: bool },
    /// `>&n` and `<&n`; `-` closes.
    Duplicate(Word),
    /// `<<`: read from the lines after this one.
    Document(Arc<OnceLock<Word>>),
    /// `<<<`
    Text(Word),
}

/// A condition within `[[ ]]`.
#[derive(Clone, Debug)]
pub(super) enum Test {
    Unary(String, Word),
    Binary(Word, String, Word),
    Not(Box<Test>),
    And(Box<Test>, Box<Test>),
    Or(Box<Test>, Box<Test>),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Word {
    pub parts: Vec<Part>,
}

#[derive(Clone, Debug)]
pub(super) enum Part {
    /// As it stands, open to patterns.
    Text(String),
    /// Quoted or escaped.
    Quoted(String),
    /// Within double quotes.
    Double(Vec<Part>),
    Parameter(Box<Parameter>),
    Command(Arc<List>),
    Arithmetic(Word),
    /// `~`
    Home,
}

#[derive(Clone, Debug)]
pub(super) struct Parameter {
    pub name: String,
    pub index: Option<Index>,
    /// `${!name}`
    pub indirect: bool,
    pub operation: Operation,
}

#[derive(Clone, Debug)]
pub(super) enum Index {
    /// `[@]`
    All,
    /// `[*]`
    Joined,
    One(Word),
}

#[derive(Clone, Debug)]
pub(super) enum Operation {
    None,
    Length,
    /// `${!name[@]}`
    Keys,
    /// `-`, `=`, `?` and `+`; whether empty counts as unset.
    Unset {
        operator: char,
        empty_too: bool,
        word: Word,
    },
    Remove {
        from_end: bool,
        longest: bool,
        pattern: Word,
    },
    Replace {
        all: bool,
        anchor: Option<char>,
        pattern: Word,
        with: Word,
    },
    Substring {
        offset: Word,
        length: Option<Word>,
    },
    Case {
        upper: bool,
        all: bool,
    },
}

impl Word {
    /// The text of a word in which nothing is to be expanded.
    pub(super) fn literal(&self) -> Option<String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(part) | Part::Quoted(part) => text.push_str(part),
                Part::Double(parts) => text.push_str(&Word { parts: parts.clone() }.literal()?),
                _ => return None,
            }
        }
        Some(text)
    }

    pub(super) fn quoted(text: impl Into<String>) -> Self {
        Self { parts: vec![Part::Quoted(text.into())] }
    }
}
