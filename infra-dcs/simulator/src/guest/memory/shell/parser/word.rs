//! Words: quotes, parameters, commands and arithmetic in them.

use std::sync::Arc;

use super::{Parse, Parser, is_meta, is_name_part, is_name_start};
use crate::guest::memory::shell::ast::{Index, Operation, Parameter, Part, Word};

/// Collects parts, joining neighbours of a kind.
#[derive(Default)]
struct Parts(Vec<Part>);

impl Parts {
    fn text(&mut self, c: char) {
        match self.0.last_mut() {
            Some(Part::Text(text)) => text.push(c),
            _ => self.0.push(Part::Text(c.to_string())),
        }
    }

    fn quoted(&mut self, text: String) {
        match self.0.last_mut() {
            Some(Part::Quoted(present)) => present.push_str(&text),
            _ => self.0.push(Part::Quoted(text)),
        }
    }
}

impl Parser {
    /// A word up to the character that ends one.
    pub(super) fn word(&mut self) -> Parse<Word> {
        Ok(Word { parts: self.deeper(|parser| parser.parts(|parser| parser.peek().is_none_or(is_meta), false))? })
    }

    /// A regular expression of `=~`, in which parentheses and bars are its own.
    pub(super) fn expression_word(&mut self) -> Parse<Word> {
        let mut nested = 0_usize;
        let parts = self.parts(
            |parser| match parser.peek() {
                None => true,
                Some('(') => {
                    nested += 1;
                    false
                }
                Some(')') if nested > 0 => {
                    nested -= 1;
                    false
                }
                Some('|') => false,
                Some(c) => is_meta(c),
            },
            false,
        )?;
        Ok(Word { parts })
    }

    /// Parts up to one of these characters, which is taken too.
    pub(super) fn parts_until(&mut self, ends: &[char], in_double: bool) -> Parse<Vec<Part>> {
        let parts =
            self.deeper(|parser| parser.parts(|parser| parser.peek().is_none_or(|c| ends.contains(&c)), in_double))?;
        match self.next() {
            Some(_) => Ok(parts),
            None => self.fail(format!("unexpected EOF while looking for matching `{}'", ends[0])),
        }
    }

    fn parts(&mut self, mut ends: impl FnMut(&Self) -> bool, in_double: bool) -> Parse<Vec<Part>> {
        let mut parts = Parts::default();
        let began = self.at;
        while !ends(self) {
            let Some(c) = self.peek() else { break };
            match c {
                '\\' => {
                    self.at += 1;
                    match self.next() {
                        Some('\n') => {}
                        Some(c) if in_double && !matches!(c, '$' | '`' | '"' | '\\' | '}') => {
                            parts.quoted(format!("\\{c}"));
                        }
                        Some(c) => parts.quoted(c.to_string()),
                        None => parts.quoted("\\".to_owned()),
                    }
                }
                '\'' if !in_double => {
                    self.at += 1;
                    let text = self.single_quoted()?;
                    parts.quoted(text);
                }
                '"' => {
                    self.at += 1;
                    parts.0.push(Part::Double(self.double_quoted()?));
                }
                '$' if !in_double && self.peek_at(1) == Some('\'') => {
                    self.at += 2;
                    let text = self.c_quoted()?;
                    parts.quoted(text);
                }
                '$' if !in_double && self.peek_at(1) == Some('"') => self.at += 1,
                '$' | '`' => self.expansion(&mut parts)?,
                '~' if !in_double && self.at == began && self.peek_at(1).is_none_or(|c| c == '/' || is_meta(c)) => {
                    self.at += 1;
                    parts.0.push(Part::Home);
                }
                c => {
                    self.next();
                    parts.text(c);
                }
            }
        }
        Ok(parts.0)
    }

    fn single_quoted(&mut self) -> Parse<String> {
        let mut text = String::new();
        loop {
            match self.next() {
                Some('\'') => return Ok(text),
                Some(c) => text.push(c),
                None => return self.fail("unexpected EOF while looking for matching `''"),
            }
        }
    }

    /// `$'…'`: escapes as in C.
    fn c_quoted(&mut self) -> Parse<String> {
        let mut text = String::new();
        loop {
            match self.next() {
                Some('\'') => return Ok(text),
                Some('\\') => match self.next() {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some('r') => text.push('\r'),
                    Some('a') => text.push('\x07'),
                    Some('b') => text.push('\x08'),
                    Some('e' | 'E') => text.push('\x1b'),
                    Some('f') => text.push('\x0c'),
                    Some('v') => text.push('\x0b'),
                    Some(kind @ ('x' | 'u' | 'U')) => {
                        let most = if kind == 'x' {
                            2
                        } else if kind == 'u' {
                            4
                        } else {
                            8
                        };
                        text.push(self.digits(16, most));
                    }
                    Some('0'..='7') => {
                        self.at -= 1;
                        let c = self.digits(8, 3);
                        text.push(c);
                    }
                    Some(c @ ('\\' | '\'' | '"' | '?')) => text.push(c),
                    Some(c) => text.extend(['\\', c]),
                    None => return self.fail("unexpected EOF while looking for matching `''"),
                },
                Some(c) => text.push(c),
                None => return self.fail("unexpected EOF while looking for matching `''"),
            }
        }
    }

