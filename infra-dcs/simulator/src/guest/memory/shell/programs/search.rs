//! Programs that look at files and in them.

use std::fmt::Write as _;

use regex::bytes::{Regex, RegexBuilder};

use super::{Context, Exit, Flags, ended, filesystem::tree};
use crate::guest::memory::{
    root::{Kind, Metadata},
    shell::pattern,
};

pub(super) fn ls(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let long = [("all", 'a'), ("almost-all", 'A'), ("directory", 'd'), ("recursive", 'R'), ("color", 'G')];
        let flags = Flags::parse(context, "1aAdlhFRtrSnZ", "", &long)?;
        let names = if flags.operands.is_empty() { vec![".".to_owned()] } else { flags.operands.clone() };
        let mut exit = Exit::default();
        let many = names.len() > 1;
        for name in names {
            let path = context.path(&name);
            let root = &context.machine.root;
            let Ok(metadata) = root.link_metadata(&path).and_then(|found| root.metadata(&path).or(Ok(found))) else {
                exit.complain(2, format!("ls: cannot access '{name}': No such file or directory"));
                continue;
            };
            if metadata.kind != Kind::Directory || flags.has('d') {
                let line = if flags.has('l') { long_line(context, &path, &name) } else { name.clone() };
                exit.print(format!("{line}\n"));
                continue;
            }
            if many {
                exit.print(format!("{name}:\n"));
            }
            for below in root.list(&path).unwrap_or_default() {
                if below.starts_with('.') && !flags.has('a') && !flags.has('A') {
                    continue;
                }
                let line = if flags.has('l') {
                    long_line(context, &format!("{}/{below}", path.trim_end_matches('/')), &below)
                } else {
                    below
                };
                exit.print(format!("{line}\n"));
            }
        }
        Ok(exit)
    })())
}

fn letters(metadata: &Metadata) -> String {
    let kind = match metadata.kind {
        Kind::File => '-',
        Kind::Directory => 'd',
        Kind::Link => 'l',
        Kind::Block => 'b',
        Kind::Character => 'c',
    };
    let bits = (0..9).rev().zip("rwxrwxrwx".chars());
    let bits = bits.map(|(bit, letter)| if metadata.mode >> bit & 1 == 1 { letter } else { '-' });
    std::iter::once(kind).chain(bits).collect()
}

fn long_line(context: &Context<'_>, path: &str, name: &str) -> String {
    let root = &context.machine.root;
    let Ok(metadata) = root.link_metadata(path) else { return name.to_owned() };
    let (user, group) = root.owner_names(metadata.owner);
    let target = root.read_link(path).map(|target| format!(" -> {target}")).unwrap_or_default();
    format!("{} 1 {user} {group} {} Jan  1 00:00 {name}{target}", letters(&metadata), metadata.size)
}

pub(super) fn stat(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let flags = Flags::parse(context, "Lf", "c", &[("format", 'c'), ("printf", 'c'), ("dereference", 'L')])?;
        let mut exit = Exit::default();
        for name in &flags.operands {
            let path = context.path(name);
            let root = &context.machine.root;
            let metadata = if flags.has('L') { root.metadata(&path) } else { root.link_metadata(&path) };
            let metadata = match metadata {
                Ok(metadata) => metadata,
                Err(error) => {
                    exit.complain(1, format!("stat: cannot statx '{name}': {error}"));
                    continue;
                }
            };
            let (user, group) = root.owner_names(metadata.owner);
            let kind = match metadata.kind {
                Kind::File if metadata.size == 0 => "regular empty file",
                Kind::File => "regular file",
                Kind::Directory => "directory",
                Kind::Link => "symbolic link",
                Kind::Block => "block special file",
                Kind::Character => "character special file",
            };
            let (major, minor) = metadata.device.unwrap_or_default();
            let mut line = String::new();
            let mut format =
                flags.value('c').unwrap_or("  File: %n\n  Size: %s\nAccess: (%a/%A)  Uid: %u  Gid: %g").chars();
            while let Some(c) = format.next() {
                if c != '%' {
                    line.push(c);
                    continue;
                }
                // Writing to a text cannot fail.
                let _ = match format.next() {
                    Some('a') => write!(line, "{:o}", metadata.mode),
                    Some('A') => write!(line, "{}", letters(&metadata)),
                    Some('F') => write!(line, "{kind}"),
                    Some('g') => write!(line, "{}", metadata.owner.gid),
                    Some('G') => write!(line, "{group}"),
                    Some('n') => write!(line, "{name}"),
                    Some('s') => write!(line, "{}", metadata.size),
                    Some('t') => write!(line, "{major:x}"),
                    Some('T') => write!(line, "{minor:x}"),
                    Some('u') => write!(line, "{}", metadata.owner.uid),
                    Some('U') => write!(line, "{user}"),
                    Some('%') => write!(line, "%"),
                    Some('Y' | 'X' | 'Z' | 'W') => write!(line, "0"),
                    _ => return Err(context.fail(1, "this image's stat knows %a %A %F %g %G %n %s %t %T %u %U")),
                };
            }
            exit.print(format!("{line}\n"));
        }
        Ok(exit)
    })())
}

