//! Programs that make, change and remove files.

use super::{Context, Exit, Flags, ended};
use crate::guest::memory::root::{Errno, Kind};

pub(super) fn cat(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let flags = Flags::parse(context, "u", "", &[])?;
        let mut exit = Exit::default();
        for (_, content) in context.contents(&flags.operands, &mut exit) {
            exit.stdout.extend_from_slice(&content);
        }
        Ok(exit)
    })())
}

/// A mode as `chmod` takes it: octal, or changes such as `u+x,go-w` to the present one.
pub(super) fn parse_mode(text: &str, present: u32, is_directory: bool) -> Option<u32> {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    }
    let mut mode = present;
    for clause in text.split(',') {
        let at = clause.find(['+', '-', '='])?;
        let (who, change) = clause.split_at(at);
        let mut mask = 0;
        for c in who.chars() {
            mask |= match c {
                'u' => 0o4700,
                'g' => 0o2070,
                'o' => 0o1007,
                'a' => 0o7777,
                _ => return None,
            };
        }
        if who.is_empty() {
            mask = 0o7777;
        }
        let operator = change.chars().next()?;
        let mut bits = 0;
        for c in change[1..].chars() {
            bits |= match c {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                'X' if is_directory || present & 0o111 != 0 => 0o111,
                'X' => 0,
                's' => 0o6000,
                't' => 0o1000,
                _ => return None,
            };
        }
        // Without a `who` the umask stands in the way of writing for others.
        let bits = bits & mask & if who.is_empty() && operator != '-' { !0o022 } else { !0 };
        match operator {
            '+' => mode |= bits,
            '-' => mode &= !bits,
            _ => mode = (mode & !(mask & 0o777)) | bits,
        }
    }
    Some(mode)
}

pub(super) fn mkdir(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let flags = Flags::parse(context, "pvZ", "m", &[("parents", 'p'), ("mode", 'm'), ("verbose", 'v')])?;
        let mode = match flags.value('m') {
            None => None,
            Some(text) => match parse_mode(text, 0o755, true) {
                Some(mode) => Some(mode),
                None => return Err(context.fail(1, format!("invalid mode '{text}'"))),
            },
        };
        if flags.operands.is_empty() {
            return Err(context.fail(1, "missing operand"));
        }
        let mut exit = Exit::default();
        for name in &flags.operands {
            let path = context.path(name);
            let root = &mut context.machine.root;
            let existed = root.exists(&path);
            let made = if flags.has('p') { root.make_directories(&path) } else { root.make_directory(&path, 0o755) };
            let made = made.and_then(|()| match mode {
                Some(mode) if !existed => root.set_mode(&path, mode),
                _ => Ok(()),
            });
            if let Err(error) = made {
                exit.complain(1, format!("mkdir: cannot create directory '{name}': {error}"));
            } else if flags.has('v') && !existed {
                exit.print(format!("mkdir: created directory '{name}'\n"));
            }
        }
        Ok(exit)
    })())
}

pub(super) fn rmdir(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let flags = Flags::parse(context, "", "", &[])?;
        let mut exit = Exit::default();
        for name in &flags.operands {
            if let Err(error) = context.machine.root.remove_directory(&context.path(name)) {
                exit.complain(1, format!("rmdir: failed to remove '{name}': {error}"));
            }
        }
        Ok(exit)
    })())
}

pub(super) fn touch(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let flags = Flags::parse(context, "amc", "drt", &[("no-create", 'c'), ("date", 'd'), ("reference", 'r')])?;
        let mut exit = Exit::default();
        for name in &flags.operands {
            let path = context.path(name);
            if context.machine.root.exists(&path) || flags.has('c') {
                continue;
            }
            if let Err(error) = context.machine.root.write(&path, Vec::new()) {
                exit.complain(1, format!("touch: cannot touch '{name}': {error}"));
            }
        }
        Ok(exit)
    })())
}

/// A path and, where asked, all below it; links are not followed.
pub(super) fn tree(context: &Context<'_>, name: &str, recursive: bool) -> Result<Vec<String>, Errno> {
    let root = &context.machine.root;
    let mut found = Vec::new();
    let mut left = vec![name.to_owned()];
    while let Some(name) = left.pop() {
        let kind = root.link_metadata(&context.path(&name))?.kind;
        if kind == Kind::Directory && recursive {
            let names = root.list(&context.path(&name))?;
            left.extend(names.into_iter().rev().map(|below| format!("{}/{below}", name.trim_end_matches('/'))));
        }
        found.push(name);
    }
    Ok(found)
}

