//! Programs that work on lines of text.

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Context, Exit, Flags, ended, printf};

/// The output of `echo`; that of `sh` always knows escapes.
pub(in crate::guest::memory::shell) fn echo(args: &[String], posix: bool) -> String {
    let (mut newline, mut escapes) = (true, posix);
    let mut args = args;
    while let [first, rest @ ..] = args {
        let is_flags = first.len() > 1 && first.starts_with('-') && first[1..].chars().all(|c| "neE".contains(c));
        if !is_flags || (posix && first != "-n") {
            break;
        }
        for c in first[1..].chars() {
            match c {
                'n' => newline = false,
                'e' => escapes = true,
                _ => escapes = false,
            }
        }
        args = rest;
    }
    let text = args.join(" ");
    let (text, stopped) = if escapes { printf::escapes(&text) } else { (text, false) };
    if newline && !stopped { text + "\n" } else { text }
}

fn lines(content: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(content).lines().map(str::to_owned).collect()
}

fn joined(context: &Context<'_>, names: &[String], exit: &mut Exit) -> Vec<u8> {
    context.contents(names, exit).into_iter().flat_map(|(_, content)| content).collect()
}

/// Characters that a set of `tr` stands for.
fn set(text: &str) -> Option<Vec<char>> {
    let classes = [("[:upper:]", 'A'..='Z'), ("[:lower:]", 'a'..='z'), ("[:digit:]", '0'..='9')];
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some((name, range)) = classes.iter().find(|(name, _)| rest.starts_with(name)) {
            found.extend(range.clone());
            rest = &rest[name.len()..];
            continue;
        }
        if let Some(after) = rest.strip_prefix("[:space:]") {
            found.extend([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
            rest = after;
            continue;
        }
        if let Some(after) = rest.strip_prefix("[:alnum:]") {
            found.extend(('0'..='9').chain('A'..='Z').chain('a'..='z'));
            rest = after;
            continue;
        }
        if let Some(after) = rest.strip_prefix("[:alpha:]") {
            found.extend(('A'..='Z').chain('a'..='z'));
            rest = after;
            continue;
        }
        if rest.starts_with("[:") {
            return None;
        }
        let (c, after) = if c == '\\' {
            let next = rest[1..].chars().next()?;
            let digits = rest[1..].chars().take(3).take_while(|c| c.is_digit(8)).count();
            if digits > 0 {
                let value = u32::from_str_radix(&rest[1..=digits], 8).ok()?;
                (char::from_u32(value)?, &rest[1 + digits..])
            } else {
                let value = match next {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    other => other,
                };
                (value, &rest[1 + next.len_utf8()..])
            }
        } else {
            (c, &rest[c.len_utf8()..])
        };
        rest = after;
        let mut ahead = rest.chars();
        if let (Some('-'), Some(end)) = (ahead.next(), ahead.next()) {
            found.extend(c..=end);
            rest = ahead.as_str();
        } else {
            found.push(c);
        }
    }
    Some(found)
}

pub(super) fn tr(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let long = [("delete", 'd'), ("squeeze-repeats", 's'), ("complement", 'c')];
        let flags = Flags::parse(context, "dscC", "", &long)?;
        let sets: Option<Vec<Vec<char>>> = flags.operands.iter().map(|text| set(text)).collect();
        let Some(sets) = sets else {
            return Err(context.fail(1, "a character class that this image's tr does not know"));
        };
        let Some(first) = sets.first() else { return Err(context.fail(1, "missing operand")) };
        let complement = flags.has('c') || flags.has('C');
        let holds = |c: char| first.contains(&c) != complement;
        let text = String::from_utf8_lossy(&context.input()).into_owned();
        let squeezed = sets.last().unwrap_or(first);
        let mut result = String::new();
        for c in text.chars() {
            let mut c = c;
            if holds(c) {
                if flags.has('d') {
                    continue;
                }
                if let Some(second) = sets.get(1).filter(|second| !second.is_empty()) {
                    let at =
                        if complement { usize::MAX } else { first.iter().rposition(|found| *found == c).unwrap_or(0) };
                    c = second[at.min(second.len() - 1)];
                }
            }
            let in_squeezed = if sets.len() > 1 { squeezed.contains(&c) } else { holds(c) };
            if flags.has('s') && result.ends_with(c) && in_squeezed {
                continue;
            }
            result.push(c);
        }
        Ok(Exit::ok(result))
    })())
}