pub(super) fn find(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let mut args = context.args.iter().peekable();
        let mut starts = Vec::new();
        while let Some(arg) = args.peek().filter(|arg| !arg.starts_with('-') && arg.as_str() != "!") {
            starts.push((*arg).clone());
            args.next();
        }
        if starts.is_empty() {
            starts.push(".".to_owned());
        }
        let (mut name, mut kind, mut deepest, mut shallowest, mut delete) = (None, None, usize::MAX, 0, false);
        while let Some(arg) = args.next() {
            let mut value =
                || args.next().cloned().ok_or_else(|| context.fail(1, format!("missing argument to '{arg}'")));
            match arg.as_str() {
                "-name" => name = Some(value()?.chars().map(|c| (c, false)).collect::<Vec<_>>()),
                "-type" => kind = Some(value()?),
                "-maxdepth" => deepest = value()?.parse().unwrap_or(usize::MAX),
                "-mindepth" => shallowest = value()?.parse().unwrap_or(0),
                "-delete" => delete = true,
                "-print" | "-xdev" | "-mount" | "-depth" => {}
                _ => return Err(context.fail(1, format!("unknown predicate '{arg}'"))),
            }
        }
        let mut exit = Exit::default();
        for start in starts {
            let paths = match tree(context, &start, true) {
                Ok(paths) => paths,
                Err(error) => {
                    exit.complain(1, format!("find: '{start}': {error}"));
                    continue;
                }
            };
            let mut found = Vec::new();
            for path in paths {
                let depth = path[start.len()..].matches('/').count();
                let last: Vec<char> = path.rsplit('/').next().unwrap_or_default().chars().collect();
                let metadata = context.machine.root.link_metadata(&context.path(&path));
                let fits = metadata.is_ok_and(|metadata| {
                    let letter = match metadata.kind {
                        Kind::File => "f",
                        Kind::Directory => "d",
                        Kind::Link => "l",
                        Kind::Block => "b",
                        Kind::Character => "c",
                    };
                    kind.as_deref().is_none_or(|kind| kind == letter)
                });
                let named = name.as_ref().is_none_or(|name| pattern::matches(name, &last));
                if fits && named && (shallowest..=deepest).contains(&depth) {
                    found.push(path);
                }
            }
            if delete {
                for path in found.iter().rev() {
                    let full = context.path(path);
                    let root = &mut context.machine.root;
                    let done =
                        if root.is_directory(&full) { root.remove_directory(&full) } else { root.remove_file(&full) };
                    if let Err(error) = done {
                        exit.complain(1, format!("find: cannot delete '{path}': {error}"));
                    }
                }
            } else {
                for path in found {
                    exit.print(format!("{path}\n"));
                }
            }
        }
        Ok(exit)
    })())
}