const CHANGE: [(&str, char); 8] = [
    ("recursive", 'R'),
    ("verbose", 'v'),
    ("changes", 'c'),
    ("silent", 'f'),
    ("quiet", 'f'),
    ("no-dereference", 'h'),
    ("reference", 'r'),
    ("from", 'F'),
];

pub(super) fn chmod(context: &mut Context<'_>) -> Exit {
    ended((|| {
        // A mode may begin with a minus sign.
        let is_mode =
            |arg: &String| arg.starts_with('-') && arg.len() > 1 && arg[1..].chars().all(|c| "rwxXst".contains(c));
        let minus = context.args.iter().find(|arg| is_mode(arg)).cloned();
        let args: Vec<String> = context.args.iter().filter(|arg| !is_mode(arg)).cloned().collect();
        let inner = Context { args: &args, machine: &mut *context.machine, stdin: context.stdin.clone(), ..*context };
        let mut flags = Flags::parse(&inner, "Rvcf", "r", &CHANGE)?;
        if let Some(mode) = minus {
            flags.operands.insert(0, mode);
        }
        let mut operands = flags.operands.iter();
        let mode = match flags.value('r') {
            Some(reference) => match context.machine.root.metadata(&context.path(reference)) {
                Ok(metadata) => format!("{:o}", metadata.mode),
                Err(error) => {
                    return Err(context.fail(1, format!("failed to get attributes of '{reference}': {error}")));
                }
            },
            None => operands.next().cloned().unwrap_or_default(),
        };
        if mode.is_empty() || operands.len() == 0 {
            return Err(context.fail(1, "missing operand"));
        }
        let mut exit = Exit::default();
        for name in operands {
            let paths = match tree(context, name, flags.has('R')) {
                Ok(paths) => paths,
                Err(error) => {
                    exit.complain(1, format!("chmod: cannot access '{name}': {error}"));
                    continue;
                }
            };
            for name in paths {
                let path = context.path(&name);
                let Ok(metadata) = context.machine.root.metadata(&path) else { continue };
                let Some(new) = parse_mode(&mode, metadata.mode, metadata.kind == Kind::Directory) else {
                    return Err(context.fail(1, format!("invalid mode: '{mode}'")));
                };
                if let Err(error) = context.machine.root.set_mode(&path, new) {
                    exit.complain(1, format!("chmod: changing permissions of '{name}': {error}"));
                }
            }
        }
        Ok(exit)
    })())
}

pub(super) fn chown(context: &mut Context<'_>) -> Exit {
    change_owner(context, "")
}

pub(super) fn chgrp(context: &mut Context<'_>) -> Exit {
    change_owner(context, ":")
}

fn change_owner(context: &mut Context<'_>, prefix: &str) -> Exit {
    ended((|| {
        let flags = Flags::parse(context, "RvcfhHLP", "r", &CHANGE)?;
        let mut operands = flags.operands.iter();
        let owner = format!("{prefix}{}", operands.next().map(String::as_str).unwrap_or_default());
        if operands.len() == 0 {
            return Err(context.fail(1, "missing operand"));
        }
        let mut exit = Exit::default();
        for name in operands {
            let paths = match tree(context, name, flags.has('R')) {
                Ok(paths) => paths,
                Err(error) => {
                    exit.complain(1, format!("{}: cannot access '{name}': {error}", context.name));
                    continue;
                }
            };
            for name in paths {
                let path = context.path(&name);
                let root = &mut context.machine.root;
                let linked = flags.has('h') || flags.has('R');
                let metadata = if linked { root.link_metadata(&path) } else { root.metadata(&path) };
                let Ok(metadata) = metadata else {
                    exit.complain(1, format!("{}: cannot dereference '{name}'", context.name));
                    continue;
                };
                let new = match root.owner(&owner, metadata.owner) {
                    Ok(new) => new,
                    Err(reason) => return Err(context.fail(1, reason)),
                };
                let done = if linked { root.set_link_owner(&path, new) } else { root.set_owner(&path, new) };
                if let Err(error) = done {
                    exit.complain(1, format!("{}: changing ownership of '{name}': {error}", context.name));
                }
            }
        }
        Ok(exit)
    })())
}

