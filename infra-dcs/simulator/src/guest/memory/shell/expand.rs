//! Expansion of words (XCU 2.6): braces, parameters, commands, arithmetic, fields, paths.

use futures::future::BoxFuture;

use super::{
    arithmetic,
    ast::{Index, Operation, Parameter, Part, Word},
    braces,
    exec::{Shell, Stop},
    pattern::{self, PatternChar},
    state::State,
};

/// Most words that one command may expand to.
const MAX_FIELDS: usize = 100_000;

/// Fields as they come into being.
pub(super) struct Fields {
    done: Vec<Vec<PatternChar>>,
    current: Option<Vec<PatternChar>>,
    /// Whether expansions are split.
    splits: bool,
    ifs: String,
}

impl Fields {
    fn new(splits: bool, ifs: String) -> Self {
        Self { done: Vec::new(), current: None, splits, ifs }
    }

    fn push(&mut self, text: &str, quoted: bool) {
        self.current.get_or_insert_default().extend(text.chars().map(|c| (c, quoted)));
    }

    fn end(&mut self) {
        self.done.extend(self.current.take());
    }

    /// The value of an unquoted expansion.
    fn value(&mut self, text: &str) {
        if !self.splits {
            return self.push(text, false);
        }
        let is_space = |c: char| c.is_ascii_whitespace();
        let mut after_separator = false;
        for c in text.chars() {
            if !self.ifs.contains(c) {
                self.current.get_or_insert_default().push((c, false));
                after_separator = false;
            } else if is_space(c) {
                self.end();
            } else {
                // Two separators that are no spaces have an empty field between them.
                if self.current.is_none() && (after_separator || self.done.is_empty()) {
                    self.current = Some(Vec::new());
                }
                self.end();
                after_separator = true;
            }
        }
    }
}

/// What a parameter is.
enum Found {
    Unset,
    One(String),
    /// `$@` or `$*` and their like; whether they are joined within quotes.
    Many(Vec<String>, bool),
}