pub(super) fn basename(context: &mut Context<'_>) -> Exit {
    match context.args {
        [path, suffix @ ..] => {
            let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            let name = if name.is_empty() { "/" } else { name };
            let cut =
                suffix.first().and_then(|suffix| name.strip_suffix(suffix.as_str())).filter(|cut| !cut.is_empty());
            Exit::ok(format!("{}\n", cut.unwrap_or(name)))
        }
        [] => context.fail(1, "missing operand"),
    }
}

pub(super) fn dirname(context: &mut Context<'_>) -> Exit {
    let mut exit = Exit::default();
    for path in context.args {
        let folder = match path.trim_end_matches('/').rsplit_once('/') {
            Some(("", _)) => "/",
            Some((folder, _)) => folder.trim_end_matches('/'),
            None if path.starts_with('/') => "/",
            None => ".",
        };
        exit.print(format!("{folder}\n"));
    }
    exit
}

/// A POSIX expression in the words of the regex crate: of a basic one the backslashes are turned around.
pub(super) fn expression(text: &str, extended: bool, ignore_case: bool) -> Result<Regex, String> {
    let mut translated = String::new();
    let mut chars = text.chars().peekable();
    let mut at_start = true;
    while let Some(c) = chars.next() {
        let was_start = std::mem::replace(&mut at_start, false);
        match c {
            '[' => {
                translated.push('[');
                if chars.peek() == Some(&'^') {
                    translated.push('^');
                    chars.next();
                }
                let mut first = true;
                while let Some(c) = chars.next() {
                    match c {
                        ']' if !first => break,
                        '[' if matches!(chars.peek(), Some(':')) => {
                            translated.push('[');
                            for c in chars.by_ref() {
                                translated.push(c);
                                if c == ']' {
                                    break;
                                }
                            }
                        }
                        '[' | ']' | '\\' | '&' | '~' => translated.extend(['\\', c]),
                        c => translated.push(c),
                    }
                    first = false;
                }
                translated.push(']');
            }
            '\\' => match chars.next() {
                Some(c @ ('(' | ')' | '{' | '}' | '|' | '+' | '?')) if !extended => {
                    translated.push(c);
                    at_start = c == '(' || c == '|';
                }
                Some(c @ ('w' | 'W' | 's' | 'S' | 'b' | 'B')) => translated.extend(['\\', c]),
                Some('<' | '>') => translated.push_str("\\b"),
                Some('n') => translated.push('\n'),
                Some('t') => translated.push('\t'),
                Some(c) if c.is_ascii_digit() => return Err("back references are not played by this image".to_owned()),
                Some(c) => translated.push_str(&regex::escape(&c.to_string())),
                None => return Err("Trailing backslash".to_owned()),
            },
            '(' | ')' | '{' | '}' | '|' | '+' | '?' if !extended => translated.extend(['\\', c]),
            '*' if was_start => translated.push_str("\\*"),
            '(' | '|' => {
                translated.push(c);
                at_start = true;
            }
            '^' => {
                translated.push(c);
                at_start = true;
            }
            '#' | '&' | '~' | '-' => translated.push_str(&regex::escape(&c.to_string())),
            c => translated.push(c),
        }
    }
    let built = RegexBuilder::new(&translated).case_insensitive(ignore_case).multi_line(true).unicode(true).build();
    built.map_err(|_| format!("invalid regular expression: {text}"))
}

/// The expressions of `grep`: those of `-e`, or the first operand.
fn expressions(context: &Context<'_>, flags: &Flags, names: &mut Vec<String>) -> Result<Vec<Regex>, Exit> {
    let mut patterns = flags.values('e');
    if patterns.is_empty() {
        if names.is_empty() {
            return Err(Exit::fail(2, "Usage: grep [OPTION]... PATTERNS [FILE]..."));
        }
        patterns.push(names.remove(0));
    }
    let fixed = flags.has('F') || context.name == "fgrep";
    let extended = fixed || flags.has('E') || flags.has('P') || context.name == "egrep";
    let mut expressions = Vec::new();
    for pattern in patterns.iter().flat_map(|pattern| pattern.split('\n')) {
        let text = if fixed { regex::escape(pattern) } else { pattern.to_owned() };
        let text = match (flags.has('w'), flags.has('x'), extended) {
            (_, true, true) => format!("^({text})$"),
            (_, true, false) => format!("^\\({text}\\)$"),
            (true, _, true) => format!("\\b({text})\\b"),
            (true, _, false) => format!("\\b\\({text}\\)\\b"),
            _ => text,
        };
        let built = if flags.has('P') || fixed {
            let built = RegexBuilder::new(&text).case_insensitive(flags.has('i')).multi_line(true).build();
            built.map_err(|_| format!("invalid regular expression: {pattern}"))
        } else {
            expression(&text, extended, flags.has('i'))
        };
        expressions.push(built.map_err(|reason| context.fail(2, reason))?);
    }
    Ok(expressions)
}

