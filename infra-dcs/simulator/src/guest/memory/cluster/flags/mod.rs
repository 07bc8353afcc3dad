//! Command lines as the programs themselves read them: those of Kubernetes with pflag, etcd with Go's own `flag`. What is
//! refused is refused in their words. Pure.

mod kind;
mod values;

use std::{collections::BTreeMap, sync::LazyLock};

use self::kind::Kind;
use crate::guest::memory::kubeadm::config::types::Arg;

/// The programs whose command lines are known: name, who reads the line, and the flags with their types.
const TABLES: [(&str, Dialect, &str); 5] = [
    ("etcd", Dialect::Go, include_str!("etcd.txt")),
    ("kube-apiserver", Dialect::Posix, include_str!("kube-apiserver.txt")),
    ("kube-controller-manager", Dialect::Posix, include_str!("kube-controller-manager.txt")),
    ("kube-scheduler", Dialect::Posix, include_str!("kube-scheduler.txt")),
    ("kubelet", Dialect::Posix, include_str!("kubelet.txt")),
];

static PROGRAMS: LazyLock<[Program; 5]> =
    LazyLock::new(|| TABLES.map(|(name, dialect, table)| Program::new(name, dialect, table)));

/// Flags that a program acts on in ways that are not modelled.
const NOT_MODELLED: [(&str, &str); 3] = [("etcd", "config-file"), ("kubelet", "config-dir"), ("kubelet", "runonce")];

/// Who reads the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    /// Package `flag`: one dash is as good as two.
    Go,
    /// Package `pflag`: one dash begins a letter, and `_` is as good as `-`.
    Posix,
}

/// A program and its flags, by name.
pub struct Program {
    name: &'static str,
    dialect: Dialect,
    flags: BTreeMap<&'static str, Kind>,
}

/// A program by its name; none where its flags are not known.
pub fn program(name: &str) -> Option<&'static Program> {
    PROGRAMS.iter().find(|program| program.name == name)
}

/// A word of a command line, taken apart.
enum Word<'a> {
    Flag {
        name: String,
        value: Option<&'a str>,
    },
    Argument(&'a str),
    /// `--`: what follows are arguments.
    End,
}

impl Program {
    /// `table` has a flag's name and type on each line, of Kubernetes 1.36 or etcd 3.6.
    fn new(name: &'static str, dialect: Dialect, table: &'static str) -> Self {
        let flags = table.lines().filter_map(|line| line.split_once(' '));
        Self { name, dialect, flags: flags.map(|(name, kind)| (name, Kind::named(kind))).collect() }
    }

    /// Reads a command line without the program's name; booleans become `true` or `false`. The error is what the program
    /// says before it ends.
    pub fn parse<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Result<Vec<Arg>, String> {
        let mut flags = Vec::new();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let (name, value) = match self.word(word)? {
                Word::Flag { name, value } => (name, value),
                Word::Argument(argument) => return Err(self.stray(argument)),
                Word::End => match words.next() {
                    Some(argument) => return Err(self.stray(argument)),
                    None => break,
                },
            };
            let kind = *self.flags.get(name.as_str()).ok_or_else(|| self.unknown(&name))?;
            let value = match value {
                Some(value) => value,
                None if kind == Kind::Bool => "true",
                None => words.next().ok_or_else(|| format!("flag needs an argument: {}{name}", self.dashes()))?,
            };
            kind.check(value).map_err(|why| self.invalid(kind, &name, value, &why))?;
            let value = if kind == Kind::Bool { kind::canonical(value) } else { value };
            flags.push(Arg { name, value: value.to_owned() });
        }
        self.check(&flags)?;
        Ok(flags)
    }

    fn word<'a>(&self, word: &'a str) -> Result<Word<'a>, String> {
        if word == "--" {
            return Ok(Word::End);
        }
        let (text, is_short) = match (word.strip_prefix("--"), word.strip_prefix('-')) {
            (Some(text), _) => (text, false),
            (None, Some(text)) if !text.is_empty() => (text, self.dialect == Dialect::Posix),
            _ => return Ok(Word::Argument(word)),
        };
        if is_short {
            return short(text, word);
        }
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        if name.is_empty() || name.starts_with('-') {
            return Err(format!("bad flag syntax: {word}"));
        }
        let name = if self.dialect == Dialect::Posix { name.replace('_', "-") } else { name.to_owned() };
        Ok(Word::Flag { name, value })
    }

    /// What no flag's type tells: flags that end the program at once, values that are none of those that there are.
    fn check(&self, flags: &[Arg]) -> Result<(), String> {
        for Arg { name, value } in flags {
            if ["help", "version"].contains(&name.as_str()) && value != "false" {
                return Err(format!("--{name} lets {} tell about itself and end; remove the flag", self.name));
            }
            if NOT_MODELLED.contains(&(self.name, name)) {
                return Err(format!("--{name} of {} is not modelled by memory guests; remove the flag", self.name));
            }
            values::check(self.name, name, value)?;
        }
        Ok(())
    }

    fn dashes(&self) -> &'static str {
        if self.dialect == Dialect::Go { "-" } else { "--" }
    }

    fn unknown(&self, name: &str) -> String {
        match self.dialect {
            Dialect::Go => format!("flag provided but not defined: -{name}"),
            Dialect::Posix => format!("unknown flag: --{name}"),
        }
    }

    fn stray(&self, argument: &str) -> String {
        match (self.dialect, self.name) {
            (Dialect::Go, _) => format!("{argument:?} is not a valid flag"),
            (Dialect::Posix, "kubelet") => format!("unknown command {argument}"),
            (Dialect::Posix, name) => format!("{name:?} does not take any arguments, got [{argument:?}]"),
        }
    }

    fn invalid(&self, kind: Kind, name: &str, value: &str, why: &str) -> String {
        match self.dialect {
            Dialect::Go if kind == Kind::Bool => format!("invalid boolean value {value:?} for -{name}: parse error"),
            Dialect::Go if kind.is_plain() => format!("invalid value {value:?} for flag -{name}: parse error"),
            Dialect::Go => format!("invalid value {value:?} for flag -{name}: {why}"),
            Dialect::Posix => {
                let shown = if name == "v" { "-v, --v".to_owned() } else { format!("--{name}") };
                format!("invalid argument {value:?} for \"{shown}\" flag: {why}")
            }
        }
    }
}

