//! Ignition documents: specification 2.3.0 (what the kubeadm bootstrap provider writes), specification 3.3.0 (what the
//! machine images read), the translation between them, Container Linux Configs, merging, and replacement of tokens inside file contents.
//!
//! Nothing here performs I/O: documents come and go as values.

pub mod clc;
pub mod data_url;
mod merge;
mod placeholder;
mod translate;
pub mod v2;
pub mod v3;

pub use crate::{
    data_url::DataUrlError,
    placeholder::{PlaceholderError, contains_token, replace_tokens, replace_tokens_in_files},
    translate::{TranslateError, translate},
};

use serde::Deserialize;

/// Why bytes are not an Ignition document that we read.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// Not JSON, or JSON of another shape.
    #[error("not an Ignition document: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A version outside 2.0–2.3 and 3.0–3.3.
    #[error("Ignition specification {0:?} is not supported; use 2.0.0 to 2.3.0 or 3.0.0 to 3.3.0")]
    Version(String),
    /// A document of specification 2 that says what specification 3 cannot.
    #[error(transparent)]
    Translate(#[from] TranslateError),
}

/// Reads a document of any supported specification as one of 3.3.0.
pub fn parse(json: &[u8]) -> Result<v3::Config, ParseError> {
    #[derive(Deserialize)]
    struct Header {
        ignition: Version,
    }
    #[derive(Deserialize)]
    struct Version {
        version: String,
    }
    let version = serde_json::from_slice::<Header>(json)?.ignition.version;
    match version.as_str() {
        "2.0.0" | "2.1.0" | "2.2.0" | "2.3.0" => Ok(translate(serde_json::from_slice(json)?)?),
        "3.0.0" | "3.1.0" | "3.2.0" | "3.3.0" => {
            let mut document: v3::Config = serde_json::from_slice(json)?;
            v3::VERSION.clone_into(&mut document.ignition.version);
            Ok(document)
        }
        _ => Err(ParseError::Version(version)),
    }
}
