//! Users and groups, which live where every program looks for them: `/etc/passwd`, `/etc/group`, `/etc/shadow`.

use super::{Errno, Owner, Root};

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
const SHADOW: &str = "/etc/shadow";
/// First id of a person; `login.defs` of every distribution in use.
const FIRST_ID: u32 = 1000;
/// First id of a service.
const FIRST_SYSTEM_ID: u32 = 100;

/// A line of `/etc/passwd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User and primary group.
    pub owner: Owner,
    /// Home directory.
    pub home: String,
    /// Shell.
    pub shell: String,
}

/// A line of `/etc/group`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Name.
    pub name: String,
    /// Number.
    pub gid: u32,
    /// Members that do not have it as their primary group.
    pub members: Vec<String>,
}

/// What `useradd` is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewUser {
    /// Login name.
    pub name: String,
    /// Number; none takes the next one.
    pub uid: Option<u32>,
    /// Primary group, which must exist; none makes one of the user's name.
    pub primary_group: Option<String>,
    /// Further groups, which must exist.
    pub groups: Vec<String>,
    /// Full name.
    pub gecos: String,
    /// Home directory; none is `/home/<name>`.
    pub home: Option<String>,
    /// Whether the home directory is made.
    pub create_home: bool,
    /// Shell; none is `/bin/bash`.
    pub shell: Option<String>,
    /// Password hash; none locks the password.
    pub password_hash: Option<String>,
    /// A service's account.
    pub system: bool,
}

/// Why an account cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// No such group.
    #[error("group '{0}' does not exist")]
    NoGroup(String),
    /// A name that `useradd` refuses.
    #[error("invalid user name '{0}'")]
    Name(String),
    /// A number that is taken.
    #[error("UID {0} is not unique")]
    Taken(u32),
    /// A file cannot be written.
    #[error("{0}: {1}")]
    File(&'static str, Errno),
}

impl Root {
    /// All users.
    pub fn users(&self) -> Vec<User> {
        let text = self.read_text(PASSWD).unwrap_or_default();
        text.lines()
            .filter_map(|line| {
                let fields: Vec<&str> = line.split(':').collect();
                let [name, _, uid, gid, _, home, shell] = fields[..] else { return None };
                Some(User {
                    name: name.to_owned(),
                    owner: Owner { uid: uid.parse().ok()?, gid: gid.parse().ok()? },
                    home: home.to_owned(),
                    shell: shell.to_owned(),
                })
            })
            .collect()
    }

    /// All groups.
    pub fn groups(&self) -> Vec<Group> {
        let text = self.read_text(GROUP).unwrap_or_default();
        text.lines()
            .filter_map(|line| {
                let fields: Vec<&str> = line.split(':').collect();
                let [name, _, gid, members] = fields[..] else { return None };
                let members = members.split(',').filter(|member| !member.is_empty()).map(str::to_owned).collect();
                Some(Group { name: name.to_owned(), gid: gid.parse().ok()?, members })
            })
            .collect()
    }

    /// A user by name.
    pub fn user(&self, name: &str) -> Option<User> {
        self.users().into_iter().find(|user| user.name == name)
    }

    /// A group by name.
    pub fn group(&self, name: &str) -> Option<Group> {
        self.groups().into_iter().find(|group| group.name == name)
    }

    /// Makes a group if there is none of this name; its number.
    pub fn add_group(&mut self, name: &str, gid: Option<u32>, system: bool) -> Result<u32, AccountError> {
        let groups = self.groups();
        if let Some(present) = groups.iter().find(|group| group.name == name) {
            return Ok(present.gid);
        }
        if !is_name(name) {
            return Err(AccountError::Name(name.to_owned()));
        }
        let gid = gid.unwrap_or_else(|| free(groups.iter().map(|group| group.gid), system));
        self.append(GROUP, format!("{name}:x:{gid}:\n").as_bytes())
            .map_err(|error| AccountError::File(GROUP, error))?;
        Ok(gid)
    }

    /// Makes a user, or changes the groups and password of the one that is there.
    pub fn add_user(&mut self, new: &NewUser) -> Result<User, AccountError> {
        if !is_name(&new.name) {
            return Err(AccountError::Name(new.name.clone()));
        }
        for group in new.groups.iter().chain(&new.primary_group) {
            if self.group(group).is_none() {
                return Err(AccountError::NoGroup(group.clone()));
            }
        }
        let user = match self.user(&new.name) {
            Some(user) => user,
            None => self.create_user(new)?,
        };
        for group in &new.groups {
            self.join_group(&user.name, group)?;
        }
        if let Some(hash) = &new.password_hash {
            self.set_password(&user.name, hash)?;
        }
        Ok(user)
    }

