//! Tokens in file contents that are known only when the machine is, e.g. `NODE_IP`.

use crate::{
    data_url::{self, DataUrlError},
    v3::{Config, Resource, Verification},
};

/// Why a token could not be replaced.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("content of {path}: {source}")]
pub struct PlaceholderError {
    /// Path of the file.
    pub path: String,
    /// What is wrong with its content.
    pub source: DataUrlError,
}

/// Replaces every whole token of `tokens` (name, value) in a text. `MY_NODE_IP` and `NODE_IPS` are other words than
/// `NODE_IP` and stay. `None` when nothing was replaced.
pub fn replace_tokens(text: &str, tokens: &[(&str, &str)]) -> Option<String> {
    let mut out = String::new();
    let (mut rest, mut before, mut replaced) = (text, None, false);
    while let Some((at, name, value)) = next_token(rest, before, tokens) {
        out.push_str(&rest[..at]);
        out.push_str(value);
        before = name.chars().next_back();
        rest = &rest[at + name.len()..];
        replaced = true;
    }
    out.push_str(rest);
    replaced.then_some(out)
}

/// Whether a text holds the token as a whole word.
pub fn contains_token(text: &str, token: &str) -> bool {
    next_token(text, None, &[(token, "")]).is_some()
}

/// The first whole token in `text`; `before` is the character in front of it.
fn next_token<'a>(
    text: &str,
    before: Option<char>,
    tokens: &[(&'a str, &'a str)],
) -> Option<(usize, &'a str, &'a str)> {
    let whole = |at: usize, name: &str| {
        let left = if at == 0 { before } else { text[..at].chars().next_back() };
        let right = text[at + name.len()..].chars().next();
        !left.is_some_and(is_word) && !right.is_some_and(is_word)
    };
    tokens
        .iter()
        .filter(|(name, _)| !name.is_empty())
        .filter_map(|(name, value)| {
            let (at, _) = text.match_indices(name).find(|(at, _)| whole(*at, name))?;
            Some((at, *name, *value))
        })
        .min_by_key(|(at, ..)| *at)
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Replaces the tokens inside the decoded contents of all files that the document carries, and nowhere else. Binary
/// contents and contents that lie elsewhere are left as they are.
pub fn replace_tokens_in_files(document: &mut Config, tokens: &[(&str, &str)]) -> Result<(), PlaceholderError> {
    for file in &mut document.storage.files {
        for resource in file.contents.iter_mut().chain(&mut file.append) {
            replace_in(resource, tokens).map_err(|source| PlaceholderError { path: file.path.clone(), source })?;
        }
    }
    Ok(())
}

fn replace_in(resource: &mut Resource, tokens: &[(&str, &str)]) -> Result<(), DataUrlError> {
    let Some(source) = resource.source.as_deref().filter(|source| data_url::is_data_url(source)) else { return Ok(()) };
    let compression = resource.compression.as_deref().unwrap_or_default();
    let content = data_url::unpack(source, compression)?;
    let Ok(text) = std::str::from_utf8(&content) else { return Ok(()) };
    if let Some(replaced) = replace_tokens(text, tokens) {
        resource.source = Some(data_url::pack(replaced.as_bytes(), compression)?);
        // The hash was of the content with the token in it.
        resource.verification = Verification::default();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v3::File;

    const TOKENS: &[(&str, &str)] = &[("PROVIDER_ID", "dcs://m-0"), ("NODE_IP", "10.0.0.7")];

    #[test]
    fn only_whole_tokens_are_replaced() {
        for (text, expected) in [
            ("node-ip: NODE_IP\n", Some("node-ip: 10.0.0.7\n")),
            ("a=NODE_IP,b=PROVIDER_ID", Some("a=10.0.0.7,b=dcs://m-0")),
            ("NODE_IP", Some("10.0.0.7")),
            ("NODE_IP:PROVIDER_ID NODE_IP", Some("10.0.0.7:dcs://m-0 10.0.0.7")),
            ("MY_NODE_IP NODE_IPS NODE_IP_2", None),
            ("NODE_IPS NODE_IP", Some("NODE_IPS 10.0.0.7")),
            ("é-NODE_IP-é", Some("é-10.0.0.7-é")),
            ("NODE_IPNODE_IP", None),
            ("", None),
        ] {
            assert_eq!(replace_tokens(text, TOKENS).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn tokens_are_found_in_every_encoding_of_file_contents_and_only_there() {
        let mut document = Config::new();
        let mut add = |path: &str, source: String, compression: Option<&str>| {
            document.storage.files.push(File {
                path: path.to_owned(),
                contents: Some(Resource {
                    source: Some(source),
                    compression: compression.map(str::to_owned),
                    ..Resource::default()
                }),
                ..File::default()
            });
        };
        add("/plain", "data:,ip%3DNODE_IP".to_owned(), None);
        add("/base64", data_url::encode_bytes(b"ip=NODE_IP"), None);
        add("/gzip", data_url::pack(b"ip=NODE_IP", "gzip").unwrap(), Some("gzip"));
        add("/NODE_IP/remote", "https://example.org/NODE_IP".to_owned(), None);
        add("/binary", data_url::encode_bytes(b"\xff NODE_IP"), None);
        replace_tokens_in_files(&mut document, TOKENS).unwrap();
        for path in ["/plain", "/base64", "/gzip"] {
            assert_eq!(document.file(path).unwrap().content().unwrap(), b"ip=10.0.0.7", "{path}");
        }
        assert_eq!(document.file("/binary").unwrap().content().unwrap(), b"\xff NODE_IP");
        assert!(document.file("/NODE_IP/remote").is_some());
    }

    #[test]
    fn a_broken_content_names_its_file() {
        let mut document = Config::new();
        document.storage.files.push(File::new("/etc/x", b"", 420));
        document.storage.files[0].contents.as_mut().unwrap().source = Some("data:;base64,%%%".to_owned());
        let error = replace_tokens_in_files(&mut document, TOKENS).unwrap_err();
        assert!(error.to_string().starts_with("content of /etc/x:"), "{error}");
    }
}
