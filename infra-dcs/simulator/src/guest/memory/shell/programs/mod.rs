//! Programs of the image, as far as they matter to a machine without a kernel. Options that they do not know are refused
//! in the words of the real ones.

mod accounts;
mod disks;
mod filesystem;
mod links;
mod network;
pub(super) mod printf;
mod search;
mod sed;
mod system;
mod systemctl;
pub(super) mod text;

use std::sync::Arc;

pub(in crate::guest::memory) use disks::{mount_all, mount_one};
use parking_lot::Mutex;
pub(in crate::guest::memory) use system::apply_parameters;

use super::{command::Exit, files::Input};
use crate::guest::memory::machine::Machine;

/// What a program has to work with.
pub(super) struct Context<'a> {
    pub name: &'a str,
    pub args: &'a [String],
    pub directory: &'a str,
    pub machine: &'a mut Machine,
    pub stdin: Arc<Mutex<Input>>,
}

pub(super) type Program = fn(&mut Context<'_>) -> Exit;

impl Context<'_> {
    /// Everything on standard input, which it then is at the end of.
    fn input(&self) -> Vec<u8> {
        self.stdin.lock().rest()
    }

    fn path(&self, path: &str) -> String {
        if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", self.directory.trim_end_matches('/')) }
    }

    fn fail(&self, code: u8, message: impl std::fmt::Display) -> Exit {
        Exit::fail(code, format!("{}: {message}", self.name))
    }

    /// Content of the files named, or of standard input where none is, or for `-`. What cannot be read goes to `exit`.
    fn contents(&self, names: &[String], exit: &mut Exit) -> Vec<(String, Vec<u8>)> {
        if names.is_empty() {
            return vec![("-".to_owned(), self.input())];
        }
        let mut found = Vec::new();
        for name in names {
            if name == "-" {
                found.push((name.clone(), self.input()));
                continue;
            }
            match self.machine.root.read(&self.path(name)) {
                Ok(content) => found.push((name.clone(), content.to_vec())),
                Err(error) => exit.complain(1, format!("{}: {name}: {error}", self.name)),
            }
        }
        found
    }
}

impl Exit {
    /// Adds a message and a status to what went well otherwise.
    fn complain(&mut self, code: u8, message: String) {
        self.code = code;
        self.stderr.extend_from_slice(message.as_bytes());
        self.stderr.push(b'\n');
    }

    fn print(&mut self, text: impl AsRef<str>) {
        self.stdout.extend_from_slice(text.as_ref().as_bytes());
    }
}

/// Options of a program, parsed as `getopt_long` does.
struct Flags {
    set: Vec<(char, String)>,
    operands: Vec<String>,
}

impl Flags {
    /// Parses: `plain` letters, letters that take a `valued`, and long names with the letter that they stand for.
    fn parse(context: &Context<'_>, plain: &str, valued: &str, long: &[(&str, char)]) -> Result<Self, Exit> {
        let mut flags = Self { set: Vec::new(), operands: Vec::new() };
        let mut args = context.args.iter();
        while let Some(arg) = args.next() {
            if arg == "--" {
                flags.operands.extend(args.cloned());
                break;
            }
            if let Some(name) = arg.strip_prefix("--") {
                let (name, value) = name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value)));
                let Some((_, letter)) = long.iter().find(|(known, _)| *known == name) else {
                    return Err(context.fail(1, format!("unrecognized option '{arg}'")));
                };
                let value = match (valued.contains(*letter), value) {
                    (_, Some(value)) => value.to_owned(),
                    (false, None) => String::new(),
                    (true, None) => match args.next() {
                        Some(value) => value.clone(),
                        None => return Err(context.fail(1, format!("option '{arg}' requires an argument"))),
                    },
                };
                flags.set.push((*letter, value));
                continue;
            }
            if !arg.starts_with('-') || arg.len() == 1 {
                flags.operands.push(arg.clone());
                continue;
            }
            let mut letters = arg[1..].chars();
            while let Some(letter) = letters.next() {
                if valued.contains(letter) {
                    let rest = letters.as_str();
                    let value = if rest.is_empty() { args.next().cloned() } else { Some(rest.to_owned()) };
                    let Some(value) = value else {
                        return Err(context.fail(1, format!("option requires an argument -- '{letter}'")));
                    };
                    flags.set.push((letter, value));
                    break;
                }
                if !plain.contains(letter) {
                    return Err(context.fail(1, format!("invalid option -- '{letter}'")));
                }
                flags.set.push((letter, String::new()));
            }
        }
        Ok(flags)
    }

    fn has(&self, letter: char) -> bool {
        self.set.iter().any(|(set, _)| *set == letter)
    }

    fn value(&self, letter: char) -> Option<&str> {
        self.set.iter().rev().find(|(set, _)| *set == letter).map(|(_, value)| value.as_str())
    }

    fn values(&self, letter: char) -> Vec<String> {
        self.set.iter().filter(|(set, _)| *set == letter).map(|(_, value)| value.clone()).collect()
    }
}

