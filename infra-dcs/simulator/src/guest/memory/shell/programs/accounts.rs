//! Programs that make users and groups.

use super::{Context, Exit, Flags, ended};
use crate::guest::memory::root::NewUser;

pub(super) fn useradd(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let long = [
            ("uid", 'u'),
            ("gid", 'g'),
            ("groups", 'G'),
            ("home-dir", 'd'),
            ("home", 'd'),
            ("shell", 's'),
            ("create-home", 'm'),
            ("no-create-home", 'M'),
            ("system", 'r'),
            ("comment", 'c'),
            ("password", 'p'),
            ("user-group", 'U'),
            ("no-user-group", 'N'),
        ];
        let flags = Flags::parse(context, "mMrUNol", "ugGdscpe", &long)?;
        let Some(name) = flags.operands.first() else { return Err(context.fail(2, "Usage: useradd [options] LOGIN")) };
        if context.machine.root.user(name).is_some() {
            return Err(context.fail(9, format!("user '{name}' already exists")));
        }
        let text = |letter| flags.value(letter).map(str::to_owned);
        let uid = match flags.value('u').map(str::parse) {
            None => None,
            Some(Ok(uid)) => Some(uid),
            Some(Err(_)) => return Err(context.fail(3, "invalid user ID")),
        };
        let new = NewUser {
            name: name.clone(),
            uid,
            primary_group: text('g').or_else(|| flags.has('N').then(|| "users".to_owned())),
            groups: flags.value('G').map(|list| list.split(',').map(str::to_owned).collect()).unwrap_or_default(),
            gecos: text('c').unwrap_or_default(),
            home: text('d'),
            create_home: flags.has('m'),
            shell: text('s'),
            password_hash: text('p'),
            system: flags.has('r'),
        };
        match context.machine.root.add_user(&new) {
            Ok(_) => Ok(Exit::default()),
            Err(error) => Err(context.fail(6, error)),
        }
    })())
}

pub(super) fn groupadd(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let flags = Flags::parse(context, "fro", "g", &[("gid", 'g'), ("system", 'r'), ("force", 'f')])?;
        let Some(name) = flags.operands.first() else { return Err(context.fail(2, "Usage: groupadd [options] GROUP")) };
        if context.machine.root.group(name).is_some() {
            return if flags.has('f') {
                Ok(Exit::default())
            } else {
                Err(context.fail(9, format!("group '{name}' already exists")))
            };
        }
        let gid = flags.value('g').and_then(|text| text.parse().ok());
        match context.machine.root.add_group(name, gid, flags.has('r')) {
            Ok(_) => Ok(Exit::default()),
            Err(error) => Err(context.fail(3, error)),
        }
    })())
}

pub(super) fn usermod(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let flags = Flags::parse(context, "aLUm", "Gsdpcg", &[("groups", 'G'), ("append", 'a'), ("lock", 'L')])?;
        let Some(name) = flags.operands.first() else { return Err(context.fail(2, "Usage: usermod [options] LOGIN")) };
        let root = &mut context.machine.root;
        if root.user(name).is_none() {
            return Err(context.fail(6, format!("user '{name}' does not exist")));
        }
        let mut done = Ok(());
        for group in flags.value('G').unwrap_or_default().split(',').filter(|group| !group.is_empty()) {
            done = done.and_then(|()| root.join_group(name, group));
        }
        let hash = if flags.has('L') { Some("!") } else { flags.value('p') };
        if let Some(hash) = hash {
            done = done.and_then(|()| root.set_password(name, hash));
        }
        match done {
            Ok(()) => Ok(Exit::default()),
            Err(error) => Err(context.fail(6, error)),
        }
    })())
}

pub(super) fn passwd(context: &mut Context<'_>) -> Exit {
    let root = &context.machine.root;
    if context.name == "chpasswd" {
        let text = String::from_utf8_lossy(&context.input()).into_owned();
        let missing = text.lines().filter_map(|line| line.split(':').next()).find(|name| root.user(name).is_none());
        return match missing {
            Some(name) => context.fail(1, format!("(user {name}) does not exist")),
            None => Exit::default(),
        };
    }
    match context.args.iter().rfind(|arg| !arg.starts_with('-')) {
        Some(name) if root.user(name).is_none() => context.fail(1, format!("user '{name}' does not exist")),
        _ => Exit::default(),
    }
}
