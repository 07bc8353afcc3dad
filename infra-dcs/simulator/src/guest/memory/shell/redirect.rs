//! Redirections (XCU 2.7).

use std::sync::Arc;

use super::{
    ast::{Redirect, RedirectKind, Word},
    exec::{Shell, Stop},
    files::{Input, Stream},
};

impl Shell<'_> {
    /// Opens all; false, and a message, where one cannot be.
    pub(super) async fn redirects(&mut self, redirects: &[Redirect]) -> Result<bool, Stop> {
        for redirect in redirects {
            if !self.redirect(redirect).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) async fn redirect(&mut self, redirect: &Redirect) -> Result<bool, Stop> {
        let Redirect { descriptor, kind } = redirect;
        match kind {
            RedirectKind::Document(body) => {
                let text = match body.get() {
                    Some(word) => self.text(word).await?,
                    None => String::new(),
                };
                self.files.set(descriptor.unwrap_or(0), Stream::Input(Input::new(text.into_bytes())));
            }
            RedirectKind::Text(word) => {
                let text = self.text(word).await? + "\n";
                self.files.set(descriptor.unwrap_or(0), Stream::Input(Input::new(text.into_bytes())));
            }
            RedirectKind::Duplicate(word) => {
                let target = self.text(word).await?;
                let descriptor = descriptor.unwrap_or(1);
                if target == "-" {
                    self.files.close(descriptor);
                    return Ok(true);
                }
                let Some(stream) = target.parse().ok().and_then(|number| self.files.get(number)).cloned() else {
                    self.complain(&format!("{target}: Bad file descriptor"));
                    return Ok(false);
                };
                self.files.set(descriptor, stream);
            }
            RedirectKind::Read(word) | RedirectKind::ReadWrite(word) => {
                let name = self.text(word).await?;
                let path = self.absolute(&name);
                let found = match (kind, self.machine.root.read(&path)) {
                    (_, Ok(content)) if self.machine.root.is_directory(&path) => Ok(content),
                    (RedirectKind::ReadWrite(_), Err(_)) => {
                        self.machine.root.append(&path, b"").map(|()| Arc::default())
                    }
                    (_, result) => result,
                };
                match found {
                    Ok(content) => {
                        self.charge(content.len() as u64 / 4096)?;
                        self.files.set(descriptor.unwrap_or(0), Stream::Input(Input::new(content)));
                    }
                    Err(error) => {
                        self.complain(&format!("{name}: {error}"));
                        return Ok(false);
                    }
                }
            }
            RedirectKind::Write(word) | RedirectKind::Append(word) => {
                let append = matches!(kind, RedirectKind::Append(_));
                match self.open(word, append).await? {
                    Some(stream) => self.files.set(descriptor.unwrap_or(1), stream),
                    None => return Ok(false),
                }
            }
            RedirectKind::Both { word, append } => match self.open(word, *append).await? {
                Some(stream) => {
                    self.files.set(1, stream.clone());
                    self.files.set(2, stream);
                }
                None => return Ok(false),
            },
        }
        Ok(true)
    }

    async fn open(&mut self, word: &Word, append: bool) -> Result<Option<Stream>, Stop> {
        let name = self.text(word).await?;
        let path = self.absolute(&name);
        let files = self.files.clone();
        match files.open_write(&path, append, self.machine) {
            Ok(stream) => Ok(Some(stream)),
            Err(error) => {
                self.complain(&format!("{name}: {error}"));
                Ok(None)
            }
        }
    }
}
