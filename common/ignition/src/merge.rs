//! Merging documents: what the second says about the same thing wins, everything else is kept in order.

use crate::v3::{Config, Directory, Disk, File, Filesystem, Group, Link, Raid, Unit, User};

/// An entry of a list that a name identifies.
trait Named {
    fn name(&self) -> &str;
    /// Takes over what the later entry of the same name says.
    fn absorb(&mut self, later: Self);
}

macro_rules! replaced_whole {
    ($($kind:ty, $field:ident;)*) => {$(
        impl Named for $kind {
            fn name(&self) -> &str {
                &self.$field
            }
            fn absorb(&mut self, later: Self) {
                *self = later;
            }
        }
    )*};
}

replaced_whole! {
    Directory, path;
    Disk, device;
    Filesystem, device;
    Group, name;
    Link, path;
    Raid, name;
}

impl Named for File {
    fn name(&self) -> &str {
        &self.path
    }

    /// A file that only appends adds to what an earlier entry wrote; one with contents replaces it.
    fn absorb(&mut self, later: Self) {
        if later.contents.is_some() {
            *self = later;
        } else {
            self.append.extend(later.append);
            self.mode = later.mode.or(self.mode);
            self.user = later.user.or(self.user.take());
            self.group = later.group.or(self.group.take());
        }
    }
}

impl Named for Unit {
    fn name(&self) -> &str {
        &self.name
    }

    fn absorb(&mut self, later: Self) {
        self.contents = later.contents.or(self.contents.take());
        self.enabled = later.enabled.or(self.enabled);
        self.mask = later.mask.or(self.mask);
        for dropin in later.dropins {
            self.dropins.retain(|known| known.name != dropin.name);
            self.dropins.push(dropin);
        }
    }
}

impl Named for User {
    fn name(&self) -> &str {
        &self.name
    }

    /// Keys and groups add up; of everything else the later word counts.
    fn absorb(&mut self, mut later: Self) {
        let (mut keys, mut groups) = (std::mem::take(&mut self.ssh_authorized_keys), std::mem::take(&mut self.groups));
        extend_new(&mut keys, std::mem::take(&mut later.ssh_authorized_keys));
        extend_new(&mut groups, std::mem::take(&mut later.groups));
        *self = Self {
            gecos: later.gecos.or(self.gecos.take()),
            groups,
            home_dir: later.home_dir.or(self.home_dir.take()),
            name: later.name,
            no_create_home: later.no_create_home.or(self.no_create_home),
            no_log_init: later.no_log_init.or(self.no_log_init),
            no_user_group: later.no_user_group.or(self.no_user_group),
            password_hash: later.password_hash.or(self.password_hash.take()),
            primary_group: later.primary_group.or(self.primary_group.take()),
            shell: later.shell.or(self.shell.take()),
            should_exist: later.should_exist.or(self.should_exist),
            ssh_authorized_keys: keys,
            system: later.system.or(self.system),
            uid: later.uid.or(self.uid),
        };
    }
}

fn extend_new(known: &mut Vec<String>, more: Vec<String>) {
    for text in more {
        if !known.contains(&text) {
            known.push(text);
        }
    }
}

fn join<T: Named>(known: &mut Vec<T>, more: Vec<T>) {
    for entry in more {
        match known.iter_mut().find(|candidate| candidate.name() == entry.name()) {
            Some(earlier) => earlier.absorb(entry),
            None => known.push(entry),
        }
    }
}

impl Config {
    /// Adds what `other` says; where both speak of the same file, unit, user or device, `other` wins.
    pub fn merge(&mut self, other: Self) {
        self.ignition.config.merge.extend(other.ignition.config.merge);
        if other.ignition.config.replace.is_some() {
            self.ignition.config.replace = other.ignition.config.replace;
        }
        if !other.ignition.timeouts.is_empty() {
            self.ignition.timeouts = other.ignition.timeouts;
        }
        if !other.ignition.proxy.is_empty() {
            self.ignition.proxy = other.ignition.proxy;
        }
        let authorities = &mut self.ignition.security.tls.certificate_authorities;
        authorities.extend(other.ignition.security.tls.certificate_authorities);
        join(&mut self.passwd.groups, other.passwd.groups);
        join(&mut self.passwd.users, other.passwd.users);
        join(&mut self.storage.directories, other.storage.directories);
        join(&mut self.storage.disks, other.storage.disks);
        join(&mut self.storage.files, other.storage.files);
        join(&mut self.storage.filesystems, other.storage.filesystems);
        join(&mut self.storage.links, other.storage.links);
        join(&mut self.storage.raid, other.storage.raid);
        self.storage.luks.extend(other.storage.luks);
        join(&mut self.systemd.units, other.systemd.units);
        extend_new(&mut self.kernel_arguments.should_exist, other.kernel_arguments.should_exist);
        extend_new(&mut self.kernel_arguments.should_not_exist, other.kernel_arguments.should_not_exist);
    }
}
