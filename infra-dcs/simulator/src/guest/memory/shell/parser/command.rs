//! Commands and what joins them.

use std::sync::{Arc, OnceLock};

use super::{HereDocument, Parse, Parser, is_meta, is_name_part, is_name_start};
use crate::guest::memory::shell::ast::{
    AndOr, Argument, Arm, ArmEnd, AssignedValue, Assignment, Command, Item, Join, Kind, List, Pipeline, Redirect,
    RedirectKind, Test, Word,
};

const RESERVED: [&str; 18] = [
    "if", "then", "elif", "else", "fi", "while", "until", "for", "do", "done", "case", "esac", "in", "function", "{",
    "}", "!", "[[",
];
/// Reserved words that end a list.
const ENDS: [&str; 8] = ["then", "elif", "else", "fi", "do", "done", "esac", "}"];
/// Commands whose arguments may be assignments.
const DECLARATIONS: [&str; 5] = ["local", "declare", "typeset", "export", "readonly"];

/// Operators between two words of `[[ ]]` that are words themselves.
const TEST_OPERATORS: [&str; 14] =
    ["=", "==", "!=", "=~", "-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-nt", "-ot", "-ef", "<"];

impl Parser {
    /// Commands up to what cannot begin one.
    pub(super) fn list(&mut self) -> Parse<List> {
        self.deeper(|parser| {
            let mut list = List::new();
            loop {
                parser.skip_newlines()?;
                match parser.peek() {
                    None | Some(')') => break,
                    Some(';') if parser.peek_at(1).is_some_and(|c| c == ';' || c == '&') => break,
                    Some(_) if parser.reserved().is_some_and(|word| ENDS.contains(&word)) => break,
                    Some(_) => {}
                }
                let line = parser.line;
                let chain = parser.and_or()?;
                parser.skip_blanks();
                let mut background = false;
                match parser.peek() {
                    Some(';') if parser.peek_at(1).is_none_or(|c| c != ';' && c != '&') => parser.at += 1,
                    Some('&') if parser.peek_at(1) != Some('&') => {
                        parser.at += 1;
                        background = true;
                    }
                    Some('\n') => parser.newline()?,
                    None | Some(')' | ';') => {}
                    Some(_) if parser.reserved().is_some_and(|word| ENDS.contains(&word)) && parser.at > 0 => {
                        // `}` and its like must follow a separator, unless a compound command ended here.
                        if !matches!(parser.chars.get(parser.at.wrapping_sub(1)), Some(' ' | '\t')) {
                            return parser.unexpected();
                        }
                    }
                    Some(_) => return parser.unexpected(),
                }
                list.push(Item { chain, background, line });
            }
            Ok(list)
        })
    }

    /// A list that must not be empty.
    fn some_list(&mut self) -> Parse<List> {
        let list = self.list()?;
        if list.is_empty() { self.unexpected() } else { Ok(list) }
    }

    fn and_or(&mut self) -> Parse<AndOr> {
        let first = self.pipeline()?;
        let mut rest = Vec::new();
        loop {
            self.skip_blanks();
            let join = if self.take("&&") {
                Join::And
            } else if self.take("||") {
                Join::Or
            } else {
                return Ok(AndOr { first, rest });
            };
            self.skip_newlines()?;
            rest.push((join, self.pipeline()?));
        }
    }

    fn pipeline(&mut self) -> Parse<Pipeline> {
        let mut negated = false;
        self.skip_blanks();
        while self.reserved() == Some("!") {
            self.at += 1;
            negated = !negated;
            self.skip_blanks();
        }
        let mut commands = vec![self.command()?];
        loop {
            self.skip_blanks();
            if self.peek() != Some('|') || self.peek_at(1) == Some('|') {
                return Ok(Pipeline { negated, commands });
            }
            self.at += 1;
            if self.take("&")
                && let Some(last) = commands.last_mut()
            {
                // `|&` is `2>&1 |`.
                let kind = RedirectKind::Duplicate(Word::quoted("1"));
                last.redirects.push(Redirect { descriptor: Some(2), kind });
            }
            self.skip_newlines()?;
            commands.push(self.command()?);
        }
    }

