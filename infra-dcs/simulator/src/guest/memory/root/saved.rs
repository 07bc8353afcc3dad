//! Contents of files in JSON: as text where they are text, which most are.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::{FileSystem, Volume};

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Content<'a> {
    Text(std::borrow::Cow<'a, str>),
    Base64(String),
}

pub fn serialize<S: Serializer>(content: &Arc<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    let content = match std::str::from_utf8(content) {
        Ok(text) => Content::Text(text.into()),
        Err(_) => Content::Base64(BASE64_STANDARD.encode(content)),
    };
    content.serialize(serializer)
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<[u8]>, D::Error> {
    Ok(match Content::deserialize(deserializer)? {
        Content::Text(text) => text.as_bytes().into(),
        Content::Base64(text) => BASE64_STANDARD.decode(text).map_err(D::Error::custom)?.into(),
    })
}

impl Serialize for Volume {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.lock().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Volume {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        FileSystem::deserialize(deserializer).map(Self::new)
    }
}
