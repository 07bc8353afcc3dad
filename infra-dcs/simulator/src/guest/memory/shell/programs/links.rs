//! Programs that copy, move and link.

use super::{Context, Exit, Flags, ended, filesystem::parse_mode};
use crate::guest::memory::root::{Errno, Kind, Owner};

/// The path of `source` in or as `target`.
fn destination(context: &Context<'_>, source: &str, target: &str, is_folder: bool) -> String {
    if is_folder {
        let name = source.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        format!("{}/{name}", target.trim_end_matches('/'))
    } else {
        context.path(target)
    }
}

/// Sources, target, and whether the target is a directory.
fn operands(context: &Context<'_>, flags: &Flags) -> Result<(Vec<String>, String, bool), Exit> {
    let mut names = flags.operands.clone();
    let target = match flags.value('t') {
        Some(folder) => folder.to_owned(),
        None => match names.pop() {
            Some(target) if !names.is_empty() => target,
            Some(only) => {
                return Err(context.fail(1, format!("missing destination file operand after '{only}'")));
            }
            None => return Err(context.fail(1, "missing file operand")),
        },
    };
    let is_folder = !flags.has('T') && context.machine.root.is_directory(&context.path(&target));
    if !is_folder && (names.len() > 1 || flags.has('t')) {
        return Err(context.fail(1, format!("target '{target}' is not a directory")));
    }
    Ok((names, context.path(&target), is_folder))
}

/// Copies what a path names and, where asked, all below it.
fn copy(context: &mut Context<'_>, from: &str, to: &str, recursive: bool, keep: bool) -> Result<(), (String, Errno)> {
    let mut left = vec![(from.to_owned(), to.to_owned())];
    while let Some((from, to)) = left.pop() {
        let root = &mut context.machine.root;
        let fail = |error| (from.clone(), error);
        let metadata = if recursive { root.link_metadata(&from) } else { root.metadata(&from) }.map_err(fail)?;
        match metadata.kind {
            Kind::Directory => {
                if to.starts_with(&format!("{}/", from.trim_end_matches('/'))) {
                    return Err(fail(Errno::Invalid));
                }
                match root.make_directory(&to, metadata.mode) {
                    Err(Errno::Exists) if root.is_directory(&to) => {}
                    other => other.map_err(fail)?,
                }
                for name in root.list(&from).map_err(fail)? {
                    left.push((format!("{from}/{name}"), format!("{to}/{name}")));
                }
            }
            Kind::Link => {
                let target = root.read_link(&from).map_err(fail)?;
                if root.link_metadata(&to).is_ok() {
                    root.remove_file(&to).map_err(fail)?;
                }
                root.symlink(&target, &to).map_err(fail)?;
                continue;
            }
            Kind::File | Kind::Character | Kind::Block => {
                let content = root.read(&from).map_err(fail)?;
                let existed = root.exists(&to);
                root.write(&to, content).map_err(fail)?;
                if !existed {
                    root.set_mode(&to, metadata.mode).map_err(fail)?;
                }
            }
        }
        if keep {
            root.set_mode(&to, metadata.mode).and_then(|()| root.set_owner(&to, metadata.owner)).map_err(fail)?;
        }
    }
    Ok(())
}

pub(super) fn cp(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let long = [
            ("recursive", 'r'),
            ("archive", 'a'),
            ("force", 'f'),
            ("preserve", 'p'),
            ("no-clobber", 'n'),
            ("verbose", 'v'),
            ("target-directory", 't'),
            ("no-target-directory", 'T'),
        ];
        let flags = Flags::parse(context, "rRafpndvTLPHZu", "t", &long)?;
        let (sources, target, is_folder) = operands(context, &flags)?;
        let recursive = flags.has('r') || flags.has('R') || flags.has('a');
        let mut exit = Exit::default();
        for name in sources {
            let path = context.path(&name);
            if context.machine.root.is_directory(&path) && !recursive {
                exit.complain(1, format!("cp: -r not specified; omitting directory '{name}'"));
                continue;
            }
            // The content of a directory, into one that is there.
            let to =
                if name.ends_with("/.") { target.clone() } else { destination(context, &name, &target, is_folder) };
            if flags.has('n') && context.machine.root.exists(&to) {
                continue;
            }
            let from = path.trim_end_matches("/.").trim_end_matches('/').to_owned();
            if let Err((_, error)) = copy(context, &from, &to, recursive, flags.has('a') || flags.has('p')) {
                let what = if error == Errno::NotFound && !context.machine.root.exists(&from) {
                    format!("cannot stat '{name}'")
                } else {
                    format!("cannot create '{to}'")
                };
                exit.complain(1, format!("cp: {what}: {error}"));
            }
        }
        Ok(exit)
    })())
}

pub(super) fn mv(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let long = [
            ("force", 'f'),
            ("no-clobber", 'n'),
            ("verbose", 'v'),
            ("target-directory", 't'),
            ("no-target-directory", 'T'),
        ];
        let flags = Flags::parse(context, "fnvTuZ", "t", &long)?;
        let (sources, target, is_folder) = operands(context, &flags)?;
        let mut exit = Exit::default();
        for name in sources {
            let from = context.path(&name).trim_end_matches('/').to_owned();
            let to = destination(context, &name, &target, is_folder);
            if flags.has('n') && context.machine.root.exists(&to) {
                continue;
            }
            let moved = match context.machine.root.rename(&from, &to) {
                Err(Errno::CrossDevice) => copy(context, &from, &to, true, true)
                    .map_err(|(_, error)| error)
                    .and_then(|()| context.machine.root.remove_all(&from)),
                other => other,
            };
            if let Err(error) = moved {
                let what = if context.machine.root.link_metadata(&from).is_err() {
                    format!("cannot stat '{name}'")
                } else {
                    format!("cannot move '{name}' to '{to}'")
                };
                exit.complain(1, format!("mv: {what}: {error}"));
            }
        }
        Ok(exit)
    })())
}