pub(super) fn grep(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let long = [
            ("quiet", 'q'),
            ("silent", 'q'),
            ("extended-regexp", 'E'),
            ("fixed-strings", 'F'),
            ("ignore-case", 'i'),
            ("invert-match", 'v'),
            ("count", 'c'),
            ("word-regexp", 'w'),
            ("line-regexp", 'x'),
            ("regexp", 'e'),
            ("only-matching", 'o'),
            ("recursive", 'r'),
            ("no-messages", 's'),
            ("files-with-matches", 'l'),
            ("max-count", 'm'),
            ("no-filename", 'h'),
            ("line-number", 'n'),
            ("perl-regexp", 'P'),
            ("color", 'G'),
        ];
        let flags =
            Flags::parse(context, "qEFGivcwxorRslhHnPaI", "em", &long).map_err(|exit| Exit { code: 2, ..exit })?;
        let mut names = flags.operands.clone();
        let expressions = expressions(context, &flags, &mut names)?;
        let mut exit = Exit::default();
        if flags.has('r') || flags.has('R') {
            let starts = if names.is_empty() { vec![".".to_owned()] } else { names };
            names = starts.iter().flat_map(|start| tree(context, start, true).unwrap_or_default()).collect();
            names.retain(|name| context.machine.root.is_file(&context.path(name)));
        }
        let show_name = flags.has('H') || ((names.len() > 1 || flags.has('r') || flags.has('R')) && !flags.has('h'));
        let most = flags.value('m').and_then(|text| text.parse().ok()).unwrap_or(usize::MAX);
        let mut any = false;
        for (name, content) in context.contents(&names, &mut exit) {
            let mut count = 0;
            let lines = content.strip_suffix(b"\n").unwrap_or(&content).split(|byte| *byte == b'\n');
            for (number, line) in (1..).zip(lines.take(if content.is_empty() { 0 } else { usize::MAX })) {
                let found = expressions.iter().any(|expression| expression.is_match(line));
                if found == flags.has('v') {
                    continue;
                }
                any = true;
                count += 1;
                if !flags.has('q') && !flags.has('c') && !flags.has('l') {
                    let mut head = if show_name { format!("{name}:") } else { String::new() };
                    if flags.has('n') {
                        let _ = write!(head, "{number}:");
                    }
                    if flags.has('o') && !flags.has('v') {
                        for found in expressions.iter().flat_map(|expression| expression.find_iter(line)) {
                            exit.print(&head);
                            exit.stdout.extend_from_slice(found.as_bytes());
                            exit.print("\n");
                        }
                    } else {
                        exit.print(&head);
                        exit.stdout.extend_from_slice(line);
                        exit.print("\n");
                    }
                }
                if count >= most {
                    break;
                }
            }
            if flags.has('c') && !flags.has('q') {
                exit.print(if show_name { format!("{name}:{count}\n") } else { format!("{count}\n") });
            } else if flags.has('l') && count > 0 && !flags.has('q') {
                exit.print(format!("{name}\n"));
            }
        }
        if flags.has('s') {
            exit.stderr.clear();
        }
        exit.code = match (any, exit.code) {
            (true, 0) => 0,
            (true, _) if flags.has('q') => 0,
            (_, 1) => 2,
            _ => 1,
        };
        Ok(exit)
    })())
}