impl Shell<'_> {
    /// Words to fields, with everything that a command's words undergo.
    pub(super) async fn fields(&mut self, word: &Word) -> Result<Vec<String>, Stop> {
        let words = if self.state.options.posix { vec![word.clone()] } else { braces::expand(word) };
        let mut result = Vec::new();
        for word in &words {
            let mut fields = Fields::new(true, self.state.ifs());
            self.parts(&word.parts, false, &mut fields).await?;
            fields.end();
            for field in fields.done {
                if !self.state.options.noglob && pattern::is_pattern(&field) {
                    let found = self.glob(&field)?;
                    if found.is_empty() { result.push(pattern::text(&field)) } else { result.extend(found) }
                } else {
                    result.push(pattern::text(&field));
                }
                if result.len() > MAX_FIELDS {
                    return Err(Stop::Fatal(format!("a command of more than {MAX_FIELDS} words")));
                }
            }
        }
        Ok(result)
    }

    /// A word as one pattern.
    pub(super) async fn pattern(&mut self, word: &Word) -> Result<Vec<PatternChar>, Stop> {
        let mut fields = Fields::new(false, self.state.ifs());
        self.parts(&word.parts, false, &mut fields).await?;
        fields.end();
        let mut joined = Vec::new();
        for (index, field) in fields.done.into_iter().enumerate() {
            if index > 0 {
                joined.push((' ', true));
            }
            joined.extend(field);
        }
        Ok(joined)
    }

    /// A word as one text.
    pub(super) async fn text(&mut self, word: &Word) -> Result<String, Stop> {
        Ok(pattern::text(&self.pattern(word).await?))
    }

    fn parts<'a>(
        &'a mut self,
        parts: &'a [Part],
        in_double: bool,
        fields: &'a mut Fields,
    ) -> BoxFuture<'a, Result<(), Stop>> {
        Box::pin(async move {
            for part in parts {
                match part {
                    Part::Text(text) => fields.push(text, in_double),
                    Part::Quoted(text) => fields.push(text, true),
                    Part::Double(inner) => {
                        // `"$@"` without parameters is no word at all.
                        let may_vanish = matches!(inner.as_slice(), [Part::Parameter(parameter)] if parameter.is_all());
                        if !may_vanish {
                            fields.current.get_or_insert_default();
                        }
                        self.parts(inner, true, fields).await?;
                    }
                    Part::Home => {
                        let home = self.state.scalar("HOME").unwrap_or_else(|| "/root".to_owned());
                        fields.push(&home, true);
                    }
                    Part::Command(list) => {
                        let text = self.substitute(list).await?;
                        if in_double { fields.push(&text, true) } else { fields.value(&text) }
                    }
                    Part::Arithmetic(word) => {
                        let value = self.arithmetic(word).await?.to_string();
                        if in_double { fields.push(&value, true) } else { fields.value(&value) }
                    }
                    Part::Parameter(parameter) => self.parameter(parameter, in_double, fields).await?,
                }
            }
            Ok(())
        })
    }

    /// Value of an arithmetic expression.
    pub(super) async fn arithmetic(&mut self, word: &Word) -> Result<i64, Stop> {
        let text = self.text(word).await?;
        self.compute(&text)
    }

    pub(super) fn compute(&mut self, text: &str) -> Result<i64, Stop> {
        let nounset = self.state.options.nounset;
        let result = arithmetic::evaluate(text, &mut StateNames { state: &mut self.state, nounset });
        match result {
            Ok(value) => Ok(value),
            Err(reason) => {
                self.complain(&reason);
                Err(Stop::Exit(1))
            }
        }
    }

    async fn find(&mut self, parameter: &Parameter) -> Result<Found, Stop> {
        let name = parameter.name.as_str();
        let positional = |state: &State| state.positional.clone();
        let found = match (name, &parameter.index) {
            ("@", _) => Found::Many(positional(&self.state), false),
            ("*", _) => Found::Many(positional(&self.state), true),
            ("#", _) => Found::One(self.state.positional.len().to_string()),
            ("?", _) => Found::One(self.state.status.to_string()),
            ("$", _) => Found::One("1234".to_owned()),
            ("!", _) => Found::Unset,
            ("-", _) => Found::One(self.flags()),
            ("0", _) => Found::One(self.state.name.clone()),
            ("LINENO", _) => Found::One(self.state.line.to_string()),
            ("RANDOM", _) => Found::One((self.draw() & 0x7fff).to_string()),
            ("SECONDS", _) => Found::One((self.passed() / 1000).to_string()),
            ("HOSTNAME", None) if self.state.scalar("HOSTNAME").is_none() => Found::One(self.machine.hostname.clone()),
            (name, _) if name.starts_with(|c: char| c.is_ascii_digit()) => {
                let number: usize = name.parse().unwrap_or(usize::MAX);
                self.state.positional.get(number.wrapping_sub(1)).cloned().map_or(Found::Unset, Found::One)
            }
            (name, None) => self.state.scalar(name).map_or(Found::Unset, Found::One),
            (name, Some(Index::All | Index::Joined)) => {
                let joined = matches!(parameter.index, Some(Index::Joined));
                let elements = self.state.elements(name);
                let keys = matches!(parameter.operation, Operation::Keys);
                let texts = elements.into_iter().map(|(key, text)| if keys { key } else { text }).collect();
                Found::Many(texts, joined)
            }
            (name, Some(Index::One(word))) => {
                let key = if self.state.is_associative(name) {
                    self.text(word).await?
                } else {
                    let index = self.arithmetic(word).await?;
                    let end = self.state.elements(name).last().and_then(|(key, _)| key.parse::<i64>().ok());
                    if index < 0 { end.unwrap_or(-1) + 1 + index } else { index }.to_string()
                };
                let found = self.state.elements(name).into_iter().find(|(present, _)| *present == key);
                found.map_or(Found::Unset, |(_, text)| Found::One(text))
            }
        };
        match found {
            Found::One(name) if parameter.indirect => Ok(self.state.scalar(&name).map_or(Found::Unset, Found::One)),
            found => Ok(found),
        }
    }

    async fn parameter(&mut self, parameter: &Parameter, in_double: bool, fields: &mut Fields) -> Result<(), Stop> {
        let mut found = self.find(parameter).await?;
        if let Operation::Unset { operator, empty_too, word } = &parameter.operation {
            let counts = match &found {
                Found::Unset => false,
                Found::One(text) => !empty_too || !text.is_empty(),
                Found::Many(texts, _) => !texts.is_empty() && (!empty_too || texts.iter().any(|text| !text.is_empty())),
            };
            match (operator, counts) {
                ('+', true) | ('-', false) => {
                    return self.parts(&word.parts, in_double, fields).await;
                }
                ('+', false) => return Ok(()),
                ('=', false) => {
                    let text = self.text(word).await?;
                    if let Err(reason) = self.state.set(&parameter.name, text.clone()) {
                        self.complain(&reason);
                        return Err(Stop::Exit(1));
                    }
                    found = Found::One(text);
                }
                ('?', false) => {
                    let text = self.text(word).await?;
                    let text = if text.is_empty() { "parameter null or not set".to_owned() } else { text };
                    self.complain(&format!("{}: {text}", parameter.name));
                    return Err(Stop::Exit(1));
                }
                _ => {}
            }
        }
        if matches!(found, Found::Unset) && self.state.options.nounset {
            self.complain(&format!("{}: unbound variable", parameter.name));
            return Err(Stop::Exit(1));
        }
        let found = self.operate(parameter, found).await?;
        match found {
            Found::Unset => {}
            Found::One(text) if in_double => fields.push(&text, true),
            Found::One(text) => fields.value(&text),
            Found::Many(texts, true) if in_double => {
                let separator = self.state.ifs().chars().next().map(String::from).unwrap_or_default();
                fields.push(&texts.join(&separator), true);
            }
            Found::Many(texts, _) => {
                for (index, text) in texts.iter().enumerate() {
                    if index > 0 {
                        fields.end();
                    }
                    if in_double { fields.push(text, true) } else { fields.value(text) }
                }
            }
        }
        Ok(())
    }

    async fn operate(&mut self, parameter: &Parameter, found: Found) -> Result<Found, Stop> {
        let each = |found: Found, change: &dyn Fn(&str) -> String| match found {
            Found::Unset => Found::One(change("")),
            Found::One(text) => Found::One(change(&text)),
            Found::Many(texts, joined) => Found::Many(texts.iter().map(|text| change(text)).collect(), joined),
        };
        Ok(match &parameter.operation {
            Operation::None | Operation::Unset { .. } | Operation::Keys => found,
            Operation::Length => Found::One(match found {
                Found::Unset => "0".to_owned(),
                Found::One(text) => text.chars().count().to_string(),
                Found::Many(texts, _) => texts.len().to_string(),
            }),
            Operation::Remove { from_end, longest, pattern } => {
                let pattern = self.pattern(pattern).await?;
                self.charge_match(&found, pattern.len())?;
                each(found, &|text| pattern::remove(text, &pattern, *from_end, *longest))
            }
            Operation::Replace { all, anchor, pattern, with } => {
                let pattern = self.pattern(pattern).await?;
                let with = self.text(with).await?;
                self.charge_match(&found, pattern.len())?;
                each(found, &|text| pattern::replace(text, &pattern, &with, *all, *anchor))
            }
            Operation::Case { upper, all } => each(found, &|text| change_case(text, *upper, *all)),
            Operation::Substring { offset, length } => {
                let offset = self.arithmetic(offset).await?;
                let length = match length {
                    Some(word) => Some(self.arithmetic(word).await?),
                    None => None,
                };
                match found {
                    Found::Many(mut texts, joined) => {
                        if parameter.index.is_none() {
                            // Of the positional parameters, 0 is the shell's own name.
                            texts.insert(0, self.state.name.clone());
                        }
                        Found::Many(slice(&texts, offset, length), joined)
                    }
                    Found::One(text) => {
                        let chars: Vec<char> = text.chars().collect();
                        Found::One(slice(&chars, offset, length).into_iter().collect())
                    }
                    Found::Unset => Found::One(String::new()),
                }
            }
        })
    }

    /// Patterns are tried at each place of a text: what that costs at most.
    fn charge_match(&mut self, found: &Found, pattern: usize) -> Result<(), Stop> {
        let length = match found {
            Found::Unset => 0,
            Found::One(text) => text.len(),
            Found::Many(texts, _) => texts.iter().map(String::len).sum(),
        } as u64;
        self.charge(length.saturating_mul(length).saturating_mul(pattern as u64 + 1) / 4096)
    }

    /// Paths that a pattern covers, sorted.
    fn glob(&mut self, field: &[PatternChar]) -> Result<Vec<String>, Stop> {
        let parts: Vec<&[PatternChar]> = field.split(|(c, _)| *c == '/').collect();
        let absolute = field.first().is_some_and(|(c, _)| *c == '/');
        let mut found = vec![if absolute { "/".to_owned() } else { String::new() }];
        for (index, part) in parts.iter().enumerate() {
            if part.is_empty() {
                continue;
            }
            let is_last = index + 1 == parts.len();
            let mut next = Vec::new();
            for base in found {
                if !pattern::is_pattern(part) {
                    let path = format!("{base}{}", pattern::text(part));
                    let there = self.machine.root.link_metadata(&self.absolute(&path)).is_ok();
                    if there {
                        next.push(if is_last { path } else { format!("{path}/") });
                    }
                    continue;
                }
                let folder = self.absolute(if base.is_empty() { "." } else { &base });
                let names = self.machine.root.list(&folder).unwrap_or_default();
                self.charge(names.len() as u64)?;
                for name in names {
                    let hidden = name.starts_with('.') && part.first().is_none_or(|(c, _)| *c != '.');
                    let chars: Vec<char> = name.chars().collect();
                    if hidden || !pattern::matches(part, &chars) {
                        continue;
                    }
                    let path = format!("{base}{name}");
                    if is_last {
                        next.push(path);
                    } else if self.machine.root.is_directory(&self.absolute(&path)) {
                        next.push(format!("{path}/"));
                    }
                }
            }
            found = next;
        }
        found.retain(|path| !path.is_empty() && path != "/");
        Ok(found)
    }
}