pub(super) fn ln(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let long = [("symbolic", 's'), ("force", 'f'), ("no-dereference", 'n'), ("no-target-directory", 'T')];
        let flags = Flags::parse(context, "sfnTrvi", "t", &long)?;
        let mut names = flags.operands.clone();
        if names.len() == 1 {
            names.push(".".to_owned());
        }
        let Some(target) = names.pop() else { return Err(context.fail(1, "missing file operand")) };
        let shown = target.clone();
        let path = context.path(&target);
        let root = &mut context.machine.root;
        let is_link = root.link_metadata(&path).is_ok_and(|metadata| metadata.kind == Kind::Link);
        let is_folder = root.is_directory(&path) && !flags.has('T') && !(flags.has('n') && is_link);
        let mut exit = Exit::default();
        for name in names {
            let place = destination(context, &name, &path, is_folder);
            let source = context.path(&name);
            let root = &mut context.machine.root;
            let cleared = match root.link_metadata(&place) {
                Ok(metadata) if flags.has('f') && metadata.kind != Kind::Directory => root.remove_file(&place),
                Ok(_) => Err(Errno::Exists),
                Err(_) => Ok(()),
            };
            let made = cleared.and_then(|()| {
                if flags.has('s') { root.symlink(&name, &place) } else { root.hard_link(&source, &place) }
            });
            if let Err(error) = made {
                let kind = if flags.has('s') { "symbolic" } else { "hard" };
                exit.complain(1, format!("ln: failed to create {kind} link '{shown}': {error}"));
            }
        }
        Ok(exit)
    })())
}

pub(super) fn install(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let long = [("directory", 'd'), ("mode", 'm'), ("owner", 'o'), ("group", 'g'), ("target-directory", 't')];
        let flags = Flags::parse(context, "dDCpvTZ", "mogt", &long)?;
        let text = flags.value('m').unwrap_or("0755");
        let Some(mode) = parse_mode(text, 0, false) else {
            return Err(context.fail(1, format!("invalid mode '{text}'")));
        };
        let owner = format!("{}:{}", flags.value('o').unwrap_or_default(), flags.value('g').unwrap_or_default());
        let owner = match context.machine.root.owner(owner.trim_end_matches(':'), Owner::default()) {
            Ok(owner) => owner,
            Err(reason) => return Err(context.fail(1, reason)),
        };
        let mut made = Vec::new();
        if flags.has('d') {
            for name in &flags.operands {
                let path = context.path(name);
                if let Err(error) = context.machine.root.make_directories(&path) {
                    return Err(context.fail(1, format!("cannot create directory '{name}': {error}")));
                }
                made.push(path);
            }
        } else {
            if flags.has('D')
                && let Some(target) = flags.operands.last()
                && let Err(error) = context.machine.root.make_parents(&context.path(target))
            {
                return Err(context.fail(1, format!("cannot create directory for '{target}': {error}")));
            }
            let (sources, target, is_folder) = operands(context, &flags)?;
            for name in sources {
                let (from, to) = (context.path(&name), destination(context, &name, &target, is_folder));
                if let Err((_, error)) = copy(context, &from, &to, false, false) {
                    return Err(context.fail(1, format!("cannot install '{name}': {error}")));
                }
                made.push(to);
            }
        }
        for path in made {
            let root = &mut context.machine.root;
            if let Err(error) = root.set_mode(&path, mode).and_then(|()| root.set_owner(&path, owner)) {
                return Err(context.fail(1, format!("cannot change '{path}': {error}")));
            }
        }
        Ok(Exit::default())
    })())
}

pub(super) fn readlink(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let flags = Flags::parse(context, "femnqsvz", "", &[("canonicalize", 'f')])?;
        let canonical = flags.has('f') || flags.has('e') || flags.has('m');
        let mut exit = Exit::default();
        for name in &flags.operands {
            let path = context.path(name);
            let root = &context.machine.root;
            let found = if canonical { resolve(context, &path) } else { root.read_link(&path) };
            match found {
                Ok(target) => exit.print(format!("{target}{}", if flags.has('n') { "" } else { "\n" })),
                Err(_) => exit.code = 1,
            }
        }
        Ok(exit)
    })())
}

/// A path without links; its last name need not exist.
fn resolve(context: &Context<'_>, path: &str) -> Result<String, Errno> {
    let root = &context.machine.root;
    match root.canonical(path) {
        Err(Errno::NotFound) => {
            let (parent, name) = path.trim_end_matches('/').rsplit_once('/').ok_or(Errno::NotFound)?;
            let parent = root.canonical(if parent.is_empty() { "/" } else { parent })?;
            Ok(format!("{}/{name}", parent.trim_end_matches('/')))
        }
        other => other,
    }
}

pub(super) fn realpath(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let flags = Flags::parse(context, "emqsz", "", &[])?;
        let mut exit = Exit::default();
        for name in &flags.operands {
            match resolve(context, &context.path(name)) {
                Ok(path) => exit.print(format!("{path}\n")),
                Err(error) => exit.complain(1, format!("realpath: {name}: {error}")),
            }
        }
        Ok(exit)
    })())
}
