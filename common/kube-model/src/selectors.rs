//! Label and field selectors.

use serde_json::Value;

use crate::{
    errors::{ApiError, FieldError},
    meta, object,
    registry::Resource,
};

/// What a selector asks of one label.
#[derive(Clone, Debug, PartialEq, Eq)]
enum LabelRule {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Missing,
    GreaterThan(i64),
    LessThan(i64),
}

/// Whether a `LabelSelector` of an object selects these labels (`metav1.LabelSelectorAsSelector`): none at all selects
/// nothing, an empty one everything.
pub fn selects(selector: &Value, labels: &Value) -> bool {
    if !selector.is_object() {
        return false;
    }
    let same = selector["matchLabels"].as_object().into_iter().flatten().all(|(key, value)| labels[key] == *value);
    let fits = |expression: &Value| {
        let value = &labels[expression["key"].as_str().unwrap_or_default()];
        let is_listed = expression["values"].as_array().is_some_and(|values| values.contains(value));
        match expression["operator"].as_str().unwrap_or_default() {
            "In" => is_listed,
            "NotIn" => !is_listed,
            "Exists" => value.is_string(),
            "DoesNotExist" => !value.is_string(),
            _ => false,
        }
    };
    same && selector["matchExpressions"].as_array().into_iter().flatten().all(fits)
}

/// Which objects a list, watch or collection deletion is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    labels: Vec<(String, LabelRule)>,
    /// Path of the field, value, and whether they must be equal.
    fields: Vec<(String, String, bool)>,
}

