//! Boot data in cloud-config format, read by cloud-init from a config drive.

use base64::{Engine, engine::general_purpose::STANDARD};
use ignition::{contains_token, data_url, replace_tokens};
use serde_json::{Value, json};

use super::{Addition, RenderError};

/// The first lines that make cloud-init read the document as a template and as cloud-config.
const HEADER: &str = "#cloud-config\n";
const TEMPLATE_HEADER: &str = "## template: jinja\n";

/// Adds files and replaces tokens in the contents of those that are there.
pub(super) fn complete(
    value: &[u8],
    additions: &[Addition],
    tokens: &[(&'static str, &str)],
) -> Result<Vec<u8>, RenderError> {
    let wrong = |reason: String| RenderError::CloudConfig(reason);
    let text = std::str::from_utf8(value).map_err(|_| wrong("not UTF-8".to_owned()))?;
    let is_template = text.starts_with("## template: jinja");
    if !text.lines().any(|line| line.trim() == "#cloud-config") {
        return Err(wrong("the line \"#cloud-config\" is missing".to_owned()));
    }
    let mut document: Value = serde_saphyr::from_str(text).map_err(|error| wrong(error.to_string()))?;
    if document.is_null() {
        document = json!({});
    }
    let fields = document.as_object_mut().ok_or_else(|| wrong("not a map".to_owned()))?;
    let files = fields.entry("write_files").or_insert_with(|| json!([]));
    let files = files.as_array_mut().ok_or_else(|| wrong("write_files is not a list".to_owned()))?;
    for file in files.iter_mut() {
        replace_in(file, tokens)?;
    }
    for addition in additions {
        let path = addition.path();
        let present = files.iter().position(|file| file["path"] == path.as_str());
        match present {
            Some(_) if addition.yields => continue,
            Some(index) => {
                files.remove(index);
            }
            None => {}
        }
        files.push(json!({
            "path": path,
            "owner": "root:root",
            "permissions": format!("0{:o}", addition.mode),
            // Encoded, so that neither YAML nor the template engine looks into it.
            "encoding": "b64",
            "content": STANDARD.encode(&addition.content),
        }));
    }
    let body = serde_saphyr::to_string(&document).map_err(|error| wrong(error.to_string()))?;
    let header = if is_template { TEMPLATE_HEADER } else { "" };
    Ok(format!("{header}{HEADER}{body}").into_bytes())
}

fn replace_in(file: &mut Value, tokens: &[(&'static str, &str)]) -> Result<(), RenderError> {
    let path = file["path"].as_str().unwrap_or_default().to_owned();
    let Some(content) = file["content"].as_str() else { return Ok(()) };
    let broken = |source| RenderError::Placeholder(ignition::PlaceholderError { path: path.clone(), source });
    let encoding = file["encoding"].as_str().unwrap_or_default().to_owned();
    let (base64, gzip) = match encoding.as_str() {
        "b64" | "base64" => (true, ""),
        "gz+b64" | "gzip+base64" | "gz+base64" | "gzip+b64" => (true, "gzip"),
        _ => (false, ""),
    };
    let text = if base64 {
        let bytes = data_url::unpack(&format!("data:;base64,{content}"), gzip).map_err(broken)?;
        let Ok(text) = String::from_utf8(bytes) else { return Ok(()) };
        text
    } else {
        content.to_owned()
    };
    if let Some(replaced) = replace_tokens(&text, tokens) {
        if let Some((token, _)) = tokens.iter().find(|(token, _)| contains_token(&replaced, token)) {
            return Err(RenderError::PlaceholderLeft { path, token });
        }
        file["content"] = if base64 {
            let url = data_url::pack(replaced.as_bytes(), gzip).map_err(broken)?;
            json!(url.split_once(',').map(|(_, data)| data).unwrap_or_default())
        } else {
            json!(replaced)
        };
    }
    Ok(())
}

/// `meta_data.json` of a config drive.
pub(super) fn meta_data(instance: &str, hostname: &str) -> Result<Vec<u8>, RenderError> {
    Ok(serde_json::to_vec(&json!({"uuid": instance, "hostname": hostname, "name": hostname}))?)
}