pub(super) fn rm(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let long = [("recursive", 'r'), ("force", 'f'), ("verbose", 'v'), ("dir", 'd'), ("one-file-system", 'o')];
        let flags = Flags::parse(context, "rRfvd", "", &long)?;
        let recursive = flags.has('r') || flags.has('R');
        if flags.operands.is_empty() && !flags.has('f') {
            return Err(context.fail(1, "missing operand"));
        }
        let mut exit = Exit::default();
        for name in &flags.operands {
            let path = context.path(name);
            let last = name.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            if last.is_empty() || last == "." || last == ".." {
                exit.complain(1, format!("rm: refusing to remove '.' or '..' or '/': skipping '{name}'"));
                continue;
            }
            let root = &mut context.machine.root;
            let done = match root.link_metadata(path.trim_end_matches('/')) {
                Err(Errno::NotFound | Errno::NotADirectory) if flags.has('f') => Ok(()),
                Err(error) => Err(error),
                Ok(metadata) if metadata.kind != Kind::Directory => root.remove_file(&path),
                Ok(_) if recursive => root.remove_all(path.trim_end_matches('/')),
                Ok(_) if flags.has('d') => root.remove_directory(&path),
                Ok(_) => Err(Errno::IsADirectory),
            };
            if let Err(error) = done {
                exit.complain(1, format!("rm: cannot remove '{name}': {error}"));
            }
        }
        Ok(exit)
    })())
}

pub(super) fn truncate(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let flags = Flags::parse(context, "c", "s", &[("size", 's'), ("no-create", 'c')])?;
        let size = flags.value('s').unwrap_or_default();
        let mut exit = Exit::default();
        for name in &flags.operands {
            let path = context.path(name);
            let mut content = context.machine.root.read(&path).map(|content| content.to_vec()).unwrap_or_default();
            match size.parse::<usize>() {
                Ok(size) if size <= 1 << 20 => content.resize(size, 0),
                _ => return Err(context.fail(1, format!("Invalid number: '{size}'"))),
            }
            if let Err(error) = context.machine.root.write(&path, content) {
                exit.complain(1, format!("truncate: cannot open '{name}' for writing: {error}"));
            }
        }
        Ok(exit)
    })())
}

pub(super) fn tee(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let flags = Flags::parse(context, "ai", "", &[("append", 'a')])?;
        let content = context.input();
        let mut exit = Exit::default();
        for name in &flags.operands {
            let path = context.path(name);
            let root = &mut context.machine.root;
            let done = if flags.has('a') { root.append(&path, &content) } else { root.write(&path, content.clone()) };
            if let Err(error) = done {
                exit.complain(1, format!("tee: {name}: {error}"));
            }
        }
        exit.stdout = content;
        Ok(exit)
    })())
}

pub(super) fn mktemp(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let long = [("directory", 'd'), ("tmpdir", 'p'), ("suffix", 's')];
        let flags = Flags::parse(context, "dqut", "ps", &long)?;
        let template = flags.operands.first().map_or("tmp.XXXXXXXXXX", String::as_str);
        let marks = template.chars().rev().take_while(|c| *c == 'X').count();
        if marks < 3 {
            return Err(context.fail(1, format!("too few X's in template '{template}'")));
        }
        let unique = context.machine.new_uuid("mktemp").replace('-', "");
        let name = format!("{}{}", &template[..template.len() - marks], &unique[..marks.min(unique.len())]);
        let in_temporary = flags.operands.is_empty() || flags.has('p') || flags.has('t');
        let folder = flags.value('p').filter(|folder| !folder.is_empty()).unwrap_or("/tmp");
        let shown = if in_temporary { format!("{folder}/{name}") } else { name };
        let path = context.path(&shown);
        let root = &mut context.machine.root;
        let made = if flags.has('d') {
            root.make_directory(&path, 0o700)
        } else {
            root.write(&path, Vec::new()).and_then(|()| root.set_mode(&path, 0o600))
        };
        match made {
            Ok(()) => Ok(Exit::ok(format!("{shown}\n"))),
            Err(error) => Err(context.fail(1, format!("failed to create file via template '{template}': {error}"))),
        }
    })())
}
