//! What Go says of JSON that it cannot read: its words reach the clients of a real server.

use serde_json::Value;

/// Why a text is no JSON.
pub fn json_error(error: &serde_json::Error, text: &[u8]) -> String {
    if error.is_eof() {
        return "unexpected end of JSON input".into();
    }
    let line = text.split(|byte| *byte == b'\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    let wrong = line.get(error.column().saturating_sub(1)).copied().unwrap_or_default();
    let shown = match wrong {
        b'\'' => "\\'".to_owned(),
        b' '..=b'~' => char::from(wrong).to_string(),
        _ => format!("\\u{wrong:04x}"),
    };
    format!("invalid character '{shown}' looking for beginning of value")
}

/// What the type of a value is called.
pub fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wrong_character_is_named() {
        let of = |text: &[u8]| json_error(&serde_json::from_slice::<Value>(text).unwrap_err(), text);
        assert_eq!(of(b"{"), "unexpected end of JSON input");
        assert_eq!(of(b"x"), "invalid character 'x' looking for beginning of value");
        assert_eq!(of(b"\x9e{"), "invalid character '\\u009e' looking for beginning of value");
    }
}