/// Ranges such as `1,3-5,7-`.
fn ranges(text: &str) -> Option<Vec<(usize, usize)>> {
    text.split(',')
        .map(|part| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let from = if from.is_empty() { 1 } else { from.parse().ok()? };
            let to = if to.is_empty() { usize::MAX } else { to.parse().ok()? };
            (from >= 1 && to >= from).then_some((from, to))
        })
        .collect()
}

pub(super) fn cut(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let long = [
            ("delimiter", 'd'),
            ("fields", 'f'),
            ("characters", 'c'),
            ("bytes", 'b'),
            ("only-delimited", 's'),
            ("output-delimiter", 'o'),
        ];
        let flags = Flags::parse(context, "sn", "dfcbo", &long)?;
        let by_field = flags.value('f');
        let Some(list) = by_field.or(flags.value('c')).or(flags.value('b')) else {
            return Err(context.fail(1, "you must specify a list of bytes, characters, or fields"));
        };
        let Some(ranges) = ranges(list) else { return Err(context.fail(1, "invalid field range")) };
        let is_in = |number: usize| ranges.iter().any(|(from, to)| (*from..=*to).contains(&number));
        let delimiter = flags.value('d').unwrap_or("\t");
        let mut exit = Exit::default();
        for line in lines(&joined(context, &flags.operands, &mut exit)) {
            let kept = if by_field.is_some() {
                if !line.contains(delimiter) {
                    if !flags.has('s') {
                        exit.print(format!("{line}\n"));
                    }
                    continue;
                }
                let fields = (1..).zip(line.split(delimiter)).filter(|(number, _)| is_in(*number));
                let fields: Vec<&str> = fields.map(|(_, field)| field).collect();
                fields.join(flags.value('o').unwrap_or(delimiter))
            } else {
                (1..).zip(line.chars()).filter(|(number, _)| is_in(*number)).map(|(_, c)| c).collect()
            };
            exit.print(format!("{kept}\n"));
        }
        Ok(exit)
    })())
}

/// Lines or bytes of `head` and `tail`: the number, its sign, and whether bytes are meant.
fn amount(context: &Context<'_>, flags: &Flags, old: Option<&String>) -> Result<(usize, Option<char>, bool), Exit> {
    let by_bytes = flags.has('c');
    let text = flags.value(if by_bytes { 'c' } else { 'n' }).map(str::to_owned);
    let text = text.or_else(|| old.map(|old| old[1..].to_owned())).unwrap_or_else(|| "10".to_owned());
    let sign = text.chars().next().filter(|c| matches!(c, '-' | '+'));
    match text.trim_start_matches(['-', '+']).parse() {
        Ok(number) => Ok((number, sign, by_bytes)),
        Err(_) => Err(context.fail(1, format!("invalid number of lines: '{text}'"))),
    }
}

/// `-5`, the old way to say `-n 5`.
fn old_style(context: &Context<'_>) -> (Option<String>, Vec<String>) {
    let is_old = |arg: &&String| arg.len() > 1 && arg.starts_with('-') && arg[1..].bytes().all(|b| b.is_ascii_digit());
    let old = context.args.first().filter(is_old).cloned();
    (old.clone(), context.args.iter().skip(usize::from(old.is_some())).cloned().collect())
}

pub(super) fn head(context: &mut Context<'_>) -> Exit {
    part(context, |pieces, number, sign| {
        let keep = if sign == Some('-') { pieces.saturating_sub(number) } else { number.min(pieces) };
        0..keep
    })
}

