//! The part of client-go's `JSONPath` that columns of custom resources use: fields, indexes and slices, wildcards,
//! recursive descent and filters. Keys that are missing select nothing.

use std::cmp::Ordering;

use serde_json::Value;

/// A path that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// A path.
#[derive(Debug, PartialEq)]
pub(super) struct Path(Vec<Step>);

#[derive(Debug, PartialEq)]
enum Step {
    Field(String),
    /// Every field or item.
    Wildcard,
    /// Everything below that has something below itself, and where the path stands.
    Descent,
    Slice {
        start: Option<i64>,
        end: Option<i64>,
        step: Option<i64>,
    },
    Index(i64),
    Union(Vec<Path>),
    Filter {
        left: Path,
        test: Option<(Operator, Operand)>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, PartialEq)]
enum Operand {
    Literal(Value),
    Path(Path),
}

impl Path {
    /// Reads a path such as `.status.conditions[?(@.type=="Ready")].status`.
    pub fn parse(text: &str) -> Result<Self, Unreadable> {
        let mut steps = Vec::new();
        let mut rest = text.trim();
        while let Some(first) = rest.chars().next() {
            rest = if let Some(filter) = rest.strip_prefix("[?(") {
                let (body, after) = filter_body(filter)?;
                steps.push(filter_step(body)?);
                after
            } else if let Some(after) = rest.strip_prefix("..") {
                if steps.last() == Some(&Step::Descent) {
                    return Err(Unreadable);
                }
                steps.push(Step::Descent);
                if after.starts_with(is_alphanumeric) { field(after, &mut steps) } else { after }
            } else if let Some(array) = rest.strip_prefix('[') {
                let (body, after) = array.split_once(']').ok_or(Unreadable)?;
                bracket(body, &mut steps)?;
                after
            } else if let Some(after) = rest.strip_prefix('.') {
                field(after, &mut steps)
            } else if let Some(after) = rest.strip_prefix(['@', '$', ' ']) {
                after
            } else if is_alphanumeric(first) {
                field(rest, &mut steps)
            } else {
                return Err(Unreadable);
            };
        }
        Ok(Self(steps))
    }

    /// What the path selects; none when it does not fit the value.
    pub fn select<'a>(&self, root: &'a Value) -> Option<Vec<&'a Value>> {
        let mut selected = vec![root];
        for step in &self.0 {
            selected = step.select(&selected)?;
        }
        Some(selected)
    }
}

fn is_alphanumeric(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Reads a field's name up to what ends it; a backslash takes any character into the name.
fn field<'a>(text: &'a str, steps: &mut Vec<Step>) -> &'a str {
    let mut name = String::new();
    let mut chars = text.char_indices();
    let mut end = text.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' | ' ' | ',' | '"' | '\'' | '@' | '$' | '{' | '}' | '(' | ')' => {
                end = at;
                break;
            }
            c => name.push(c),
        }
    }
    steps.push(if name == "*" { Step::Wildcard } else { Step::Field(name) });
    &text[end..]
}

/// What stands in brackets: a key in quotes, an index, a slice, or several of them.
fn bracket(body: &str, steps: &mut Vec<Step>) -> Result<(), Unreadable> {
    if body.contains(',') {
        let parts = body.split(',').map(|part| Path::parse(&format!("[{}]", part.trim())));
        steps.push(Step::Union(parts.collect::<Result<_, _>>()?));
        return Ok(());
    }
    if let Some(key) = body.strip_prefix('\'').and_then(|body| body.strip_suffix('\'')) {
        return match field(key, steps) {
            "" => Ok(()),
            rest => {
                steps.extend(Path::parse(rest)?.0);
                Ok(())
            }
        };
    }
    let body = if body == "*" { ":" } else { body };
    let number = |text: &str| if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(|_| Unreadable) };
    steps.push(match body.split(':').collect::<Vec<_>>().as_slice() {
        [index] => Step::Index(index.parse().map_err(|_| Unreadable)?),
        [start, end] => Step::Slice { start: number(start)?, end: number(end)?, step: None },
        [start, end, step] => Step::Slice { start: number(start)?, end: number(end)?, step: number(step)? },
        _ => return Err(Unreadable),
    });
    Ok(())
}

