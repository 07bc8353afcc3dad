//! Boot data in Ignition format.

use ignition::{
    contains_token, parse, replace_tokens_in_files,
    v3::{Config, File, Owner},
};

use super::{Addition, RenderError};

/// Reads any supported version, adds files, replaces tokens; the result is Ignition 3.3.0.
pub(super) fn complete(
    value: &[u8],
    additions: &[Addition],
    tokens: &[(&'static str, &str)],
) -> Result<Vec<u8>, RenderError> {
    let mut document = parse(value)?;
    replace_tokens_in_files(&mut document, tokens)?;
    for file in &document.storage.files {
        let Some(text) = file.content().and_then(|content| String::from_utf8(content).ok()) else { continue };
        if let Some((token, _)) = tokens.iter().find(|(token, _)| contains_token(&text, token)) {
            return Err(RenderError::PlaceholderLeft { path: file.path.clone(), token });
        }
    }
    let mut added = Config::new();
    for addition in additions {
        let path = addition.path();
        if addition.yields && document.file(&path).is_some() {
            continue;
        }
        let root = Some(Owner { id: Some(0), ..Owner::default() });
        let file = File::new(path, &addition.content, addition.mode);
        added.storage.files.push(File { user: root.clone(), group: root, ..file });
    }
    document.merge(added);
    Ok(serde_json::to_vec(&document)?)
}
