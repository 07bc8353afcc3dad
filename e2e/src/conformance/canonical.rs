//! Answers without what two clusters cannot have in common: names, addresses, moments, identifiers.

use anyhow::Result;
use regex::{NoExpand, Regex};
use serde_json::{Map, Value};

/// Fields that tell how something came about, not what it is.
const DROPPED: [&str; 2] = ["managedFields", "generation"];
/// Fields that name an element of a list, in the order of preference.
const NAMES: [&str; 4] = ["name", "type", "label", "key"];

/// Replaces what is one cluster's own by a word for what it is.
pub struct Canon {
    /// Exact texts and their words, the longest first.
    exact: Vec<(String, String)>,
    /// Names that count only as whole words.
    names: Vec<(Regex, String)>,
    patterns: Vec<(Regex, &'static str)>,
}

impl Canon {
    /// `exact` texts are replaced wherever they stand, `names` where they are a word of their own.
    pub fn new(mut exact: Vec<(String, String)>, names: &[(String, &str)]) -> Result<Self> {
        exact.retain(|(text, _)| !text.is_empty());
        exact.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        let names: Result<Vec<_>, regex::Error> = names
            .iter()
            .map(|(name, word)| Ok((Regex::new(&format!(r"\b{}\b", regex::escape(name)))?, (*word).to_owned())))
            .collect();
        let patterns = [
            (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "{time}"),
            (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "{uid}"),
            (r"\b[0-9a-f]{64}\b", "{digest}"),
            (r"\b[0-9a-f]{32}\b", "{hash}"),
            (r"\bbootstrap-token-[a-z0-9]{6}\b", "bootstrap-token-{id}"),
            (r"\bsystem:bootstrap:[a-z0-9]{6}\b", "system:bootstrap:{id}"),
            (r"\bkube-api-access-[a-z0-9]{5}\b", "kube-api-access-{id}"),
        ];
        let patterns: Result<Vec<_>, regex::Error> =
            patterns.into_iter().map(|(pattern, word)| Ok((Regex::new(pattern)?, word))).collect();
        Ok(Self { exact, names: names?, patterns: patterns? })
    }

    /// A text with words in place of what differs.
    pub fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (exact, word) in &self.exact {
            if text.contains(exact.as_str()) {
                text = text.replace(exact.as_str(), word);
            }
        }
        for (name, word) in &self.names {
            text = name.replace_all(&text, NoExpand(word)).into_owned();
        }
        for (pattern, word) in &self.patterns {
            text = pattern.replace_all(&text, NoExpand(word)).into_owned();
        }
        text
    }

    /// A whole answer. Lists of named things become maps, so that a difference is said by name.
    pub fn value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.text(text).into(),
            Value::Array(items) => {
                let items: Vec<Value> = items.iter().map(|item| self.value(item)).collect();
                by_name(&items).map_or(Value::Array(items), Value::Object)
            }
            Value::Object(fields) => {
                let kept = fields.iter().filter(|(field, _)| !DROPPED.contains(&field.as_str()));
                Value::Object(kept.map(|(field, value)| (self.text(field), self.field(field, value))).collect())
            }
            other => other.clone(),
        }
    }

    fn field(&self, field: &str, value: &Value) -> Value {
        let is_number = value.as_str().is_some_and(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
        match field {
            "resourceVersion" if is_number => "{version}".into(),
            // How often something was changed on the way is nobody's promise.
            "observedGeneration" if value.is_number() => "{generation}".into(),
            // What a node has pulled by now.
            "images" if value[0]["sizeBytes"].is_number() => "{images}".into(),
            "continue" if value.as_str().is_some_and(|text| !text.is_empty()) => "{token}".into(),
            _ => self.value(value),
        }
    }
}

/// The elements of a list by their names, where each has one of its own.
fn by_name(items: &[Value]) -> Option<Map<String, Value>> {
    if items.is_empty() {
        return None;
    }
    NAMES.into_iter().find_map(|field| {
        let mut named = Map::new();
        for item in items {
            let mut fields = item.as_object()?.clone();
            let Some(Value::String(name)) = fields.remove(field) else { return None };
            named.insert(name, Value::Object(fields)).is_none().then_some(())?;
        }
        Some(named)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn canon() -> Canon {
        let exact = [("c1-cp-1", "{control-plane}"), ("10.77.11.1", "{address}"), ("10.77.11.10", "{other}")];
        let exact = exact.map(|(text, word)| (text.to_owned(), word.to_owned())).to_vec();
        Canon::new(exact, &[("c1".to_owned(), "{cluster}")]).unwrap()
    }

    #[test]
    fn what_is_a_clusters_own_becomes_a_word() {
        let canon = canon();
        assert_eq!(canon.text("https://10.77.11.10:2380,10.77.11.1"), "https://{other}:2380,{address}");
        assert_eq!(canon.text("c1-cp-1 of c1 (abc1)"), "{control-plane} of {cluster} (abc1)");
        assert_eq!(canon.text("at 2026-01-02T03:04:05.678901Z"), "at {time}");
        assert_eq!(canon.text("0f0e0d0c-0b0a-4908-8706-050403020100"), "{uid}");
    }

    #[test]
    fn lists_of_named_things_become_maps() {
        let found = canon().value(&json!({
            "resourceVersion": "12", "managedFields": [], "ports": [{"name": "a", "port": 1}, {"name": "b", "port": 2}],
            "words": ["b", "a"], "twice": [{"name": "a"}, {"name": "a"}],
        }));
        let wanted = json!({
            "resourceVersion": "{version}", "ports": {"a": {"port": 1}, "b": {"port": 2}},
            "words": ["b", "a"], "twice": [{"name": "a"}, {"name": "a"}],
        });
        assert_eq!(found, wanted);
    }
}
