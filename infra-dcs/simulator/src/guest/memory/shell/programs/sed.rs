//! `sed`, as far as scripts of a first boot use it: `s`, `d`, `p`, `q`, `a`, `i`, `c` and `y` is not among them, with
//! addresses by line, last line and expression.

use regex::bytes::Regex;

use super::{Context, Exit, Flags, ended, search::expression};

enum Address {
    Line(usize),
    Last,
    Matches(Regex),
}

enum Action {
    Substitute { pattern: Regex, with: Vec<Piece>, all: bool, nth: usize, print: bool },
    Delete,
    Print,
    Quit,
    Append(String),
    Insert(String),
    Change(String),
}

/// A piece of a replacement.
enum Piece {
    Text(String),
    /// `&` is group 0.
    Group(usize),
}

struct Command {
    from: Option<Address>,
    to: Option<Address>,
    negated: bool,
    action: Action,
    /// Within its range.
    inside: bool,
}

pub(super) fn sed(context: &mut Context<'_>) -> Exit {
    ended((|| {
        // An option's value is attached: `-i.bak`.
        let mut in_place = None;
        let args: Vec<String> = context
            .args
            .iter()
            .filter(|arg| {
                let suffix = arg.strip_prefix("-i").or_else(|| arg.strip_prefix("--in-place"));
                let suffix = suffix.filter(|suffix| !suffix.starts_with('n') && !suffix.starts_with('E'));
                in_place = in_place.take().or_else(|| suffix.map(|suffix| suffix.trim_start_matches('=').to_owned()));
                suffix.is_none()
            })
            .cloned()
            .collect();
        let inner = Context { args: &args, machine: &mut *context.machine, stdin: context.stdin.clone(), ..*context };
        let long = [("quiet", 'n'), ("silent", 'n'), ("regexp-extended", 'E'), ("expression", 'e')];
        let flags = Flags::parse(&inner, "nErsiuz", "ef", &long)?;
        let in_place = in_place.or_else(|| flags.has('i').then(String::new));
        let mut scripts = flags.values('e');
        let mut names = flags.operands.clone();
        if let Some(file) = flags.value('f') {
            match context.machine.root.read_text(&context.path(file)) {
                Ok(text) => scripts.push(text),
                Err(error) => return Err(context.fail(1, format!("couldn't open file {file}: {error}"))),
            }
        }
        if scripts.is_empty() {
            if names.is_empty() {
                return Err(Exit::fail(1, "Usage: sed [OPTION]... {script-only-if-no-other-script} [input-file]..."));
            }
            scripts.push(names.remove(0));
        }
        let extended = flags.has('E') || flags.has('r');
        let parse = || parse(&scripts.join("\n"), extended);
        let mut commands = parse().map_err(|reason| context.fail(1, format!("-e expression: {reason}")))?;
        let mut exit = Exit::default();
        let Some(suffix) = in_place else {
            let content: Vec<u8> =
                context.contents(&names, &mut exit).into_iter().flat_map(|(_, content)| content).collect();
            exit.stdout = run(&mut commands, &content, flags.has('n'));
            return Ok(exit);
        };
        for name in names {
            let path = context.path(&name);
            let content = match context.machine.root.read(&path) {
                Ok(content) => content,
                Err(error) => {
                    exit.complain(2, format!("sed: can't read {name}: {error}"));
                    continue;
                }
            };
            let mut commands = parse().map_err(|reason| context.fail(1, reason))?;
            let new = run(&mut commands, &content, flags.has('n'));
            let root = &mut context.machine.root;
            let kept = if suffix.is_empty() { Ok(()) } else { root.write(&format!("{path}{suffix}"), content) };
            if let Err(error) = kept.and_then(|()| root.write(&path, new)) {
                exit.complain(4, format!("sed: couldn't edit {name}: {error}"));
            }
        }
        Ok(exit)
    })())
}