    fn create_user(&mut self, new: &NewUser) -> Result<User, AccountError> {
        let users = self.users();
        if let Some(uid) = new.uid.filter(|uid| users.iter().any(|user| user.owner.uid == *uid)) {
            return Err(AccountError::Taken(uid));
        }
        let uid = new.uid.unwrap_or_else(|| free(users.iter().map(|user| user.owner.uid), new.system));
        let gid = match &new.primary_group {
            Some(group) => self.group(group).map(|group| group.gid).unwrap_or_default(),
            None => self.add_group(&new.name, None, new.system)?,
        };
        let user = User {
            name: new.name.clone(),
            owner: Owner { uid, gid },
            home: new.home.clone().unwrap_or_else(|| format!("/home/{}", new.name)),
            shell: new.shell.clone().unwrap_or_else(|| "/bin/bash".to_owned()),
        };
        let line = format!("{}:x:{uid}:{gid}:{}:{}:{}\n", user.name, new.gecos, user.home, user.shell);
        self.append(PASSWD, line.as_bytes()).map_err(|error| AccountError::File(PASSWD, error))?;
        self.set_password(&user.name, "!")?;
        if new.create_home {
            let made = self.make_directories(&user.home).and_then(|()| self.set_owner(&user.home, user.owner));
            made.map_err(|error| AccountError::File("home directory", error))?;
        }
        Ok(user)
    }

    /// Makes a user a member of a group that exists.
    pub fn join_group(&mut self, user: &str, group: &str) -> Result<(), AccountError> {
        let text = self.read_text(GROUP).unwrap_or_default();
        let mut found = false;
        let mut lines = Vec::new();
        for line in text.lines() {
            if line.split(':').next() != Some(group) {
                lines.push(line.to_owned());
                continue;
            }
            found = true;
            let (head, members) = line.rsplit_once(':').unwrap_or((line, ""));
            let mut members: Vec<&str> = members.split(',').filter(|member| !member.is_empty()).collect();
            if !members.contains(&user) {
                members.push(user);
            }
            lines.push(format!("{head}:{}", members.join(",")));
        }
        if !found {
            return Err(AccountError::NoGroup(group.to_owned()));
        }
        self.write(GROUP, (lines.join("\n") + "\n").into_bytes()).map_err(|error| AccountError::File(GROUP, error))
    }

    /// Sets a user's password hash.
    pub fn set_password(&mut self, user: &str, hash: &str) -> Result<(), AccountError> {
        let text = self.read_text(SHADOW).unwrap_or_default();
        let mut lines: Vec<_> =
            text.lines().filter(|line| line.split(':').next() != Some(user)).map(str::to_owned).collect();
        lines.push(format!("{user}:{hash}:::::::"));
        self.put(SHADOW, (lines.join("\n") + "\n").into_bytes(), 0o640, Owner::default())
            .map_err(|error| AccountError::File(SHADOW, error))
    }

    /// Adds keys that may log in as this user.
    pub fn authorize_keys(&mut self, user: &User, file: &str, keys: &[String]) -> Result<(), Errno> {
        let path = format!("{}/.ssh/{file}", user.home.trim_end_matches('/'));
        let old = self.read_text(&path).unwrap_or_default();
        let text: String = keys.iter().map(|key| format!("{}\n", key.trim_end())).collect();
        self.put(&path, (old + &text).into_bytes(), 0o600, user.owner)?;
        let folder = format!("{}/.ssh", user.home.trim_end_matches('/'));
        self.set_owner(&folder, user.owner)?;
        self.set_mode(&folder, 0o700)
    }

    /// The numbers that `owner[:group]` or `owner.group` means, each a name or a number; what is not said is kept from
    /// `present`. The wrong part as error.
    pub fn owner(&self, text: &str, present: Owner) -> Result<Owner, String> {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let mut owner = present;
        let mut primary = None;
        if !user.is_empty() {
            let known = self.user(user);
            owner.uid = match (&known, user.parse()) {
                (Some(user), _) => user.owner.uid,
                (None, Ok(uid)) => uid,
                (None, Err(_)) => return Err(format!("invalid user: '{text}'")),
            };
            primary = known.map(|user| user.owner.gid);
        }
        match (group, primary) {
            // `user:` is the user with its login group.
            (Some(""), Some(gid)) => owner.gid = gid,
            (Some("") | None, _) => {}
            (Some(group), _) => {
                owner.gid = match (self.group(group), group.parse()) {
                    (Some(group), _) => group.gid,
                    (None, Ok(gid)) => gid,
                    (None, Err(_)) => return Err(format!("invalid group: '{text}'")),
                };
            }
        }
        Ok(owner)
    }

    /// `user:group` as `ls` shows it.
    pub fn owner_names(&self, owner: Owner) -> (String, String) {
        let user = self.users().into_iter().find(|user| user.owner.uid == owner.uid);
        let group = self.groups().into_iter().find(|group| group.gid == owner.gid);
        (
            user.map_or_else(|| owner.uid.to_string(), |user| user.name),
            group.map_or_else(|| owner.gid.to_string(), |group| group.name),
        )
    }
}

fn free(taken: impl Iterator<Item = u32>, system: bool) -> u32 {
    let (first, end) = if system { (FIRST_SYSTEM_ID, FIRST_ID) } else { (FIRST_ID, 60_000) };
    taken.filter(|id| (first..end).contains(id)).max().map_or(first, |id| id + 1)
}

/// What `useradd` takes as a name.
fn is_name(name: &str) -> bool {
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let rest = name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.$".contains(c));
    first && rest && name.len() <= 32
}