/// The text of a filter up to its end, which is not within quotes, and what comes after it.
fn filter_body(text: &str) -> Result<(&str, &str), Unreadable> {
    let mut quote = None;
    let mut before = '\0';
    for (at, c) in text.char_indices() {
        match (c, quote) {
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open && before != '\\' => quote = None,
            (')', None) => {
                let after = text[at..].strip_prefix(")]").ok_or(Unreadable)?;
                return Ok((&text[..at], after));
            }
            _ => {}
        }
        before = c;
    }
    Err(Unreadable)
}

fn filter_step(body: &str) -> Result<Step, Unreadable> {
    let is_operator = |c: char| "!<>=".contains(c);
    let Some(at) = body.find(is_operator).filter(|at| *at > 0) else {
        return Ok(Step::Filter { left: Path::parse(body)?, test: None });
    };
    let (left, rest) = body.split_at(at);
    let end = rest.find(|c| !is_operator(c)).ok_or(Unreadable)?;
    let (operator, right) = rest.split_at(end);
    let operator = match operator {
        "==" => Operator::Equal,
        "!=" => Operator::Unequal,
        "<" => Operator::Less,
        "<=" => Operator::LessOrEqual,
        ">" => Operator::Greater,
        ">=" => Operator::GreaterOrEqual,
        _ => return Err(Unreadable),
    };
    Ok(Step::Filter { left: Path::parse(left)?, test: Some((operator, operand(right.trim())?)) })
}

fn operand(text: &str) -> Result<Operand, Unreadable> {
    for quote in ['"', '\''] {
        if let Some(text) = text.strip_prefix(quote) {
            let text = text.strip_suffix(quote).ok_or(Unreadable)?;
            return Ok(Operand::Literal(text.replace(&format!("\\{quote}"), &quote.to_string()).into()));
        }
    }
    match text {
        "true" | "false" => Ok(Operand::Literal((text == "true").into())),
        number if number.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+') => {
            let number = number.trim_start_matches('+');
            serde_json::from_str(number).map(Operand::Literal).map_err(|_| Unreadable)
        }
        path => Path::parse(path).map(Operand::Path),
    }
}

impl Step {
    fn select<'a>(&self, input: &[&'a Value]) -> Option<Vec<&'a Value>> {
        let there = input.iter().copied().filter(|value| !value.is_null());
        match self {
            Self::Field(name) => Some(there.filter_map(|value| value.as_object()?.get(name)).collect()),
            Self::Wildcard => Some(there.flat_map(children).collect()),
            Self::Descent => {
                let mut found = Vec::new();
                there.for_each(|value| descend(value, &mut found));
                Some(found)
            }
            Self::Union(paths) => {
                let each = paths.iter().flat_map(|path| input.iter().map(move |value| path.select(value)));
                Some(each.collect::<Option<Vec<_>>>()?.into_iter().flatten().collect())
            }
            Self::Index(index) => {
                let item = |value: &'a Value| {
                    let items = value.as_array()?;
                    items.get(place(*index, items.len())?)
                };
                there.map(item).collect()
            }
            Self::Slice { start, end, step } => {
                let mut found = Vec::new();
                for value in there {
                    found.extend(slice(value.as_array()?, *start, *end, *step)?);
                }
                Some(found)
            }
            Self::Filter { left, test } => {
                let mut found = Vec::new();
                for value in input {
                    for item in value.as_array()? {
                        if passes(item, left, test.as_ref())? {
                            found.push(item);
                        }
                    }
                }
                Some(found)
            }
        }
    }
}

/// Fields of a map or items of a list.
fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Object(fields) => fields.values().collect(),
        Value::Array(items) => items.iter().collect(),
        _ => Vec::new(),
    }
}

