//! What cloud-init's modules do, in the order of Debian's configuration: `write_files`, `disk_setup`, `mounts`, host name,
//! certificates, users, time; then, when all commands but those of `runcmd` are done, deferred files.

use super::{CloudConfig, File, User, disks};
use crate::guest::memory::{
    document::reader::{DocumentError, Read, wrong},
    machine::Machine,
    root::{NewUser, Owner},
};

/// A part of the modules that runs in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// From `write_files` to `ntp`.
    Configure,
    /// `write_files` with `defer`.
    Deferred,
}

/// Runs the modules of a stage that run once in a machine's life.
pub fn apply_stage(config: &CloudConfig, stage: Stage, machine: &mut Machine) -> Result<(), DocumentError> {
    files(config, stage == Stage::Deferred, machine)?;
    if stage == Stage::Deferred {
        return Ok(());
    }
    for disk in &config.disks {
        let done = disks::partition(disk, machine);
        done.or_else(|reason| wrong(format!("disk_setup.{}", disk.device), reason))?;
    }
    for (index, filesystem) in config.filesystems.iter().enumerate() {
        let done = disks::make(filesystem, machine);
        done.or_else(|reason| wrong(format!("fs_setup[{index}]"), reason))?;
    }
    disks::mount(&config.mounts, machine).or_else(|(index, reason)| wrong(format!("mounts[{index}]"), reason))?;
    if let Some(hostname) = config.hostname.as_ref().filter(|_| !config.preserve_hostname) {
        let written = machine.root.write("/etc/hostname", format!("{hostname}\n").into_bytes());
        written.or_else(|error| wrong("hostname", error))?;
        machine.hostname.clone_from(hostname);
    }
    certificates(config, machine)?;
    accounts(config, machine)?;
    time_servers(config, machine)
}

fn files(config: &CloudConfig, deferred: bool, machine: &mut Machine) -> Read<()> {
    for (index, file) in config.files.iter().enumerate().filter(|(_, file)| file.defer == deferred) {
        let path = format!("write_files[{index}] ({})", file.path);
        write(file, machine).or_else(|reason| wrong(path, reason))?;
        machine.say(&format!("cloud-init: wrote {} ({:04o})", file.path, file.mode));
    }
    Ok(())
}

fn write(file: &File, machine: &mut Machine) -> Result<(), String> {
    let root = &mut machine.root;
    let owner = root.owner(&file.owner, Owner::default())?;
    let done = root.make_parents(&file.path).and_then(|()| {
        if file.append {
            root.append(&file.path, &file.content)?;
        } else {
            root.write(&file.path, file.content.clone())?;
        }
        root.set_mode(&file.path, file.mode)?;
        root.set_owner(&file.path, owner)
    });
    done.map_err(|error| error.to_string())
}

fn certificates(config: &CloudConfig, machine: &mut Machine) -> Read<()> {
    for (number, certificate) in (1..).zip(&config.trusted) {
        let path = format!("/usr/local/share/ca-certificates/cloud-init-ca-cert-{number}.crt");
        let written = machine.root.put(&path, certificate.as_bytes(), 0o644, Owner::default());
        written.or_else(|error| wrong("ca_certs", error))?;
    }
    Ok(())
}

fn accounts(config: &CloudConfig, machine: &mut Machine) -> Read<()> {
    let root = &mut machine.root;
    for (name, _) in &config.groups {
        root.add_group(name, None, false).or_else(|error| wrong(format!("groups.{name}"), error))?;
    }
    for (index, user) in config.users.iter().enumerate() {
        let path = format!("users[{index}] ({})", user.account.name);
        account(user, machine).or_else(|reason| wrong(path, reason))?;
    }
    for (name, members) in &config.groups {
        for member in members {
            if machine.root.user(member).is_none() {
                return wrong(format!("groups.{name}"), format!("there is no user {member:?}"));
            }
            let joined = machine.root.join_group(member, name);
            joined.or_else(|error| wrong(format!("groups.{name}"), error))?;
        }
    }
    if !config.keys.is_empty() {
        return wrong("ssh_authorized_keys", "this image has no default user; give the keys to one of users");
    }
    Ok(())
}

fn account(user: &User, machine: &mut Machine) -> Result<(), String> {
    let root = &mut machine.root;
    // cloud-init makes the groups that are missing.
    for group in user.account.groups.iter().chain(&user.account.primary_group) {
        root.add_group(group, None, false).map_err(|error| error.to_string())?;
    }
    let password =
        user.account.password_hash.as_ref().map(|hash| if user.lock { format!("!{hash}") } else { hash.clone() });
    let new = NewUser { password_hash: password, ..user.account.clone() };
    let made = root.add_user(&new).map_err(|error| error.to_string())?;
    let text = |error: crate::guest::memory::root::Errno| error.to_string();
    if !user.keys.is_empty() {
        root.authorize_keys(&made, "authorized_keys", &user.keys).map_err(text)?;
    }
    if !user.sudo.is_empty() {
        const SUDOERS: &str = "/etc/sudoers.d/90-cloud-init-users";
        let lines: String = user.sudo.iter().map(|rule| format!("{} {rule}\n", made.name)).collect();
        let old = root.read_text(SUDOERS).unwrap_or_default();
        root.put(SUDOERS, (old + &lines).into_bytes(), 0o440, Owner::default()).map_err(text)?;
    }
    machine.say(&format!("cloud-init: user {}", made.name));
    Ok(())
}

fn time_servers(config: &CloudConfig, machine: &mut Machine) -> Read<()> {
    let Some(sources) = &config.time_sources else { return Ok(()) };
    let lines: String = sources.iter().map(|source| format!("{source} iburst\n")).collect();
    let written = machine.root.put("/etc/chrony/chrony.conf", lines.into_bytes(), 0o644, Owner::default());
    written.or_else(|error| wrong("ntp", error))
}
