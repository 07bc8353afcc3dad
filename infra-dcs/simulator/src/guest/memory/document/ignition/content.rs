//! What lies at a URL: only `data:` URLs (RFC 2397), as nothing else can be reached before the network is up.

use std::{io::Read as _, sync::Arc};

use aws_lc_rs::digest;
use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use flate2::read::MultiGzDecoder;

use crate::guest::memory::document::reader::{Fields, Read, wrong};

/// A file that unpacks to more is a mistake, and must not fill the memory.
const LIMIT: u64 = 64 << 20;
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// Reads a resource; none where it has no source.
pub(super) fn resource(fields: &Fields<'_>, minor: u32) -> Read<Option<Arc<[u8]>>> {
    let source = fields.text("source")?;
    let compression = fields.text("compression")?.unwrap_or_default();
    let hash = fields.within("verification", |verification| verification.text("hash"))?;
    let mut headers = 0;
    if minor >= 1 {
        headers = fields.each("httpHeaders", |header| Ok((header.required("name")?, header.text("value")?)))?.len();
    }
    if !matches!(compression.as_str(), "" | "gzip") {
        return wrong(fields.path("compression"), format!("unsupported compression {compression:?}; use gzip or none"));
    }
    let hash_path = fields.path("verification.hash");
    if let Some(hash) = &hash {
        check_hash_form(hash, minor).or_else(|reason| wrong(&hash_path, reason))?;
    }
    let Some(source) = source else {
        return if headers > 0 || !compression.is_empty() || hash.is_some() {
            wrong(fields.path("source"), "is required where compression, headers or a hash are given")
        } else {
            Ok(None)
        };
    };
    let path = fields.path("source");
    if headers > 0 && !source.starts_with("http") {
        return wrong(fields.path("httpHeaders"), "headers go with http and https only");
    }
    let mut content = decode(&source).or_else(|reason| wrong(&path, reason))?;
    if compression == "gzip" {
        content = unzip(&content).or_else(|reason| wrong(&path, reason))?;
    }
    if let Some(hash) = &hash {
        verify(hash, &content).or_else(|reason| wrong(&hash_path, reason))?;
    }
    Ok(Some(content.into()))
}

/// Bytes of a `data:` URL.
pub(super) fn decode(source: &str) -> Result<Vec<u8>, String> {
    if source.is_empty() {
        return Ok(Vec::new());
    }
    let scheme = source.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    match scheme.as_deref() {
        Some("data") => {}
        Some(scheme @ ("http" | "https" | "tftp" | "s3" | "arn" | "gs")) => {
            return Err(format!(
                "cannot fetch from {scheme}: there is no network before the first boot; use a data: URL"
            ));
        }
        _ => return Err("invalid url scheme; use a data: URL".to_owned()),
    }
    let (head, data) = source["data:".len()..].split_once(',').ok_or("a data: URL without a comma")?;
    let mut parameters = head.split(';');
    let media_type = parameters.next().unwrap_or_default();
    if !media_type.is_empty() && !media_type.contains('/') {
        return Err(format!("{media_type:?} is no media type"));
    }
    let mut is_base64 = false;
    for parameter in parameters {
        match parameter {
            "base64" => is_base64 = true,
            _ if is_base64 => return Err("base64 must be the last parameter".to_owned()),
            parameter if parameter.contains('=') => {}
            parameter => return Err(format!("{parameter:?} is no parameter of a data: URL")),
        }
    }
    let bytes = percent(data)?;
    if is_base64 { BASE64.decode(bytes).map_err(|error| format!("not base64: {error}")) } else { Ok(bytes) }
}

/// Takes percent signs apart; one without two digits is a mistake.
fn percent(text: &str) -> Result<Vec<u8>, String> {
    let bytes = text.as_bytes();
    let mut result = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        if *byte == b'%' {
            let digits = text.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
            result.push(digits.ok_or_else(|| format!("a percent sign without two digits at {at}"))?);
            at += 3;
        } else if byte.is_ascii_graphic() {
            result.push(*byte);
            at += 1;
        } else {
            return Err(format!("a character at {at} that must be percent-encoded"));
        }
    }
    Ok(result)
}

fn unzip(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    let read = MultiGzDecoder::new(bytes).take(LIMIT + 1).read_to_end(&mut content);
    read.map_err(|error| format!("not gzip: {error}"))?;
    if content.len() as u64 > LIMIT {
        return Err(format!("unpacks to more than {} MiB", LIMIT >> 20));
    }
    Ok(content)
}

fn check_hash_form(hash: &str, minor: u32) -> Result<(), String> {
    let (function, sum) = hash.split_once('-').ok_or("must be <function>-<sum>")?;
    let length = match function {
        "sha512" => 128,
        "sha256" if minor >= 1 => 64,
        _ => return Err(format!("hash function {function:?} is not supported; use sha512")),
    };
    if sum.len() != length || !sum.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!("a sum of {function} has {length} hexadecimal digits"));
    }
    Ok(())
}

fn verify(hash: &str, content: &[u8]) -> Result<(), String> {
    let (function, expected) = hash.split_once('-').unwrap_or_default();
    let algorithm = if function == "sha256" { &digest::SHA256 } else { &digest::SHA512 };
    let found = hex::encode(digest::digest(algorithm, content));
    if found == expected.to_ascii_lowercase() {
        return Ok(());
    }
    Err(format!("hash verification failed: the content has {function}-{found}"))
}
