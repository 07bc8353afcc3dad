//! Users, logins, tokens, and the lock that failed logins close and prolong.

use serde::{Deserialize, Serialize};

use super::{Result, Site, VrmError, codes};

/// Kind of a user, as the login header numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum UserType {
    /// 0: portal user.
    Local,
    /// 1: user of a directory.
    Domain,
    /// 2: interface interconnection.
    Interconnect,
}

/// What stands between a user and a token besides the password.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Account {
    /// Nothing.
    #[default]
    Normal,
    /// The password must be changed first.
    MustChange,
    /// The password has expired.
    Expired,
    /// It will expire soon; a warning.
    ExpiresSoon,
    /// Locked by an administrator.
    Locked,
    /// Not activated.
    NotActivated,
}

/// A user in the site file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UserFile {
    /// Login name.
    pub name: String,
    /// Password.
    pub password: String,
    /// Kind.
    #[serde(rename = "type")]
    pub kind: UserType,
    /// `administrator` may do everything, any other role only reads; without a role nobody logs in.
    #[serde(default = "administrator")]
    pub role: String,
    /// State of the account.
    #[serde(default)]
    pub account: Account,
    /// Most sessions at a time; 0 is no limit.
    #[serde(default)]
    pub connect_num: usize,
}

fn administrator() -> String {
    "administrator".to_owned()
}

impl UserFile {
    /// An administrator for interface interconnection.
    pub fn interconnect(name: &str, password: &str) -> Self {
        Self {
            name: name.to_owned(),
            password: password.to_owned(),
            kind: UserType::Interconnect,
            role: administrator(),
            account: Account::Normal,
            connect_num: 0,
        }
    }
}

/// A user.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// As in the site file.
    #[serde(flatten)]
    pub file: UserFile,
    /// Failed logins in a row.
    pub failures: u32,
    /// End of the lock, milliseconds since the epoch; `u64::MAX` never ends.
    pub locked_until: Option<u64>,
}

impl User {
    /// A user without failures.
    pub fn new(file: &UserFile) -> Self {
        Self { file: file.clone(), failures: 0, locked_until: None }
    }
}

/// A token's holder and life.
#[derive(Clone, Debug)]
pub struct Session {
    /// Login name.
    pub user: String,
    /// End, milliseconds since the epoch.
    pub expires: u64,
}

/// What the headers of a login say.
#[derive(Clone, Debug)]
pub struct Login<'a> {
    /// Name.
    pub user: &'a str,
    /// Password, or its SHA-256 in lower-case hex.
    pub key: &'a str,
    /// Whether `key` is the password itself.
    pub plain: bool,
    /// Kind.
    pub kind: UserType,
}

/// A login that succeeded.
#[derive(Clone, Debug)]
pub struct Granted {
    /// The token.
    pub token: String,
    /// Its life in milliseconds.
    pub validity: u64,
    /// A warning that goes with it.
    pub warning: Option<VrmError>,
}

impl Site {
    /// Logs a user in. `sha256` gives the lower-case hex digest of a text; `token` is the text to hand out.
    pub fn login(&mut self, now: u64, login: &Login<'_>, sha256: fn(&str) -> String, token: String) -> Result<Granted> {
        let (threshold, lock_ms) = (self.policy.lock_threshold, self.policy.lock_ms);
        let domain = login.kind == UserType::Domain;
        let Some(user) = self.users.get_mut(login.user).filter(|user| !domain || user.file.kind == UserType::Domain)
        else {
            // Whom the directory does not know has no account here that could be locked.
            return if domain { codes::DOMAIN_USER_UNKNOWN.refuse() } else { codes::BAD_PASSWORD.refuse() };
        };
        let lock_end = if lock_ms == 0 { u64::MAX } else { now + lock_ms };
        match user.locked_until {
            Some(u64::MAX) => return codes::LOCKED_FOREVER.refuse(),
            Some(until) if until > now => {
                user.locked_until = Some(lock_end);
                return codes::STILL_LOCKED.refuse();
            }
            Some(_) => (user.locked_until, user.failures) = (None, 0),
            None => {}
        }
        match user.file.account {
            Account::Locked => return codes::LOCKED_BY_ADMINISTRATOR.refuse(),
            Account::NotActivated => return codes::NOT_ACTIVATED.refuse(),
            _ => {}
        }
        let expected = if login.plain { user.file.password.clone() } else { sha256(&user.file.password) };
        if login.key != expected || login.kind != user.file.kind {
            user.failures += 1;
            if threshold > 0 && user.failures >= threshold {
                user.locked_until = Some(lock_end);
                return codes::LOCKED_NOW.refuse();
            }
            return if domain { codes::DOMAIN_CREDENTIAL.refuse() } else { codes::BAD_PASSWORD.refuse() };
        }
        user.failures = 0;
        if user.file.role.is_empty() {
            return codes::NO_ROLE.refuse();
        }
        let warning = match user.file.account {
            Account::MustChange => return codes::PASSWORD_MUST_CHANGE.refuse(),
            Account::Expired => return codes::PASSWORD_EXPIRED.refuse(),
            Account::ExpiresSoon => Some(codes::PASSWORD_EXPIRES_SOON.into()),
            _ => None,
        };
        let (validity, most) = (self.policy.token_validity_ms, user.file.connect_num);
        self.sessions.retain(|_, session| session.expires > now);
        let open = self.sessions.values().filter(|session| session.user == login.user).count();
        if most > 0 && open >= most {
            return Err(codes::LOGIN_FAILED.because(format!("{open} sessions are open, at most {most} may be")));
        }
        self.sessions.insert(token.clone(), Session { user: login.user.to_owned(), expires: now + validity });
        Ok(Granted { token, validity, warning })
    }

    /// The user of a token that is good.
    pub fn authenticate(&mut self, now: u64, token: &str) -> Result<String> {
        let (sliding, validity) = (self.policy.token_sliding, self.policy.token_validity_ms);
        let session = self.sessions.get_mut(token).filter(|session| session.expires > now).ok_or(codes::TOKEN)?;
        if sliding {
            session.expires = now + validity;
        }
        Ok(session.user.clone())
    }

    /// Ends a session.
    pub fn logout(&mut self, now: u64, token: &str) -> Result<()> {
        let session = self.sessions.remove(token).filter(|session| session.expires > now);
        session.map(drop).ok_or_else(|| codes::TOKEN.into())
    }

    /// Refuses what changes the site to users that are no administrators.
    pub fn may_change(&self, user: &str) -> Result<()> {
        match self.users.get(user) {
            Some(user) if user.file.role == "administrator" => Ok(()),
            _ => codes::NO_PERMISSION.refuse(),
        }
    }
}