    /// The reserved word here, not yet taken.
    pub(super) fn reserved(&self) -> Option<&'static str> {
        RESERVED.into_iter().find(|word| self.looking_at(word) && self.peek_at(word.len()).is_none_or(is_meta))
    }

    fn expect(&mut self, word: &'static str) -> Parse<()> {
        self.skip_newlines()?;
        if self.reserved() == Some(word) {
            self.at += word.len();
            Ok(())
        } else {
            self.unexpected()
        }
    }

    fn command(&mut self) -> Parse<Command> {
        self.skip_blanks();
        let line = self.line;
        let compound = self.deeper(Self::compound)?;
        let is_function = matches!(compound, Some(Kind::Function { .. }));
        let Some(kind) = compound else { return self.simple(line) };
        let mut redirects = Vec::new();
        // A function's redirections belong to its body.
        if !is_function {
            self.skip_blanks();
            while let Some(redirect) = self.redirect()? {
                redirects.push(redirect);
                self.skip_blanks();
            }
        }
        Ok(Command { kind, redirects, line })
    }

    fn compound(&mut self) -> Parse<Option<Kind>> {
        if self.looking_at("((")
            && let Some(kind) = self.arithmetic_command()
        {
            return Ok(Some(kind));
        }
        if self.take("(") {
            let list = self.some_list()?;
            if !self.take(")") {
                return self.unexpected();
            }
            return Ok(Some(Kind::Subshell(list)));
        }
        let Some(word) = self.reserved() else { return self.function() };
        let kind = match word {
            "{" => {
                self.at += 1;
                let list = self.some_list()?;
                self.expect("}")?;
                Kind::Group(list)
            }
            "if" => self.if_command()?,
            "while" | "until" => {
                self.at += word.len();
                let condition = self.some_list()?;
                Kind::Loop { until: word == "until", condition, body: self.do_group()? }
            }
            "for" => self.for_command()?,
            "case" => self.case_command()?,
            "function" => {
                self.at += word.len();
                self.skip_blanks();
                let name = self.function_name();
                self.skip_blanks();
                if self.take("(") {
                    self.skip_blanks();
                    if !self.take(")") {
                        return self.unexpected();
                    }
                }
                self.function_body(name)?
            }
            "[[" => {
                self.at += 2;
                let test = self.test_or()?;
                self.skip_newlines()?;
                if !self.take("]]") {
                    return self.fail("syntax error in conditional expression");
                }
                Kind::Test(test)
            }
            _ => return self.unexpected(),
        };
        Ok(Some(kind))
    }

    fn do_group(&mut self) -> Parse<List> {
        self.expect("do")?;
        let body = self.some_list()?;
        self.expect("done")?;
        Ok(body)
    }

    fn if_command(&mut self) -> Parse<Kind> {
        let mut branches = Vec::new();
        self.at += 2;
        loop {
            let condition = self.some_list()?;
            self.expect("then")?;
            branches.push((condition, self.some_list()?));
            self.skip_newlines()?;
            match self.reserved() {
                Some("elif") => self.at += 4,
                Some("else") => {
                    self.at += 4;
                    let otherwise = Some(self.some_list()?);
                    self.expect("fi")?;
                    return Ok(Kind::If { branches, otherwise });
                }
                Some("fi") => {
                    self.at += 2;
                    return Ok(Kind::If { branches, otherwise: None });
                }
                _ => return self.unexpected(),
            }
        }
    }

    fn for_command(&mut self) -> Parse<Kind> {
        self.at += 3;
        self.skip_blanks();
        if self.take("((") {
            let mut parts = [Word::default(), Word::default(), Word::default()];
            for (index, part) in parts.iter_mut().enumerate() {
                *part = Word { parts: self.arithmetic_parts(if index < 2 { ";" } else { "))" })? };
            }
            self.skip_blanks();
            self.take(";");
            return Ok(Kind::ForArithmetic { parts, body: self.do_group()? });
        }
        let name = self.name();
        if name.is_empty() {
            return self.unexpected();
        }
        self.skip_newlines()?;
        let mut words = None;
        if self.reserved() == Some("in") {
            self.at += 2;
            let list = words.insert(Vec::new());
            loop {
                self.skip_blanks();
                match self.peek() {
                    Some(c) if !is_meta(c) => list.push(self.word()?),
                    _ => break,
                }
            }
        }
        self.skip_blanks();
        if self.peek() == Some(';') {
            self.at += 1;
        }
        Ok(Kind::For { name, words, body: self.do_group()? })
    }

    fn case_command(&mut self) -> Parse<Kind> {
        self.at += 4;
        self.skip_blanks();
        let word = self.word()?;
        self.expect("in")?;
        let mut arms = Vec::new();
        loop {
            self.skip_newlines()?;
            if self.reserved() == Some("esac") {
                self.at += 4;
                return Ok(Kind::Case { word, arms });
            }
            self.take("(");
            let mut patterns = Vec::new();
            loop {
                self.skip_blanks();
                match self.peek() {
                    Some(c) if !is_meta(c) => patterns.push(self.word()?),
                    _ => return self.unexpected(),
                }
                self.skip_blanks();
                if self.take(")") {
                    break;
                }
                if !self.take("|") {
                    return self.unexpected();
                }
            }
            let body = self.list()?;
            self.skip_newlines()?;
            let end = if self.take(";;&") {
                ArmEnd::TestNext
            } else if self.take(";;") {
                ArmEnd::Done
            } else if self.take(";&") {
                ArmEnd::FallThrough
            } else if self.reserved() == Some("esac") {
                ArmEnd::Done
            } else {
                return self.unexpected();
            };
            arms.push(Arm { patterns, body, end });
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        if self.peek().is_some_and(is_name_start) {
            while let Some(c) = self.peek().filter(|c| is_name_part(*c)) {
                name.push(c);
                self.at += 1;
            }
        }
        name
    }

    fn function_name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.peek().filter(|c| is_name_part(*c) || "-.:@+".contains(*c)) {
            name.push(c);
            self.at += 1;
        }
        name
    }

    /// `name ()` and its body, where they stand here.
    fn function(&mut self) -> Parse<Option<Kind>> {
        let (at, line) = (self.at, self.line);
        let name = self.function_name();
        self.skip_blanks();
        if !name.is_empty() && self.take("(") {
            self.skip_blanks();
            if !self.take(")") {
                return self.unexpected();
            }
            return Ok(Some(self.function_body(name)?));
        }
        (self.at, self.line) = (at, line);
        Ok(None)
    }

    fn function_body(&mut self, name: String) -> Parse<Kind> {
        self.skip_newlines()?;
        let body = self.command()?;
        if matches!(body.kind, Kind::Simple { .. } | Kind::Function { .. }) || name.is_empty() {
            return self.fail("syntax error: a function's body must be a compound command");
        }
        Ok(Kind::Function { name, body: Arc::new(body) })
    }

    /// `(( … ))`, unless it turns out to be a subshell within a subshell.
    fn arithmetic_command(&mut self) -> Option<Kind> {
        let (at, line) = (self.at, self.line);
        self.at += 2;
        if let Ok(parts) = self.arithmetic_parts("))") {
            return Some(Kind::Arithmetic(Word { parts }));
        }
        (self.at, self.line) = (at, line);
        None
    }

    fn simple(&mut self, line: usize) -> Parse<Command> {
        let (mut assignments, mut arguments, mut redirects) = (Vec::new(), Vec::new(), Vec::new());
        let mut declares = false;
        loop {
            self.skip_blanks();
            if let Some(redirect) = self.redirect()? {
                redirects.push(redirect);
                continue;
            }
            match self.peek() {
                Some(c) if !is_meta(c) => {}
                Some('(') if !arguments.is_empty() || !assignments.is_empty() => return self.unexpected(),
                _ => break,
            }
            if (arguments.is_empty() || declares)
                && let Some(assignment) = self.assignment()?
            {
                if arguments.is_empty() {
                    assignments.push(assignment);
                } else {
                    arguments.push(Argument::Assignment(assignment));
                }
                continue;
            }
            let word = self.word()?;
            if arguments.is_empty() {
                declares = word.literal().is_some_and(|name| DECLARATIONS.contains(&name.as_str()));
            }
            arguments.push(Argument::Word(word));
        }
        if assignments.is_empty() && arguments.is_empty() && redirects.is_empty() {
            return self.unexpected();
        }
        Ok(Command { kind: Kind::Simple { assignments, arguments }, redirects, line })
    }

    /// `name=value`, `name+=value`, `name[index]=value` and `name=( … )`, where one stands here.
    fn assignment(&mut self) -> Parse<Option<Assignment>> {
        let (at, line) = (self.at, self.line);
        let name = self.name();
        let mut index = None;
        if !name.is_empty() && self.peek() == Some('[') {
            self.at += 1;
            let Ok(parts) = self.parts_until(&[']'], false) else {
                (self.at, self.line) = (at, line);
                return Ok(None);
            };
            index = Some(Word { parts });
        }
        let append = self.looking_at("+=");
        if name.is_empty() || !(self.take("+=") || self.take("=")) {
            (self.at, self.line) = (at, line);
            return Ok(None);
        }
        let value = if self.take("(") { self.array()? } else { AssignedValue::Scalar(self.value_word()?) };
        Ok(Some(Assignment { name, index, append, value }))
    }

    /// The word after `=`, which may be empty.
    fn value_word(&mut self) -> Parse<Word> {
        match self.peek() {
            Some(c) if !is_meta(c) => self.word(),
            _ => Ok(Word::default()),
        }
    }

    fn array(&mut self) -> Parse<AssignedValue> {
        let mut elements = Vec::new();
        loop {
            self.skip_newlines()?;
            if self.take(")") {
                return Ok(AssignedValue::Array(elements));
            }
            match self.peek() {
                Some('[') => {
                    self.at += 1;
                    let index = Word { parts: self.parts_until(&[']'], false)? };
                    if !self.take("=") {
                        return self.unexpected();
                    }
                    elements.push((Some(index), self.value_word()?));
                }
                Some(c) if !is_meta(c) => elements.push((None, self.word()?)),
                _ => return self.unexpected(),
            }
        }
    }

    fn redirect(&mut self) -> Parse<Option<Redirect>> {
        if self.looking_at("&>") {
            self.at += 2;
            let append = self.take(">");
            let word = self.target()?;
            return Ok(Some(Redirect { descriptor: None, kind: RedirectKind::Both { word, append } }));
        }
        let digits = self.chars[self.at..].iter().take_while(|c| c.is_ascii_digit()).count();
        if !matches!(self.peek_at(digits), Some('<' | '>')) {
            return Ok(None);
        }
        let number: String = self.chars[self.at..self.at + digits].iter().collect();
        let descriptor = if digits == 0 { None } else { number.parse().ok() };
        self.at += digits;
        if matches!(self.peek_at(1), Some('(')) {
            return self.fail("process substitution is not played by this shell; use a pipe or a file");
        }
        let kind = if self.take("<<<") {
            RedirectKind::Text(self.target()?)
        } else if self.take("<<") {
            self.here_document()?
        } else if self.take("<>") {
            RedirectKind::ReadWrite(self.target()?)
        } else if self.take("<&") {
            return Ok(Some(Redirect {
                descriptor: descriptor.or(Some(0)),
                kind: RedirectKind::Duplicate(self.target()?),
            }));
        } else if self.take("<") {
            RedirectKind::Read(self.target()?)
        } else if self.take(">>") {
            RedirectKind::Append(self.target()?)
        } else if self.take(">&") {
            let word = self.target()?;
            let is_descriptor =
                word.literal().is_none_or(|text| text == "-" || text.chars().all(|c| c.is_ascii_digit()));
            if is_descriptor || descriptor.is_some() {
                RedirectKind::Duplicate(word)
            } else {
                RedirectKind::Both { word, append: false }
            }
        } else {
            let _ = self.take(">|") || self.take(">");
            RedirectKind::Write(self.target()?)
        };
        Ok(Some(Redirect { descriptor, kind }))
    }

    fn target(&mut self) -> Parse<Word> {
        self.skip_blanks();
        match self.peek() {
            Some(c) if !is_meta(c) => self.word(),
            Some('(') => self.fail("process substitution is not played by this shell; use a pipe or a file"),
            _ => self.unexpected(),
        }
    }

    fn here_document(&mut self) -> Parse<RedirectKind> {
        let strip_tabs = self.take("-");
        self.skip_blanks();
        let began = self.at;
        let word = self.target()?;
        let is_literal = self.chars[began..self.at].iter().any(|c| matches!(c, '\'' | '"' | '\\'));
        let Some(delimiter) = word.literal() else { return self.fail("a here-document's delimiter must be plain") };
        let body = Arc::new(OnceLock::new());
        self.documents.push(HereDocument { delimiter, strip_tabs, is_literal, body: Arc::clone(&body) });
        Ok(RedirectKind::Document(body))
    }

    // === [[ ]] ===

    fn test_or(&mut self) -> Parse<Test> {
        self.deeper(|parser| {
            let mut left = parser.test_and()?;
            loop {
                parser.skip_newlines()?;
                if !parser.take("||") {
                    return Ok(left);
                }
                left = Test::Or(Box::new(left), Box::new(parser.test_and()?));
            }
        })
    }

    fn test_and(&mut self) -> Parse<Test> {
        let mut left = self.test_primary()?;
        loop {
            self.skip_newlines()?;
            if !self.take("&&") {
                return Ok(left);
            }
            left = Test::And(Box::new(left), Box::new(self.test_primary()?));
        }
    }

    fn test_primary(&mut self) -> Parse<Test> {
        self.skip_newlines()?;
        if self.take("(") {
            let inner = self.test_or()?;
            self.skip_newlines()?;
            return if self.take(")") { Ok(inner) } else { self.unexpected() };
        }
        if self.reserved() == Some("!") {
            self.at += 1;
            return Ok(Test::Not(Box::new(self.deeper(Self::test_primary)?)));
        }
        if self.peek().is_none_or(is_meta) || self.looking_at("]]") {
            return self.fail("syntax error in conditional expression");
        }
        let first = self.word()?;
        if let Some(operator) = first.literal().filter(|text| text.len() == 2 && text.starts_with('-')) {
            self.skip_blanks();
            if self.peek().is_some_and(|c| !is_meta(c)) && !self.looking_at("]]") {
                return Ok(Test::Unary(operator, self.word()?));
            }
        }
        self.skip_blanks();
        let operator: String = match self.peek() {
            Some(c @ ('<' | '>')) => {
                self.at += 1;
                c.to_string()
            }
            Some(c) if !is_meta(c) && !self.looking_at("]]") => {
                self.chars[self.at..].iter().take_while(|c| !is_meta(**c)).collect()
            }
            _ => return Ok(Test::Unary("-n".to_owned(), first)),
        };
        if operator != ">" && operator != "<" {
            if !TEST_OPERATORS.contains(&operator.as_str()) {
                return self.fail(format!("conditional binary operator expected, found `{operator}'"));
            }
            self.at += operator.chars().count();
        }
        self.skip_blanks();
        let second = if operator == "=~" { self.expression_word()? } else { self.word()? };
        Ok(Test::Binary(first, operator, second))
    }
}