impl Parameter {
    fn is_all(&self) -> bool {
        let plain = matches!(self.operation, Operation::None | Operation::Keys | Operation::Substring { .. });
        plain && (self.name == "@" || matches!(self.index, Some(Index::All)))
    }
}

fn slice<T: Clone>(all: &[T], offset: i64, length: Option<i64>) -> Vec<T> {
    let count = i64::try_from(all.len()).unwrap_or(i64::MAX);
    let from = if offset < 0 { (count + offset).max(-1) } else { offset.min(count) };
    if from < 0 {
        return Vec::new();
    }
    let to = match length {
        None => count,
        Some(length) if length < 0 => count + length,
        Some(length) => from.saturating_add(length).min(count),
    };
    let (from, to) = (usize::try_from(from).unwrap_or_default(), usize::try_from(to).unwrap_or_default());
    all.get(from..to.max(from)).unwrap_or_default().to_vec()
}

fn change_case(text: &str, upper: bool, all: bool) -> String {
    let change = |c: char| -> String { if upper { c.to_uppercase().collect() } else { c.to_lowercase().collect() } };
    let whole = |text: &str| text.chars().map(change).collect::<String>();
    if all {
        return whole(text);
    }
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| change(first) + chars.as_str())
}

struct StateNames<'a> {
    state: &'a mut State,
    nounset: bool,
}

impl StateNames<'_> {
    /// A name and its index, of which a name in it is replaced by its value.
    fn element<'n>(&self, name: &'n str) -> Option<(&'n str, String)> {
        let (name, rest) = name.split_once('[')?;
        let index = rest.trim_end_matches(']');
        let is_name = index.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let plain = !is_name || self.state.is_associative(name);
        Some((name, if plain { index.to_owned() } else { self.state.scalar(index).unwrap_or_else(|| "0".to_owned()) }))
    }
}

impl arithmetic::Names for StateNames<'_> {
    fn get(&self, name: &str) -> Result<String, String> {
        let found = match self.element(name) {
            Some((name, index)) => {
                self.state.elements(name).into_iter().find(|(key, _)| *key == index).map(|(_, text)| text)
            }
            None => self.state.scalar(name),
        };
        match found {
            None if self.nounset => Err(format!("{name}: unbound variable")),
            found => Ok(found.unwrap_or_default()),
        }
    }

    fn set(&mut self, name: &str, value: i64) -> Result<(), String> {
        match self.element(name) {
            Some((name, index)) => self.state.set_element(name, &index, value.to_string()),
            None => self.state.set(name, value.to_string()),
        }
    }
}
