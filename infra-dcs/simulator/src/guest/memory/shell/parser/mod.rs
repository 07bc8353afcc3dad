//! From text to [`List`]. Written by hand: the depth of what it calls is bounded, whatever a script nests; words are
//! read together with the commands in them; and nothing of a script, which may hold secrets, outlives it in a cache.

mod command;
mod word;

use std::sync::{Arc, OnceLock};

use super::ast::{List, Word};

/// Commands within commands: deeper is a mistake, and must not exhaust the stack.
const MAX_DEPTH: usize = 40;
/// Longest script in characters.
const MAX_SCRIPT: usize = 1 << 20;

/// A script that is none, in bash's words where it has some.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct SyntaxError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

type Parse<T> = Result<T, SyntaxError>;

/// Reads a whole script.
pub(super) fn parse(text: &str) -> Parse<List> {
    if text.len() > MAX_SCRIPT {
        return Err(SyntaxError { line: 1, reason: format!("a script of more than {MAX_SCRIPT} bytes") });
    }
    let mut parser = Parser::new(text, 0, 1);
    let list = parser.list()?;
    match parser.peek() {
        None => Ok(list),
        Some(_) => parser.unexpected(),
    }
}

struct HereDocument {
    delimiter: String,
    strip_tabs: bool,
    is_literal: bool,
    body: Arc<OnceLock<Word>>,
}

struct Parser {
    chars: Vec<char>,
    at: usize,
    line: usize,
    depth: usize,
    documents: Vec<HereDocument>,
}

impl Parser {
    fn new(text: &str, depth: usize, line: usize) -> Self {
        Self { chars: text.chars().collect(), at: 0, line, depth, documents: Vec::new() }
    }

    fn fail<T>(&self, reason: impl Into<String>) -> Parse<T> {
        Err(SyntaxError { line: self.line, reason: reason.into() })
    }

    fn unexpected<T>(&self) -> Parse<T> {
        let token: String = match self.peek() {
            None => return self.fail("syntax error: unexpected end of file"),
            Some('\n') => "newline".to_owned(),
            Some(c) if is_meta(c) => {
                let two: String = self.chars[self.at..].iter().take(2).collect();
                if matches!(two.as_str(), ";;" | "&&" | "||" | "<<" | ">>") { two } else { c.to_string() }
            }
            Some(_) => self.chars[self.at..].iter().take_while(|c| !is_meta(**c)).take(40).collect(),
        };
        self.fail(format!("syntax error near unexpected token `{token}'"))
    }

    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parse<T>) -> Parse<T> {
        if self.depth >= MAX_DEPTH {
            return self.fail(format!("commands are nested more than {MAX_DEPTH} deep"));
        }
        self.depth += 1;
        let result = parse(self);
        self.depth -= 1;
        result
    }

    // === characters ===

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn peek_at(&self, offset: usize) -> Option<char> {
        self.chars.get(self.at + offset).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        if c == '\n' {
            self.line += 1;
        }
        Some(c)
    }

    fn looking_at(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(offset, c)| self.peek_at(offset) == Some(c))
    }

    fn take(&mut self, text: &str) -> bool {
        let found = self.looking_at(text);
        if found {
            self.at += text.chars().count();
        }
        found
    }

    /// Passes over blanks, continued lines and comments.
    fn skip_blanks(&mut self) {
        loop {
            match self.peek() {
                Some(' ' | '\t' | '\r') => self.at += 1,
                Some('\\') if self.peek_at(1) == Some('\n') => {
                    self.at += 2;
                    self.line += 1;
                }
                Some('#') if self.at == 0 || self.chars.get(self.at - 1).is_some_and(|c| is_meta(*c)) => {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    /// Passes over a newline, and reads the documents that begin after it.
    fn newline(&mut self) -> Parse<()> {
        self.next();
        for document in std::mem::take(&mut self.documents) {
            self.read_document(&document)?;
        }
        Ok(())
    }

    fn skip_newlines(&mut self) -> Parse<()> {
        loop {
            self.skip_blanks();
            if self.peek() != Some('\n') {
                return Ok(());
            }
            self.newline()?;
        }
    }

    fn read_document(&mut self, document: &HereDocument) -> Parse<()> {
        let began = self.line;
        let mut text = String::new();
        loop {
            if self.peek().is_none() {
                // bash warns and takes what there is; a script cut off is a mistake.
                return self.fail(format!(
                    "here-document at line {began} delimited by end-of-file (wanted `{}')",
                    document.delimiter
                ));
            }
            let mut line = String::new();
            while let Some(c) = self.next() {
                if c == '\n' {
                    break;
                }
                line.push(c);
            }
            let line = if document.strip_tabs { line.trim_start_matches('\t') } else { &line };
            if line == document.delimiter {
                break;
            }
            text.push_str(line);
            text.push('\n');
        }
        let word = if document.is_literal {
            Word::quoted(text)
        } else {
            let mut parser = Self::new(&text, self.depth, began);
            Word { parts: vec![super::ast::Part::Double(parser.document_parts()?)] }
        };
        // Each document is read once.
        let _ = document.body.set(word);
        Ok(())
    }
}

/// Characters that end a word.
fn is_meta(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | '<' | '>' | '(' | ')')
}

fn is_name_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

fn is_name_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}