pub(super) fn tail(context: &mut Context<'_>) -> Exit {
    part(context, |pieces, number, sign| {
        let skip = if sign == Some('+') { number.saturating_sub(1).min(pieces) } else { pieces.saturating_sub(number) };
        skip..pieces
    })
}

fn part(context: &mut Context<'_>, choose: fn(usize, usize, Option<char>) -> std::ops::Range<usize>) -> Exit {
    ended((|| {
        let (old, args) = old_style(context);
        let inner = Context { args: &args, machine: &mut *context.machine, stdin: context.stdin.clone(), ..*context };
        let flags = Flags::parse(&inner, "qv", "nc", &[("lines", 'n'), ("bytes", 'c'), ("quiet", 'q')])?;
        let (number, sign, by_bytes) = amount(context, &flags, old.as_ref())?;
        let mut exit = Exit::default();
        let content = joined(context, &flags.operands, &mut exit);
        let pieces: Vec<&[u8]> = if by_bytes {
            content.chunks(1).collect()
        } else {
            content.split_inclusive(|byte| *byte == b'\n').collect()
        };
        let kept = &pieces[choose(pieces.len(), number, sign)];
        exit.stdout = kept.concat();
        Ok(exit)
    })())
}

pub(super) fn wc(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let flags = Flags::parse(context, "lwcm", "", &[("lines", 'l'), ("words", 'w'), ("bytes", 'c')])?;
        let mut exit = Exit::default();
        for (name, content) in context.contents(&flags.operands, &mut exit) {
            let text = String::from_utf8_lossy(&content);
            let counts = [
                ('l', text.matches('\n').count()),
                ('w', text.split_whitespace().count()),
                ('m', text.chars().count()),
                ('c', content.len()),
            ];
            let wanted: Vec<String> = counts
                .iter()
                .filter(|(letter, _)| if flags.set.is_empty() { *letter != 'm' } else { flags.has(*letter) })
                .map(|(_, count)| count.to_string())
                .collect();
            let name = if name == "-" { String::new() } else { format!(" {name}") };
            exit.print(format!("{}{name}\n", wanted.join(" ")));
        }
        Ok(exit)
    })())
}

pub(super) fn sort(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let long = [("unique", 'u'), ("reverse", 'r'), ("numeric-sort", 'n'), ("version-sort", 'V')];
        let flags = Flags::parse(context, "urnVbfs", "kt", &long)?;
        let mut exit = Exit::default();
        let mut lines = lines(&joined(context, &flags.operands, &mut exit));
        let column: Option<usize> = flags
            .value('k')
            .and_then(|text| text.split(|c: char| !c.is_ascii_digit()).next().and_then(|text| text.parse().ok()));
        let key = |line: &str| -> String {
            match (column, flags.value('t')) {
                (Some(number), Some(separator)) => line.split(separator).nth(number - 1).unwrap_or_default().to_owned(),
                (Some(number), None) => {
                    line.split_whitespace().nth(number.saturating_sub(1)).unwrap_or_default().to_owned()
                }
                _ => line.to_owned(),
            }
        };
        let number = |text: &str| {
            let text = text.trim_start();
            let end = text.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(text.len());
            text[..end].parse::<i64>().unwrap_or(0)
        };
        let versions = |text: &str| -> Vec<(u64, String)> {
            text.split(['.', '-', '+', '_'])
                .map(|part| (part.trim_start_matches('v').parse().unwrap_or(0), part.to_owned()))
                .collect()
        };
        lines.sort_by(|left, right| {
            let (one, two) = (key(left), key(right));
            let order = if flags.has('n') {
                number(&one).cmp(&number(&two))
            } else if flags.has('V') {
                versions(&one).cmp(&versions(&two))
            } else {
                one.cmp(&two)
            };
            order.then_with(|| left.cmp(right))
        });
        if flags.has('r') {
            lines.reverse();
        }
        if flags.has('u') {
            lines.dedup();
        }
        for line in lines {
            exit.print(format!("{line}\n"));
        }
        Ok(exit)
    })())
}