/// Runs what may end early with an [`Exit`].
fn ended(result: Result<Exit, Exit>) -> Exit {
    match result {
        Ok(exit) | Err(exit) => exit,
    }
}

/// Seconds of `sleep` and `timeout`: a number with `s`, `m`, `h` or `d`.
pub(super) fn seconds(text: &str) -> Option<f64> {
    let (number, factor) = match text.chars().last()? {
        's' => (&text[..text.len() - 1], 1.0),
        'm' => (&text[..text.len() - 1], 60.0),
        'h' => (&text[..text.len() - 1], 3600.0),
        'd' => (&text[..text.len() - 1], 86400.0),
        _ if text == "infinity" => return Some(f64::from(u32::MAX)),
        _ => (text, 1.0),
    };
    let number: f64 = number.parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number * factor)
}

/// The program of a name.
pub(super) fn find(name: &str) -> Option<Program> {
    Some(match name {
        "cat" => filesystem::cat,
        "mkdir" => filesystem::mkdir,
        "rmdir" => filesystem::rmdir,
        "touch" => filesystem::touch,
        "chmod" => filesystem::chmod,
        "chown" => filesystem::chown,
        "chgrp" => filesystem::chgrp,
        "rm" => filesystem::rm,
        "truncate" => filesystem::truncate,
        "tee" => filesystem::tee,
        "mktemp" => filesystem::mktemp,
        "cp" => links::cp,
        "mv" => links::mv,
        "ln" => links::ln,
        "install" => links::install,
        "readlink" => links::readlink,
        "realpath" => links::realpath,
        "ls" => search::ls,
        "stat" => search::stat,
        "find" => search::find,
        "basename" => search::basename,
        "dirname" => search::dirname,
        "grep" | "egrep" | "fgrep" => search::grep,
        "sed" => sed::sed,
        "tr" => text::tr,
        "cut" => text::cut,
        "head" => text::head,
        "tail" => text::tail,
        "wc" => text::wc,
        "sort" => text::sort,
        "uniq" => text::uniq,
        "seq" => text::seq,
        "tac" => text::tac,
        "base64" => text::base64,
        "sha256sum" | "sha512sum" => text::checksum,
        "cmp" | "diff" => text::compare,
        "mount" => disks::mount,
        "umount" => disks::umount,
        "mountpoint" => disks::mountpoint,
        "findmnt" => disks::findmnt,
        "blkid" => disks::blkid,
        "lsblk" => disks::lsblk,
        "wipefs" => disks::wipefs,
        "blockdev" => disks::blockdev,
        "mkswap" => disks::mkswap,
        "mkfs" => disks::mkfs,
        _ if name.starts_with("mkfs.") => disks::mkfs,
        "hostname" => system::hostname,
        "hostnamectl" => system::hostnamectl,
        "uname" => system::uname,
        "id" | "whoami" => system::id,
        "date" => system::date,
        "nproc" | "arch" => system::constant,
        "sysctl" => system::sysctl,
        "modprobe" => system::modprobe,
        "lsmod" => system::lsmod,
        "getenforce" => system::getenforce,
        // SELinux is not on, as on the sandbox image; and what has no queue has nothing to wait for.
        "restorecon"
        | "chcon"
        | "setenforce"
        | "sync"
        | "udevadm"
        | "partprobe"
        | "swapoff"
        | "swapon"
        | "logger"
        | "timedatectl"
        | "journalctl"
        | "update-ca-certificates"
        | "ldconfig"
        | "systemd-tmpfiles"
        | "systemd-sysctl"
        | "fsfreeze"
        | "dmesg"
        | "kill"
        | "pkill"
        | "killall"
        | "renice"
        | "fstrim" => system::nothing,
        "systemctl" | "service" => systemctl::systemctl,
        "ip" => network::ip,
        "ping" | "curl" | "wget" | "nc" => network::unreachable,
        "getent" => network::getent,
        "nmcli" => network::nmcli,
        "useradd" | "adduser" => accounts::useradd,
        "groupadd" | "addgroup" => accounts::groupadd,
        "usermod" => accounts::usermod,
        "passwd" | "chpasswd" => accounts::passwd,
        _ => return None,
    })
}
