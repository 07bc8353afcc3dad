//! `#cloud-config`, as cloud-init 22.4 reads it, with the difference that what its schema warns about (unknown keys,
//! wrong types) fails, and so does every module that fails: a machine half configured in silence proves nothing.
//!
//! Read from cloud-init's module reference.

mod apply;
mod disks;
mod read;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use apply::{Stage, apply_stage};
use minijinja::{Environment, UndefinedBehavior, syntax::SyntaxConfig};
pub(in crate::guest::memory) use read::is_host_name;
use serde_json::Value;

use super::{
    DocumentError,
    reader::{Read, wrong},
};
use crate::guest::memory::root::NewUser;

/// The first line of a document that is a template.
const TEMPLATE: &str = "## template: jinja";
/// The first line of a cloud-config.
const HEADER: &str = "#cloud-config";
/// Most steps of a template.
const TEMPLATE_FUEL: u64 = 1_000_000;

/// A document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloudConfig {
    /// Files.
    pub files: Vec<File>,
    /// Groups: name and members.
    pub groups: Vec<(String, Vec<String>)>,
    /// Users.
    pub users: Vec<User>,
    /// Commands of each boot, before all else.
    pub boot_commands: Vec<String>,
    /// Commands of the first boot, after all else.
    pub run_commands: Vec<String>,
    /// Sources of time as chrony's configuration names them, `server NAME` or `pool NAME`; none leaves the image's.
    pub time_sources: Option<Vec<String>>,
    /// Disks to partition.
    pub disks: Vec<Disk>,
    /// File systems to make.
    pub filesystems: Vec<Filesystem>,
    /// What is mounted.
    pub mounts: Vec<Mount>,
    /// Host name.
    pub hostname: Option<String>,
    /// Whether the image's host name stays.
    pub preserve_hostname: bool,
    /// Certificates to trust, in PEM.
    pub trusted: Vec<String>,
    /// Keys that may log in as the default user.
    pub keys: Vec<String>,
}

/// A file.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct File {
    /// Path.
    pub path: String,
    /// Content, decoded.
    pub content: Arc<[u8]>,
    /// Permission bits.
    pub mode: u32,
    /// `user:group`.
    pub owner: String,
    /// Whether it is added to the end of what is there.
    pub append: bool,
    /// Whether it is written after users are made and packages installed.
    pub defer: bool,
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Contents are secrets as often as not.
        f.debug_struct("File").field("path", &self.path).field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// A user.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct User {
    /// What `useradd` is told.
    pub account: NewUser,
    /// Whether the password is locked.
    pub lock: bool,
    /// Lines for sudoers.
    pub sudo: Vec<String>,
    /// Keys that may log in.
    pub keys: Vec<String>,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The account has a password hash.
        f.debug_struct("User").field("name", &self.account.name).finish_non_exhaustive()
    }
}

/// A disk to partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Device.
    pub device: String,
    /// Whether the table is GPT instead of MBR.
    pub gpt: bool,
    /// Size in percent and type of each partition; empty makes none.
    pub layout: Vec<(u64, Option<String>)>,
    /// Whether what is there is thrown away.
    pub overwrite: bool,
}

/// A file system to make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filesystem {
    /// Label; empty without one.
    pub label: String,
    /// Type.
    pub kind: String,
    /// Device.
    pub device: String,
    /// `auto`, `any`, `none` or a number; empty is the device itself.
    pub partition: String,
    /// Whether what is there is thrown away.
    pub overwrite: bool,
    /// Type of a file system that is replaced.
    pub replaces: Option<String>,
}

/// A mount: the six fields of `/etc/fstab`, defaults filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// Fields.
    pub fields: [String; 6],
}

/// Reads user data; `facts` is what a template may ask for.
pub fn parse(user_data: &[u8], facts: &Value) -> Result<CloudConfig, DocumentError> {
    let unpacked;
    let bytes = if user_data.starts_with(&[0x1f, 0x8b]) {
        unpacked = read::unzip(user_data).or_else(|reason| wrong("user data", reason))?;
        &unpacked
    } else {
        user_data
    };
    let Ok(text) = std::str::from_utf8(bytes) else { return wrong("user data", "not UTF-8") };
    let first = text.lines().next().unwrap_or_default().trim_end();
    let rendered;
    let text = if first.to_ascii_lowercase().replace(' ', "") == TEMPLATE.replace(' ', "") {
        rendered = render(text.split_once('\n').map_or("", |(_, rest)| rest), facts)?;
        &rendered
    } else {
        text
    };
    let first = text.lines().next().unwrap_or_default().trim_end();
    if first != HEADER {
        return wrong(
            "user data",
            format!(
                "the first line must be {HEADER:?}, after {TEMPLATE:?} where that is; this image reads nothing else"
            ),
        );
    }
    read::document(&yaml(text)?)
}

/// Reads YAML 1.1, as cloud-init's reader does: `0644` is octal, `yes` a boolean.
pub(in crate::guest::memory) fn yaml(text: &str) -> Read<Value> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    match serde_saphyr::from_str_with_options(text, options) {
        Ok(value) => Ok(value),
        // The position only: the reader's words quote the line, which may be a secret.
        Err(error) => match error.location() {
            Some(at) => wrong("document", format!("not YAML at line {}, column {}", at.line(), at.column())),
            None => wrong("document", "not YAML"),
        },
    }
}

/// A template with the facts of the machine. What is not known stays visible in cloud-init's result; here it fails.
fn render(text: &str, facts: &Value) -> Read<String> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // cloud-init's own settings.
    match SyntaxConfig::builder().keep_trailing_newline(true).trim_blocks(true).build() {
        Ok(syntax) => environment.set_syntax(syntax),
        Err(error) => return template_error(&error),
    }
    environment.set_fuel(Some(TEMPLATE_FUEL));
    let template = match environment.template_from_str(text) {
        Ok(template) => template,
        Err(error) => return template_error(&error),
    };
    template.render(minijinja::Value::from(minijinja::value::Serde(facts))).or_else(|error| template_error(&error))
}

fn template_error<T>(error: &minijinja::Error) -> Read<T> {
    // The first line is the template's marker.
    let line = error.line().map_or(1, |line| line + 1);
    wrong("template", format!("line {line}: {}", error.kind()))
}
