//! How an answer differs from the recorded one, place by place, and which differences are excused.

use serde_json::{Value, json};

use super::exceptions::Exception;

/// One place at which an answer is not the recorded one.
#[derive(Debug, PartialEq)]
pub struct Difference {
    /// `theme/check/field/field`, with `/` inside of a field written as `~1`.
    pub place: String,
    /// What was recorded; nothing where the answer has more.
    pub recorded: Option<Value>,
    /// What was answered; nothing where the answer has less.
    pub answered: Option<Value>,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |value: &Option<Value>| value.as_ref().map_or_else(|| "nothing".to_owned(), short);
        write!(f, "{}: a real cluster has {}, this one {}", self.place, shown(&self.recorded), shown(&self.answered))
    }
}

/// A value as a line of a report holds it.
fn short(value: &Value) -> String {
    const MOST: usize = 300;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Every place at which two answers differ.
pub fn differences(place: &str, recorded: &Value, answered: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    walk(place, Some(recorded), Some(answered), &mut found);
    found
}

fn walk(place: &str, recorded: Option<&Value>, answered: Option<&Value>, found: &mut Vec<Difference>) {
    match (recorded, answered) {
        // An answer of another kind differs everywhere: that is one difference.
        (Some(one), Some(other)) if one["code"].is_u64() && one["code"] != other["code"] => {
            let brief = |answer: &Value| json!({"code": answer["code"], "message": answer["body"]["message"]});
            found.push(Difference {
                place: place.to_owned(),
                recorded: Some(brief(one)),
                answered: Some(brief(other)),
            });
        }
        (Some(Value::Object(one)), Some(Value::Object(other))) => {
            let more = other.keys().filter(|key| !one.contains_key(*key));
            for key in one.keys().chain(more) {
                let place = format!("{place}/{}", key.replace('~', "~0").replace('/', "~1"));
                walk(&place, one.get(key), other.get(key), found);
            }
        }
        (Some(Value::Array(one)), Some(Value::Array(other))) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                walk(&format!("{place}/{index}"), Some(one), Some(other), found);
            }
        }
        (recorded, answered) if recorded == answered => {}
        (recorded, answered) => {
            found.push(Difference {
                place: place.to_owned(),
                recorded: recorded.cloned(),
                answered: answered.cloned(),
            });
        }
    }
}

/// What is left of differences after the exceptions, and the exceptions that excused nothing.
pub fn excuse(found: Vec<Difference>, exceptions: &[Exception]) -> (Vec<Difference>, Vec<&Exception>) {
    let mut used = vec![false; exceptions.len()];
    let left = found.into_iter().filter(|difference| {
        let mut is_excused = false;
        for (exception, used) in exceptions.iter().zip(&mut used) {
            if matches(exception.place, &difference.place) {
                (is_excused, *used) = (true, true);
            }
        }
        !is_excused
    });
    let left: Vec<_> = left.collect();
    let unused = exceptions.iter().zip(used).filter(|(_, used)| !used).map(|(exception, _)| exception).collect();
    (left, unused)
}

/// Whether a place is meant by a pattern, in which `*` stands for any text. A pattern also means all below its place.
fn matches(pattern: &str, place: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| place.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() || rest.starts_with('/') };
    for part in middle {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    last.is_empty() || rest.ends_with(last) || rest.contains(&format!("{last}/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_another_code_is_one_difference() {
        let recorded = json!({"code": 201, "body": {"kind": "Pod", "spec": {}}});
        let answered = json!({"code": 404, "body": {"kind": "Status", "message": "no"}});
        let found = differences("t/c", &recorded, &answered);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].answered, Some(json!({"code": 404, "message": "no"})));
    }

    #[test]
    fn differences_are_named_by_their_place() {
        let recorded = json!({"a": {"b/c": 1, "d": [1, 2]}, "e": 1});
        let answered = json!({"a": {"b/c": 2, "d": [1, 3]}, "f": 1});
        let found = differences("t/c", &recorded, &answered);
        let places: Vec<_> = found.iter().map(|difference| difference.place.as_str()).collect();
        assert_eq!(places, ["t/c/a/b~1c", "t/c/a/d/1", "t/c/e", "t/c/f"]);
        assert_eq!(found[3].to_string(), "t/c/f: a real cluster has nothing, this one 1");
        assert!(differences("t", &recorded, &recorded).is_empty());
    }

    #[test]
    fn patterns_mean_places_and_what_is_below() {
        assert!(matches("t/c/a", "t/c/a") && matches("t/c/a", "t/c/a/b") && !matches("t/c/a", "t/c/ab"));
        assert!(matches("t/*/verbs", "t/c/x/verbs") && matches("t/*/verbs", "t/c/verbs/1"));
        assert!(!matches("t/*/verbs", "t/c/x/name") && matches("t/c/*", "t/c/anything/else"));
        assert!(matches("t/*/a/*/b", "t/x/a/y/b") && !matches("t/*/a/*/b", "t/x/y/b"));
    }

    #[test]
    fn an_exception_that_excuses_nothing_is_told() {
        let exceptions =
            [Exception { place: "t/c/a", why: "known" }, Exception { place: "t/c/gone", why: "was known" }];
        let found = differences("t/c", &json!({"a": 1, "b": 1}), &json!({"a": 2, "b": 2}));
        let (left, unused) = excuse(found, &exceptions);
        assert_eq!((left.len(), left[0].place.as_str()), (1, "t/c/b"));
        assert_eq!((unused.len(), unused[0].place), (1, "t/c/gone"));
    }
}