/// A flag of one letter: `-v=2`, `-v2` and `-v 2`, or `-h`.
fn short<'a>(text: &'a str, word: &str) -> Result<Word<'a>, String> {
    if let Some(rest) = text.strip_prefix('v') {
        let value = rest.strip_prefix('=').unwrap_or(rest);
        return Ok(Word::Flag { name: "v".to_owned(), value: Some(value).filter(|value| !value.is_empty()) });
    }
    match text.chars().next() {
        Some('h') => Ok(Word::Flag { name: "help".to_owned(), value: None }),
        letter => Err(format!("unknown shorthand flag: '{}' in {word}", letter.unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(name: &str, line: &str) -> Result<Vec<(String, String)>, String> {
        let flags = program(name).unwrap().parse(line.split_whitespace())?;
        Ok(flags.into_iter().map(|flag| (flag.name, flag.value)).collect())
    }

    #[test]
    fn every_flag_of_the_tables_has_a_type() {
        for (program, _, table) in TABLES {
            for line in table.lines() {
                let (name, kind) = line.split_once(' ').unwrap();
                assert!(kind == "string" || Kind::named(kind) != Kind::Text, "{program}: {name}: {kind}");
            }
        }
    }

    #[test]
    fn values_stand_where_each_dialect_wants_them() {
        let flags = |all: &[(&str, &str)]| -> Vec<(String, String)> {
            all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        for (program, line, expected) in [
            ("kubelet", "--max-pods 7 --register-node", &[("max-pods", "7"), ("register-node", "true")][..]),
            ("kubelet", "--node_labels=a=b,c=d -v=2", &[("node-labels", "a=b,c=d"), ("v", "2")]),
            ("kubelet", "-v4 -v 5", &[("v", "4"), ("v", "5")]),
            ("kube-scheduler", "--leader-elect=F --", &[("leader-elect", "false")]),
            ("etcd", "-name a --pre-vote", &[("name", "a"), ("pre-vote", "true")]),
        ] {
            assert_eq!(parse(program, line).unwrap(), flags(expected), "{program} {line}");
        }
    }

    #[test]
    fn refusals_are_in_the_programs_words() {
        for (program, line, expected) in [
            ("kube-scheduler", "--nope=1", "unknown flag: --nope"),
            ("kube-scheduler", "-profiling=x", "unknown shorthand flag: 'p' in -profiling=x"),
            ("kube-scheduler", "--leader-elect x", "\"kube-scheduler\" does not take any arguments, got [\"x\"]"),
            ("kube-scheduler", "-- x", "\"kube-scheduler\" does not take any arguments, got [\"x\"]"),
            ("kubelet", "stray", "unknown command stray"),
            ("kube-apiserver", "--kubelet-timeout", "flag needs an argument: --kubelet-timeout"),
            ("kube-apiserver", "---x", "bad flag syntax: ---x"),
            ("kube-apiserver", "--version", "--version lets kube-apiserver tell about itself and end; remove the flag"),
            (
                "kube-apiserver",
                "--secure_port=x",
                "invalid argument \"x\" for \"--secure-port\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            (
                "kube-scheduler",
                "-v=a",
                "invalid argument \"a\" for \"-v, --v\" flag: strconv.ParseUint: parsing \"a\": invalid syntax",
            ),
            ("etcd", "--nope=1", "flag provided but not defined: -nope"),
            ("etcd", "stray", "\"stray\" is not a valid flag"),
            ("etcd", "--snapshot-count", "flag needs an argument: -snapshot-count"),
            ("etcd", "--snapshot-count=a", "invalid value \"a\" for flag -snapshot-count: parse error"),
            ("etcd", "--client-cert-auth=x", "invalid boolean value \"x\" for -client-cert-auth: parse error"),
            (
                "etcd",
                "--watch-progress-notify-interval=5",
                "invalid value \"5\" for flag -watch-progress-notify-interval: parse error",
            ),
            ("etcd", "--feature-gates=x", "invalid value \"x\" for flag -feature-gates: missing bool value for x"),
            (
                "etcd",
                "--config-file=/etcd.yaml",
                "--config-file of etcd is not modelled by memory guests; remove the flag",
            ),
        ] {
            assert_eq!(parse(program, line).unwrap_err(), expected, "{program} {line}");
        }
    }
}
