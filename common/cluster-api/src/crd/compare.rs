//! What one CRD says otherwise than another, place by place, prose apart.
//!
//! A test holds our definitions to published ones by it: whatever differs must be allowed with a reason, and a reason
//! without a difference is out of date.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where: `kubeadmconfigs v1beta2 /spec/files[]/path/maxLength`.
    pub place: String,
    /// What ours says there, if anything.
    pub ours: Option<Value>,
    /// What theirs says there, if anything.
    pub theirs: Option<Value>,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |side: &Option<Value>| side.as_ref().map_or_else(|| "nothing".to_owned(), Value::to_string);
        write!(formatter, "{}: ours {}, theirs {}", self.place, shown(&self.ours), shown(&self.theirs))
    }
}

/// A difference that is wanted.
pub struct Allowed {
    /// Text that its place contains.
    pub place: &'static str,
    /// Why it is wanted.
    pub reason: &'static str,
}

/// Everything that constrains or shapes an object of the kind, in every version, and is not the same in both.
pub fn differences(ours: &Value, theirs: &Value) -> Vec<Difference> {
    let plural = ours["spec"]["names"]["plural"].as_str().unwrap_or_default();
    let (left, right) = (facts(ours), facts(theirs));
    let places = left.keys().chain(right.keys().filter(|place| !left.contains_key(*place)));
    places
        .filter(|place| left.get(*place) != right.get(*place))
        .map(|place| Difference {
            place: format!("{plural} {place}"),
            ours: left.get(place).cloned(),
            theirs: right.get(place).cloned(),
        })
        .collect()
}

/// Sorts differences into those that no reason allows and reasons that no difference needs; both shall be empty.
pub fn judge(found: &[Difference], allowed: &[Allowed]) -> (Vec<String>, Vec<&'static str>) {
    let covers = |allowed: &Allowed, difference: &Difference| difference.place.contains(allowed.place);
    let unexplained = found.iter().filter(|difference| !allowed.iter().any(|allowed| covers(allowed, difference)));
    let unused = allowed.iter().filter(|allowed| !found.iter().any(|difference| covers(allowed, difference)));
    (unexplained.map(ToString::to_string).collect(), unused.map(|allowed| allowed.place).collect())
}

/// Place → value of names, versions, subresources, columns and of everything in the schemas but prose.
fn facts(definition: &Value) -> BTreeMap<String, Value> {
    let mut facts = BTreeMap::new();
    for (name, value) in definition["spec"]["names"].as_object().into_iter().flatten() {
        facts.insert(format!("names/{name}"), value.clone());
    }
    facts.insert("scope".to_owned(), definition["spec"]["scope"].clone());
    for version in definition["spec"]["versions"].as_array().into_iter().flatten() {
        let name = version["name"].as_str().unwrap_or_default();
        for flag in ["served", "storage", "deprecated"] {
            facts.insert(format!("{name} {flag}"), json!(version[flag].as_bool().unwrap_or(false)));
        }
        for (subresource, value) in version["subresources"].as_object().into_iter().flatten() {
            facts.insert(format!("{name} subresources/{subresource}"), value.clone());
        }
        for (index, column) in version["additionalPrinterColumns"].as_array().into_iter().flatten().enumerate() {
            for (field, value) in column.as_object().into_iter().flatten().filter(|(field, _)| *field != "description")
            {
                facts.insert(format!("{name} columns/{index}/{field}"), value.clone());
            }
        }
        flatten(&version["schema"]["openAPIV3Schema"], &format!("{name} "), &mut facts);
    }
    facts
}

fn flatten(schema: &Value, place: &str, facts: &mut BTreeMap<String, Value>) {
    for (key, value) in schema.as_object().into_iter().flatten() {
        match key.as_str() {
            "description" => {}
            "properties" => {
                for (name, inner) in value.as_object().into_iter().flatten() {
                    flatten(inner, &format!("{place}/{name}"), facts);
                }
            }
            "items" => flatten(value, &format!("{place}[]"), facts),
            "additionalProperties" if value.is_object() => flatten(value, &format!("{place}{{}}"), facts),
            "required" => {
                for field in value.as_array().into_iter().flatten().filter_map(Value::as_str) {
                    facts.insert(format!("{place}/{field} required"), json!(true));
                }
            }
            "enum" => {
                let mut values: Vec<String> = value.as_array().into_iter().flatten().map(Value::to_string).collect();
                values.sort();
                facts.insert(format!("{place} enum"), json!(values));
            }
            _ => {
                facts.insert(format!("{place} {key}"), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(field: &Value, columns: &Value) -> Value {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": field}}}});
        json!({"spec": {"names": {"plural": "things"}, "scope": "Namespaced", "versions": [{
            "name": "v1", "served": true, "storage": true, "additionalPrinterColumns": columns,
            "schema": {"openAPIV3Schema": schema},
        }]}})
    }

    #[test]
    fn what_constrains_is_compared_and_prose_is_not() {
        let text = |limit: i32, says: &str| json!({"type": "string", "maxLength": limit, "description": says});
        let age = |says: &str| json!([{"name": "Age", "type": "date", "description": says}]);
        let ours = definition(&text(5, "ours"), &age("ours"));
        assert!(differences(&ours, &definition(&text(5, "theirs"), &age("theirs"))).is_empty());
        let found = differences(&ours, &definition(&text(6, ""), &json!([])));
        let places: Vec<&str> = found.iter().map(|difference| difference.place.as_str()).collect();
        assert_eq!(places, ["things v1 /spec/a maxLength", "things v1 columns/0/name", "things v1 columns/0/type"]);
    }

    #[test]
    fn a_difference_needs_a_reason_and_a_reason_a_difference() {
        let found = differences(
            &definition(&json!({"type": "string", "maxLength": 5}), &json!([])),
            &definition(&json!({"type": "string", "enum": ["b", "a"]}), &json!([])),
        );
        let allow = |place| Allowed { place, reason: "a test" };
        let (unexplained, unused) = judge(&found, &[allow("/spec/a maxLength"), allow("/spec/b")]);
        assert_eq!(unexplained, [r#"things v1 /spec/a enum: ours nothing, theirs ["\"a\"","\"b\""]"#]);
        assert_eq!(unused, ["/spec/b"]);
    }
}
