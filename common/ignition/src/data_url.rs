//! `data:` URLs (RFC 2397) as Ignition uses them for file contents.

use std::io::{Read, Write};

use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::{Compression, GzBuilder, read::GzDecoder};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What stays readable in a text: the unreserved characters of RFC 3986.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Content larger than this, packed or not, is refused: it would not fit the boot medium.
pub const LIMIT: u64 = 100 * 1024 * 1024;

/// Why a content cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DataUrlError {
    /// No `data:` URL.
    #[error("only data: URLs carry their content; found scheme {0:?}")]
    Scheme(String),
    /// No comma.
    #[error("a data: URL needs a comma before its content")]
    NoComma,
    /// Bad base64.
    #[error("the data: URL says base64 and holds something else")]
    Base64,
    /// Bad gzip.
    #[error("the content says gzip and is something else")]
    Gzip,
    /// An unknown compression.
    #[error("compression {0:?} is unknown; use gzip or none")]
    Compression(String),
    /// Too large.
    #[error("the content is larger than {LIMIT} bytes")]
    TooLarge,
}

/// Whether a URL carries its content.
pub fn is_data_url(url: &str) -> bool {
    url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"))
}

/// The content that a `data:` URL carries.
pub fn decode(url: &str) -> Result<Vec<u8>, DataUrlError> {
    if !is_data_url(url) {
        return Err(DataUrlError::Scheme(url.split(':').next().unwrap_or_default().chars().take(16).collect()));
    }
    let (media_type, data) = url[5..].split_once(',').ok_or(DataUrlError::NoComma)?;
    let bytes: Vec<u8> = percent_decode_str(data).collect();
    if !media_type.split(';').any(|parameter| parameter.trim().eq_ignore_ascii_case("base64")) {
        return Ok(bytes);
    }
    let compact: Vec<u8> = bytes.into_iter().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(compact).map_err(|_| DataUrlError::Base64)
}

/// A `data:` URL that carries this text, readable as far as URLs allow.
pub fn encode_text(text: &str) -> String {
    format!("data:,{}", utf8_percent_encode(text, ESCAPED))
}

/// A `data:` URL that carries this content.
pub fn encode_bytes(content: &[u8]) -> String {
    if content.is_empty() { "data:,".to_owned() } else { format!("data:;base64,{}", STANDARD.encode(content)) }
}

/// The content of a URL after unpacking.
pub fn unpack(url: &str, compression: &str) -> Result<Vec<u8>, DataUrlError> {
    let packed = decode(url)?;
    match compression {
        "" => Ok(packed),
        "gzip" => {
            let mut content = Vec::new();
            GzDecoder::new(packed.as_slice())
                .take(LIMIT + 1)
                .read_to_end(&mut content)
                .map_err(|_| DataUrlError::Gzip)?;
            if content.len() as u64 > LIMIT { Err(DataUrlError::TooLarge) } else { Ok(content) }
        }
        other => Err(DataUrlError::Compression(other.to_owned())),
    }
}

/// A URL for this content, packed as `compression` says. The same content gives the same URL.
pub fn pack(content: &[u8], compression: &str) -> Result<String, DataUrlError> {
    match compression {
        "" => Ok(encode_bytes(content)),
        "gzip" => {
            // No time and no name in the header: repeated rendering must be byte-identical.
            let mut packer = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
            packer.write_all(content).map_err(|_| DataUrlError::Gzip)?;
            Ok(encode_bytes(&packer.finish().map_err(|_| DataUrlError::Gzip)?))
        }
        other => Err(DataUrlError::Compression(other.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_of_the_same_text_decode_alike() {
        for url in [
            "data:,hello%20world%0A",
            "data:text/plain;charset=utf-8,hello%20world%0a",
            "data:;base64,aGVsbG8gd29ybGQK",
            "data:text/plain;base64,aGVsbG8gd29ybGQK",
            "DATA:;base64,aGVsbG8gd29ybGQK",
            "data:;base64,aGVsbG8gd29y%62GQK",
        ] {
            assert_eq!(decode(url).unwrap(), b"hello world\n", "{url}");
        }
    }

    #[test]
    fn bad_urls_say_what_is_wrong() {
        assert_eq!(decode("https://example.org/x"), Err(DataUrlError::Scheme("https".to_owned())));
        assert_eq!(decode("data:;base64"), Err(DataUrlError::NoComma));
        assert_eq!(decode("data:;base64,***"), Err(DataUrlError::Base64));
        assert_eq!(unpack("data:,plain", "gzip"), Err(DataUrlError::Gzip));
        assert_eq!(unpack("data:,plain", "xz"), Err(DataUrlError::Compression("xz".to_owned())));
    }

    #[test]
    fn packing_is_repeatable_and_unpacks() {
        let url = pack(b"content", "gzip").unwrap();
        assert_eq!(url, pack(b"content", "gzip").unwrap());
        assert_eq!(unpack(&url, "gzip").unwrap(), b"content");
    }
}