fn descend<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    let children = children(value);
    if !children.is_empty() {
        found.push(value);
        for child in children {
            descend(child, found);
        }
    }
}

/// An index from the start, or from the end when it is negative.
fn place(index: i64, length: usize) -> Option<usize> {
    let index = if index < 0 { index + i64::try_from(length).ok()? } else { index };
    usize::try_from(index).ok()
}

fn slice(items: &[Value], start: Option<i64>, end: Option<i64>, step: Option<i64>) -> Option<Vec<&Value>> {
    let start = place(start.unwrap_or_default(), items.len())?;
    let end = end.map_or(Some(items.len()), |end| place(end, items.len()))?;
    let step = usize::try_from(step.unwrap_or(1)).ok().filter(|step| *step > 0)?;
    if start == end {
        return Some(Vec::new());
    }
    Some(items.get(start..end)?.iter().step_by(step).collect())
}

/// Whether an item passes a filter; none when it cannot be told.
fn passes(item: &Value, left: &Path, test: Option<&(Operator, Operand)>) -> Option<bool> {
    let lefts = left.select(item);
    let Some((operator, right)) = test else { return Some(lefts.is_some_and(|lefts| !lefts.is_empty())) };
    let rights = match right {
        Operand::Literal(value) => vec![value],
        Operand::Path(path) => path.select(item)?,
    };
    match (lefts?.as_slice(), rights.as_slice()) {
        ([], _) | (_, []) => Some(false),
        ([left], [right]) => {
            let order = compare(left, right)?;
            Some(match operator {
                Operator::Equal => order == Ordering::Equal,
                Operator::Unequal => order != Ordering::Equal,
                Operator::Less => order == Ordering::Less,
                Operator::LessOrEqual => order != Ordering::Greater,
                Operator::Greater => order == Ordering::Greater,
                Operator::GreaterOrEqual => order != Ordering::Less,
            })
        }
        _ => None,
    }
}

fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        (Value::Number(left), Value::Number(right)) => left.as_f64()?.partial_cmp(&right.as_f64()?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn selected(path: &str) -> Option<Value> {
        let root = json!({
            "metadata": {"name": "n", "annotations": {"example.com/a.b": "c"}},
            "status": {"conditions": [
                {"type": "Ready", "status": "True", "count": 1}, {"type": "Other (x)", "status": "False", "count": 2},
            ], "sizes": [1, 2, 3]},
        });
        Some(Path::parse(path).ok()?.select(&root)?.into_iter().cloned().collect())
    }

    #[test]
    fn paths_select() {
        for (path, wanted) in [
            (".metadata.name", json!(["n"])),
            ("metadata.name", json!(["n"])),
            (".metadata.annotations.example\\.com/a\\.b", json!(["c"])),
            (".metadata.annotations['example\\.com/a\\.b']", json!(["c"])),
            (".metadata['name']", json!(["n"])),
            (".metadata.missing.deeper", json!([])),
            (".status.conditions[0].type", json!(["Ready"])),
            (".status.conditions[-1].status", json!(["False"])),
            (".status.conditions[*].status", json!(["True", "False"])),
            (".status.sizes[1:]", json!([2, 3])),
            (".status.sizes[0,2]", json!([1, 3])),
            (".status.conditions[?(@.type==\"Ready\")].status", json!(["True"])),
            (".status.conditions[?(@.type=='Other (x)')].status", json!(["False"])),
            (".status.conditions[?(@.count>1)].type", json!(["Other (x)"])),
            (".status.conditions[?(@.missing)].type", json!([])),
            ("..name", json!(["n"])),
        ] {
            assert_eq!(selected(path), Some(wanted), "{path}");
        }
    }

    #[test]
    fn what_does_not_fit_selects_nothing_at_all() {
        for path in [".status.sizes[7]", ".metadata.name[0]", ".metadata[?(@.x)]", "[", ".a[x]", "!"] {
            assert_eq!(selected(path), None, "{path}");
        }
    }
}