    fn digits(&mut self, radix: u32, most: usize) -> char {
        let mut value = 0;
        for _ in 0..most {
            let Some(digit) = self.peek().and_then(|c| c.to_digit(radix)) else { break };
            value = value * radix + digit;
            self.at += 1;
        }
        char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER)
    }

    /// What follows an opening double quote, up to the closing one.
    fn double_quoted(&mut self) -> Parse<Vec<Part>> {
        self.deeper(|parser| {
            let mut parts = Parts::default();
            loop {
                match parser.peek() {
                    None => return parser.fail("unexpected EOF while looking for matching `\"'"),
                    Some('"') => {
                        parser.at += 1;
                        return Ok(parts.0);
                    }
                    Some(c) => parser.double_character(c, &mut parts)?,
                }
            }
        })
    }

    /// The body of a here-document: as within double quotes, in which a double quote is itself.
    pub(super) fn document_parts(&mut self) -> Parse<Vec<Part>> {
        let mut parts = Parts::default();
        while let Some(c) = self.peek() {
            if c == '\\' && self.peek_at(1) == Some('"') {
                self.at += 2;
                parts.quoted("\\\"".to_owned());
            } else {
                self.double_character(c, &mut parts)?;
            }
        }
        Ok(parts.0)
    }

    fn double_character(&mut self, c: char, parts: &mut Parts) -> Parse<()> {
        match c {
            '\\' => {
                self.at += 1;
                match self.next() {
                    Some('\n') => {}
                    Some(c @ ('$' | '`' | '"' | '\\')) => parts.quoted(c.to_string()),
                    Some(c) => parts.quoted(format!("\\{c}")),
                    None => parts.quoted("\\".to_owned()),
                }
            }
            '$' | '`' => self.expansion(parts)?,
            c => {
                self.next();
                parts.quoted(c.to_string());
            }
        }
        Ok(())
    }

    /// `$…` or a command in backquotes.
    fn expansion(&mut self, parts: &mut Parts) -> Parse<()> {
        if self.take("`") {
            let line = self.line;
            let text = self.backquoted()?;
            let mut parser = Self::new(&text, self.depth, line);
            let list = parser.list()?;
            if parser.peek().is_some() {
                return parser.unexpected();
            }
            parts.0.push(Part::Command(Arc::new(list)));
            return Ok(());
        }
        self.at += 1;
        match self.peek() {
            Some('(') => {
                if self.looking_at("((") {
                    let (at, line) = (self.at, self.line);
                    self.at += 2;
                    if let Ok(inner) = self.arithmetic_parts("))") {
                        parts.0.push(Part::Arithmetic(Word { parts: inner }));
                        return Ok(());
                    }
                    (self.at, self.line) = (at, line);
                }
                self.at += 1;
                let list = self.list()?;
                if !self.take(")") {
                    return match self.peek() {
                        None => self.fail("unexpected EOF while looking for matching `)'"),
                        Some(_) => self.unexpected(),
                    };
                }
                parts.0.push(Part::Command(Arc::new(list)));
            }
            Some('{') => {
                self.at += 1;
                let parameter = self.deeper(Self::parameter)?;
                parts.0.push(Part::Parameter(Box::new(parameter)));
            }
            Some(c) if is_name_start(c) => {
                let mut name = String::new();
                while let Some(c) = self.peek().filter(|c| is_name_part(*c)) {
                    name.push(c);
                    self.at += 1;
                }
                parts.0.push(plain(name));
            }
            Some(c) if c.is_ascii_digit() || "@*#?$!-".contains(c) => {
                self.at += 1;
                parts.0.push(plain(c.to_string()));
            }
            _ => parts.text('$'),
        }
        Ok(())
    }

    fn backquoted(&mut self) -> Parse<String> {
        let mut text = String::new();
        loop {
            match self.next() {
                Some('`') => return Ok(text),
                Some('\\') => match self.next() {
                    Some(c @ ('`' | '\\' | '$')) => text.push(c),
                    Some(c) => text.extend(['\\', c]),
                    None => break,
                },
                Some(c) => text.push(c),
                None => break,
            }
        }
        self.fail("unexpected EOF while looking for matching ``'")
    }

    /// An arithmetic expression up to `end` outside of parentheses, which is taken too.
    pub(super) fn arithmetic_parts(&mut self, end: &str) -> Parse<Vec<Part>> {
        self.deeper(|parser| {
            let mut parts = Parts::default();
            let mut nested = 0_usize;
            loop {
                if nested == 0 && parser.take(end) {
                    return Ok(parts.0);
                }
                match parser.peek() {
                    None => return parser.fail(format!("unexpected EOF while looking for matching `{end}'")),
                    Some('$' | '`') => parser.expansion(&mut parts)?,
                    Some('"') => parser.at += 1,
                    Some(c) => {
                        match c {
                            '(' => nested += 1,
                            ')' if nested == 0 => return parser.unexpected(),
                            ')' => nested -= 1,
                            _ => {}
                        }
                        parser.next();
                        parts.text(c);
                    }
                }
            }
        })
    }

    /// What follows `${`, up to `}`.
    fn parameter(&mut self) -> Parse<Parameter> {
        let bad = |parser: &Self| parser.fail("bad substitution");
        let is_special = |c: char| "@*#?$!-".contains(c);
        let length = self.peek() == Some('#')
            && self.peek_at(1).is_some_and(|c| is_name_part(c) || is_special(c))
            && !(self.peek_at(1) == Some('-') || self.looking_at("##") || self.looking_at("#?"));
        if length {
            self.at += 1;
        }
        let indirect = !length && self.peek() == Some('!') && self.peek_at(1).is_some_and(is_name_part);
        if indirect {
            self.at += 1;
        }
        let mut name = String::new();
        match self.peek() {
            Some(c) if c.is_ascii_digit() => {
                while let Some(c) = self.peek().filter(char::is_ascii_digit) {
                    name.push(c);
                    self.at += 1;
                }
            }
            Some(c) if is_name_start(c) => {
                while let Some(c) = self.peek().filter(|c| is_name_part(*c)) {
                    name.push(c);
                    self.at += 1;
                }
            }
            Some(c) if is_special(c) => {
                name.push(c);
                self.at += 1;
            }
            _ => return bad(self),
        }
        let mut index = None;
        if self.take("[") {
            index = Some(if self.take("@]") {
                Index::All
            } else if self.take("*]") {
                Index::Joined
            } else {
                Index::One(Word { parts: self.parts_until(&[']'], false)? })
            });
        }
        if self.take("}") {
            let is_all = matches!(index, Some(Index::All | Index::Joined));
            let operation = match (length, indirect && is_all) {
                (true, _) => Operation::Length,
                (_, true) => Operation::Keys,
                _ => Operation::None,
            };
            let indirect = indirect && !is_all;
            return Ok(Parameter { name, index, indirect, operation });
        }
        if length {
            return bad(self);
        }
        let operation = self.operation()?;
        Ok(Parameter { name, index, indirect, operation })
    }

    fn rest(&mut self) -> Parse<Word> {
        Ok(Word { parts: self.parts_until(&['}'], false)? })
    }

    fn operation(&mut self) -> Parse<Operation> {
        let empty_too = self.peek() == Some(':') && self.peek_at(1).is_some_and(|c| "-=?+".contains(c));
        if empty_too {
            self.at += 1;
        }
        let Some(c) = self.next() else { return self.fail("unexpected EOF while looking for matching `}'") };
        let doubled = |parser: &mut Self| {
            let again = parser.peek() == Some(c);
            if again {
                parser.at += 1;
            }
            again
        };
        Ok(match c {
            '-' | '=' | '?' | '+' => Operation::Unset { operator: c, empty_too, word: self.rest()? },
            '#' | '%' => {
                let longest = doubled(self);
                Operation::Remove { from_end: c == '%', longest, pattern: self.rest()? }
            }
            '/' => {
                let all = doubled(self);
                let anchor = self.peek().filter(|c| !all && matches!(c, '#' | '%'));
                if anchor.is_some() {
                    self.at += 1;
                }
                let pattern = self.parts_until(&['/', '}'], false)?;
                let ended = self.chars.get(self.at - 1) == Some(&'}');
                let with = if ended { Word::default() } else { self.rest()? };
                Operation::Replace { all, anchor, pattern: Word { parts: pattern }, with }
            }
            ':' => {
                let offset = Word { parts: self.parts_until(&[':', '}'], false)? };
                let ended = self.chars.get(self.at - 1) == Some(&'}');
                Operation::Substring { offset, length: if ended { None } else { Some(self.rest()?) } }
            }
            '^' | ',' => {
                let all = doubled(self);
                if !self.take("}") {
                    return self.fail("bad substitution: a pattern after ^ or , is not played by this shell");
                }
                Operation::Case { upper: c == '^', all }
            }
            _ => return self.fail("bad substitution"),
        })
    }
}

fn plain(name: String) -> Part {
    Part::Parameter(Box::new(Parameter { name, index: None, indirect: false, operation: Operation::None }))
}