fn parse(script: &str, extended: bool) -> Result<Vec<Command>, String> {
    let mut commands = Vec::new();
    let mut rest = script;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\n', ';']);
        if rest.is_empty() {
            return Ok(commands);
        }
        if rest.starts_with('#') {
            rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
            continue;
        }
        let (from, after) = address(rest, extended)?;
        rest = after.trim_start();
        let mut to = None;
        if let Some(after) = rest.strip_prefix(',').filter(|_| from.is_some()) {
            let (second, after) = address(after.trim_start(), extended)?;
            to = Some(second.ok_or("unexpected `,'")?);
            rest = after.trim_start();
        }
        let negated = rest.starts_with('!');
        rest = rest.trim_start_matches(['!', ' ']);
        let letter = rest.chars().next().ok_or("missing command")?;
        rest = &rest[letter.len_utf8()..];
        let action = match letter {
            'd' => Action::Delete,
            'p' => Action::Print,
            'q' => Action::Quit,
            'a' | 'i' | 'c' => {
                let (line, after) = rest.split_once('\n').map_or((rest, ""), |(line, after)| (line, after));
                let (line, after) = match line.trim().strip_suffix('\\').filter(|line| line.is_empty()) {
                    // The text stands on the next line.
                    Some(_) => after.split_once('\n').map_or((after, ""), |(line, after)| (line, after)),
                    None => (line.trim_start(), after),
                };
                let text = line.strip_prefix('\\').unwrap_or(line).to_owned();
                rest = after;
                match letter {
                    'a' => Action::Append(text),
                    'i' => Action::Insert(text),
                    _ => Action::Change(text),
                }
            }
            's' => {
                let (action, after) = substitution(rest, extended)?;
                rest = after;
                action
            }
            letter => return Err(format!("command `{letter}' is not played by this image's sed")),
        };
        rest = rest.trim_start_matches([' ', '\t']);
        if !rest.is_empty() && !rest.starts_with([';', '\n', '}', '#']) && !matches!(letter, 'a' | 'i' | 'c') {
            return Err("extra characters after command".to_owned());
        }
        commands.push(Command { from, to, negated, action, inside: false });
    }
}

fn address(text: &str, extended: bool) -> Result<(Option<Address>, &str), String> {
    if let Some(rest) = text.strip_prefix('$') {
        return Ok((Some(Address::Last), rest));
    }
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    if digits > 0 {
        let line = text[..digits].parse().map_err(|_| "invalid line number".to_owned())?;
        return Ok((Some(Address::Line(line)), &text[digits..]));
    }
    let delimiter = match text.strip_prefix('\\').unwrap_or(text).chars().next() {
        Some('/') => '/',
        Some(c) if text.starts_with('\\') => c,
        _ => return Ok((None, text)),
    };
    let body = text.trim_start_matches('\\');
    let (pattern, rest) = until(&body[delimiter.len_utf8()..], delimiter).ok_or("unterminated address regex")?;
    let (ignore_case, rest) = rest.strip_prefix('I').map_or((false, rest), |rest| (true, rest));
    Ok((Some(Address::Matches(expression(&pattern, extended, ignore_case)?)), rest))
}

/// Text up to a delimiter that is not escaped, of which the backslash is dropped.
fn until(text: &str, delimiter: char) -> Option<(String, &str)> {
    let mut found = String::new();
    let mut chars = text.char_indices();
    let mut in_bracket = false;
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                let (_, next) = chars.next()?;
                if next != delimiter || matches!(next, '|' | '+' | '?' | '(' | ')') {
                    found.push('\\');
                }
                found.push(next);
                continue;
            }
            '[' if !in_bracket => in_bracket = true,
            ']' if in_bracket => in_bracket = false,
            c if c == delimiter && !in_bracket => return Some((found, &text[at + c.len_utf8()..])),
            // A bracket that is never closed is a plain one.
            c if c == delimiter && !text[at..].contains(']') => return Some((found, &text[at + c.len_utf8()..])),
            _ => {}
        }
        found.push(c);
    }
    None
}

fn substitution(text: &str, extended: bool) -> Result<(Action, &str), String> {
    let delimiter = text.chars().next().ok_or("unterminated `s' command")?;
    let rest = &text[delimiter.len_utf8()..];
    let (pattern, rest) = until(rest, delimiter).ok_or("unterminated `s' command")?;
    let (with, mut rest) = until(rest, delimiter).ok_or("unterminated `s' command")?;
    let (mut all, mut print, mut ignore_case, mut nth) = (false, false, false, 0);
    while let Some(c) = rest.chars().next() {
        match c {
            'g' => all = true,
            'p' => print = true,
            'i' | 'I' => ignore_case = true,
            c if c.is_ascii_digit() => nth = nth * 10 + c as usize - '0' as usize,
            _ => break,
        }
        rest = &rest[1..];
    }
    let pattern = expression(&pattern, extended, ignore_case)?;
    Ok((Action::Substitute { pattern, with: pieces(&with), all, nth: nth.max(1), print }, rest))
}

fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let group = match c {
            '&' => Some(0),
            '\\' => match chars.next() {
                Some(c) if c.is_ascii_digit() => Some(c as usize - '0' as usize),
                Some('n') => {
                    plain.push('\n');
                    None
                }
                Some('t') => {
                    plain.push('\t');
                    None
                }
                Some(c) => {
                    plain.push(c);
                    None
                }
                None => None,
            },
            c => {
                plain.push(c);
                None
            }
        };
        if let Some(group) = group {
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
            pieces.push(Piece::Group(group));
        }
    }
    pieces.push(Piece::Text(plain));
    pieces
}

fn run(commands: &mut [Command], content: &[u8], quiet: bool) -> Vec<u8> {
    let ends_with_newline = content.ends_with(b"\n");
    let body = content.strip_suffix(b"\n").unwrap_or(content);
    let lines: Vec<&[u8]> = if content.is_empty() { Vec::new() } else { body.split(|byte| *byte == b'\n').collect() };
    let count = lines.len();
    let mut output = Vec::new();
    for (number, line) in (1..).zip(lines) {
        let mut line = line.to_vec();
        let (mut deleted, mut quits) = (false, false);
        let mut after = Vec::new();
        let newline = |output: &mut Vec<u8>| {
            if number < count || ends_with_newline {
                output.push(b'\n');
            }
        };
        for command in commands.iter_mut() {
            if selects(command, number, number == count, &line) == command.negated {
                continue;
            }
            match &command.action {
                Action::Delete => {
                    deleted = true;
                    break;
                }
                Action::Print => {
                    output.extend_from_slice(&line);
                    output.push(b'\n');
                }
                Action::Quit => {
                    quits = true;
                    break;
                }
                Action::Append(text) => after.push(text.clone()),
                Action::Insert(text) => output.extend_from_slice(format!("{text}\n").as_bytes()),
                Action::Change(text) => {
                    if !command.inside {
                        output.extend_from_slice(format!("{text}\n").as_bytes());
                    }
                    deleted = true;
                    break;
                }
                Action::Substitute { pattern, with, all, nth, print } => {
                    let (new, changed) = substitute(pattern, with, *all, *nth, &line);
                    line = new;
                    if changed && *print {
                        output.extend_from_slice(&line);
                        output.push(b'\n');
                    }
                }
            }
        }
        if !deleted && !quiet {
            output.extend_from_slice(&line);
            newline(&mut output);
        }
        for text in after {
            if output.last().is_some_and(|byte| *byte != b'\n') {
                output.push(b'\n');
            }
            output.extend_from_slice(format!("{text}\n").as_bytes());
        }
        if quits {
            break;
        }
    }
    output
}

fn selects(command: &mut Command, number: usize, is_last: bool, line: &[u8]) -> bool {
    let holds = |address: &Address| match address {
        Address::Line(wanted) => *wanted == number,
        Address::Last => is_last,
        Address::Matches(pattern) => pattern.is_match(line),
    };
    match (&command.from, &command.to) {
        (None, _) => true,
        (Some(from), None) => holds(from),
        (Some(from), Some(to)) => {
            if command.inside {
                command.inside = match to {
                    Address::Line(end) => number < *end,
                    to => !holds(to),
                };
                true
            } else if holds(from) {
                command.inside = !matches!(to, Address::Line(end) if *end <= number);
                true
            } else {
                false
            }
        }
    }
}

fn substitute(pattern: &Regex, with: &[Piece], all: bool, nth: usize, line: &[u8]) -> (Vec<u8>, bool) {
    let mut result = Vec::new();
    let (mut at, mut changed) = (0, false);
    for (count, captures) in (1..).zip(pattern.captures_iter(line)) {
        let Some(whole) = captures.get(0) else { break };
        if count < nth {
            continue;
        }
        result.extend_from_slice(&line[at..whole.start()]);
        for piece in with {
            match piece {
                Piece::Text(text) => result.extend_from_slice(text.as_bytes()),
                Piece::Group(group) => {
                    result.extend_from_slice(captures.get(*group).map_or(b"", |found| found.as_bytes()));
                }
            }
        }
        at = whole.end();
        changed = true;
        if !all {
            break;
        }
    }
    result.extend_from_slice(&line[at..]);
    (result, changed)
}