pub(super) fn uniq(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let flags = Flags::parse(context, "cdu", "", &[("count", 'c')])?;
        let mut exit = Exit::default();
        let lines = lines(&joined(context, &flags.operands, &mut exit));
        for group in lines.chunk_by(|left, right| left == right) {
            let wanted = (!flags.has('d') || group.len() > 1) && (!flags.has('u') || group.len() == 1);
            if wanted && flags.has('c') {
                exit.print(format!("{:7} {}\n", group.len(), group[0]));
            } else if wanted {
                exit.print(format!("{}\n", group[0]));
            }
        }
        Ok(exit)
    })())
}

pub(super) fn seq(context: &mut Context<'_>) -> Exit {
    const MOST: i64 = 100_000;
    let numbers: Option<Vec<i64>> = context.args.iter().map(|arg| arg.parse().ok()).collect();
    let (from, step, to) = match numbers.as_deref() {
        Some([to]) => (1, 1, *to),
        Some([from, to]) => (*from, 1, *to),
        Some([from, step, to]) if *step != 0 => (*from, *step, *to),
        _ => return context.fail(1, "this image's seq takes one to three integers"),
    };
    if (to.saturating_sub(from) / step) > MOST {
        return context.fail(1, format!("more than {MOST} numbers"));
    }
    let mut exit = Exit::default();
    let mut number = from;
    while if step > 0 { number <= to } else { number >= to } {
        exit.print(format!("{number}\n"));
        number += step;
    }
    exit
}

pub(super) fn tac(context: &mut Context<'_>) -> Exit {
    let mut exit = Exit::default();
    let lines = lines(&joined(context, context.args, &mut exit));
    lines.iter().rev().for_each(|line| exit.print(format!("{line}\n")));
    exit
}

pub(super) fn base64(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let flags = Flags::parse(context, "diD", "w", &[("decode", 'd'), ("wrap", 'w'), ("ignore-garbage", 'i')])?;
        let mut exit = Exit::default();
        let content = joined(context, &flags.operands, &mut exit);
        if flags.has('d') || flags.has('D') {
            let text: Vec<u8> = content.into_iter().filter(|byte| !byte.is_ascii_whitespace()).collect();
            match STANDARD.decode(text) {
                Ok(bytes) => exit.stdout = bytes,
                Err(_) => return Err(context.fail(1, "invalid input")),
            }
            return Ok(exit);
        }
        let text = STANDARD.encode(content);
        let width = flags.value('w').and_then(|text| text.parse().ok()).unwrap_or(76);
        if width == 0 {
            exit.print(text);
        } else {
            let lines = text.as_bytes().chunks(width);
            lines.for_each(|line| {
                exit.stdout.extend_from_slice(line);
                exit.print("\n");
            });
        }
        Ok(exit)
    })())
}

pub(super) fn checksum(context: &mut Context<'_>) -> Exit {
    let algorithm = if context.name == "sha512sum" { &digest::SHA512 } else { &digest::SHA256 };
    let mut exit = Exit::default();
    for (name, content) in context.contents(context.args, &mut exit) {
        exit.print(format!("{}  {name}\n", hex::encode(digest::digest(algorithm, &content))));
    }
    exit
}

pub(super) fn compare(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let flags = Flags::parse(context, "sqruN", "", &[("quiet", 'q'), ("silent", 's')])?;
        let [one, two] = flags.operands.as_slice() else { return Err(context.fail(2, "missing operand")) };
        let mut exit = Exit::default();
        let found = context.contents(&[one.clone(), two.clone()], &mut exit);
        if exit.code != 0 {
            return Err(Exit { code: 2, ..exit });
        }
        if found[0].1 != found[1].1 {
            exit.code = 1;
            if !flags.has('s') {
                exit.print(format!("Files {one} and {two} differ\n"));
            }
        }
        Ok(exit)
    })())
}