impl Selector {
    /// Reads both selectors of a request; empty ones select all.
    pub fn parse(resource: &Resource, labels: &str, fields: &str) -> Result<Self, ApiError> {
        let labels = parse_labels(labels).map_err(ApiError::bad_request)?;
        let fields = parse_fields(fields)?;
        for (path, ..) in &fields {
            let is_known = path == "metadata.name"
                || (path == "metadata.namespace" && (resource.is_namespaced || !resource.behaviour.is_custom))
                || resource.selectable.contains(path);
            if !is_known {
                // Kinds without fields of their own answer with the general text.
                return Err(ApiError::bad_request(if resource.group == "batch" && !resource.selectable.is_empty() {
                    format!("field label {path:?} not supported for {}", resource.kind)
                } else if resource.behaviour.is_custom || !resource.selectable.is_empty() {
                    format!("field label not supported: {path}")
                } else {
                    format!("{path:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
                }));
            }
        }
        Ok(Self { labels, fields })
    }

    /// Whether everything is selected.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether an object is selected.
    pub fn matches(&self, object: &Value) -> bool {
        self.labels.iter().all(|(key, rule)| rule.matches(object::label(object, key)))
            && self.fields.iter().all(|(path, value, equal)| (field_value(object, path) == *value) == *equal)
    }
}

impl LabelRule {
    fn matches(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match self {
            Self::In(values) => value.is_some_and(|value| values.iter().any(|wanted| wanted == value)),
            Self::NotIn(values) => value.is_none_or(|value| values.iter().all(|unwanted| unwanted != value)),
            Self::Exists => value.is_some(),
            Self::Missing => value.is_none(),
            Self::GreaterThan(bound) => number().is_some_and(|number| number > *bound),
            Self::LessThan(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

/// Fields that are false where they are missing.
const SWITCHES: [&str; 2] = ["spec.hostNetwork", "spec.unschedulable"];

/// The text of a field; a missing one is empty.
fn field_value(object: &Value, path: &str) -> String {
    // Events name who reported them by the component of their source.
    let path = if path == "source" { "source.component" } else { path };
    let value = path.split('.').try_fold(object, |value, name| value.get(name));
    match value {
        None | Some(Value::Null) if SWITCHES.contains(&path) => "false".to_owned(),
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn parse_fields(text: &str) -> Result<Vec<(String, String, bool)>, ApiError> {
    text.split(',')
        .filter(|term| !term.is_empty())
        .map(|term| {
            let (path, value, equal) = term
                .split_once("!=")
                .map(|(path, value)| (path, value, false))
                .or_else(|| term.split_once("==").map(|(path, value)| (path, value, true)))
                .or_else(|| term.split_once('=').map(|(path, value)| (path, value, true)))
                .ok_or_else(|| {
                    ApiError::bad_request(format!("invalid selector: '{term}'; can't understand '{term}'"))
                })?;
            Ok((path.to_owned(), value.to_owned(), equal))
        })
        .collect()
}

/// Splits at commas outside of parentheses.
fn terms(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    text.split(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
    .map(str::trim)
    .collect()
}

fn parse_labels(text: &str) -> Result<Vec<(String, LabelRule)>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    terms(text).into_iter().map(parse_label_term).collect()
}

fn parse_label_term(term: &str) -> Result<(String, LabelRule), String> {
    let one = |value: &str| vec![value.trim().to_owned()];
    let number = |value: &str| {
        let wrong = "unable to parse requirement: for 'Gt', 'Lt' operators, the value must be an integer";
        value.trim().parse().map_err(|_| format!("{wrong}: {value:?}"))
    };
    let (key, rule) = if let Some(key) = term.strip_prefix('!') {
        (key, LabelRule::Missing)
    } else if let Some((key, value)) = term.split_once("!=") {
        (key, LabelRule::NotIn(one(value)))
    } else if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        (key, LabelRule::In(one(value)))
    } else if let Some((key, value)) = term.split_once('>') {
        (key, LabelRule::GreaterThan(number(value)?))
    } else if let Some((key, value)) = term.split_once('<') {
        (key, LabelRule::LessThan(number(value)?))
    } else {
        parse_words(term)?
    };
    let key = key.trim();
    if key.is_empty() {
        let found = term.trim_start_matches('!').chars().next().unwrap_or_default();
        return Err(format!("found '{found}', expected: !, identifier, or 'end of string'"));
    }
    let mut words = key.split_whitespace().skip(1);
    if let Some(word) = words.next() {
        return Err(format!("unable to parse requirement: found '{word}', expected: in, notin, =, ==, !=, gt, lt"));
    }
    check_term(key, &rule)?;
    Ok((key.to_owned(), rule))
}

/// A key alone, or one with the values that are allowed or not.
fn parse_words(term: &str) -> Result<(&str, LabelRule), String> {
    let (head, values) = term.split_once('(').map_or((term, None), |(head, values)| (head, Some(values)));
    let words: Vec<&str> = head.split_whitespace().collect();
    let wrong = |found: &str, expected: &str| Err(format!("unable to parse requirement: found '{found}'{expected}"));
    let (key, is_in) = match words.as_slice() {
        [_] if values.is_none() => return Ok((term, LabelRule::Exists)),
        [key, "in"] => (*key, true),
        [key, "notin"] => (*key, false),
        [_, "in" | "notin", next, ..] => return wrong(next, " expected: '('"),
        [_, next, ..] => return wrong(next, ", expected: in, notin, =, ==, !=, gt, lt"),
        [_] => return wrong("(", ", expected: in, notin, =, ==, !=, gt, lt"),
        [] => return Ok((term, LabelRule::Exists)),
    };
    let Some(values) = values else { return wrong("", " expected: '('") };
    let Some(values) = values.strip_suffix(')') else { return wrong("", ", expected: ',', or ')'") };
    let values = values.split(',').map(|value| value.trim().to_owned()).collect();
    Ok((key, if is_in { LabelRule::In(values) } else { LabelRule::NotIn(values) }))
}

/// Refuses what no label can be.
fn check_term(key: &str, rule: &LabelRule) -> Result<(), String> {
    let wrong = |at: &str, value: &str, why: &str| {
        let error = FieldError::invalid(at, value, why);
        Err(format!("unable to parse requirement: {error}"))
    };
    if let Some(why) = meta::label_key(key) {
        return wrong("<nil>", key, why);
    }
    let values = match rule {
        LabelRule::In(values) | LabelRule::NotIn(values) => values.as_slice(),
        _ => &[],
    };
    for (index, value) in values.iter().enumerate() {
        if let Some(why) = meta::label_value(value) {
            return wrong(&format!("values[{index}][{key}]"), value, why);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::apply::schema::Schema;

    fn pods() -> Resource {
        let mut pods = Resource::new("", "v1", "Pod", "pods", true, Schema::Plain);
        pods.selectable = vec!["spec.nodeName".into(), "spec.hostNetwork".into()];
        pods
    }

    fn selects(labels: &str, fields: &str) -> bool {
        let pod = json!({
            "metadata": {"name": "p", "namespace": "n", "labels": {"app": "web", "tier": "1"}},
            "spec": {"nodeName": "n1"},
        });
        Selector::parse(&pods(), labels, fields).unwrap().matches(&pod)
    }

    #[test]
    fn label_rules() {
        for selected in ["", "app", "app=web", "app==web", "app in (web, db)", "!gone", "app!=db", "gone!=x", "tier>0"]
        {
            assert!(selects(selected, ""), "{selected}");
        }
        for missed in ["app=db", "!app", "app notin (web)", "gone", "gone in (x)", "tier<1", "app=web,gone"] {
            assert!(!selects(missed, ""), "{missed}");
        }
    }

    #[test]
    fn field_rules() {
        assert!(selects("", "metadata.name=p,spec.nodeName!=n2"));
        assert!(!selects("", "spec.nodeName="));
        assert!(selects("", "spec.hostNetwork=false"));
        let unknown = Selector::parse(&pods(), "", "spec.image=x").unwrap_err();
        assert_eq!((unknown.code(), unknown.message()), (400, "field label not supported: spec.image"));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for bad in ["a in b", "a in (b", "=x", "a b", "-x=1", "x=/"] {
            assert_eq!(Selector::parse(&pods(), bad, "").unwrap_err().code(), 400, "{bad}");
        }
    }
}
