//! JSON in which fields that stand twice are found. Of such fields the last one counts.

use std::{cell::RefCell, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Most fields that are named.
const MOST: usize = 100;

/// Reads a document; gives the paths of fields that stand twice in it.
pub(super) fn read(bytes: &[u8]) -> serde_json::Result<(Value, Vec<String>)> {
    let walk = RefCell::new(Walk::default());
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Seed(&walk).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok((value, walk.into_inner().found))
}

#[derive(Default)]
struct Walk {
    path: String,
    found: Vec<String>,
}

struct Seed<'a>(&'a RefCell<Walk>);

impl Seed<'_> {
    /// Lengthens the path by what is written; gives its length before.
    fn enter(&self, write: impl FnOnce(&mut String)) -> usize {
        let path = &mut self.0.borrow_mut().path;
        let start = path.len();
        write(path);
        start
    }

    fn leave(&self, start: usize) {
        self.0.borrow_mut().path.truncate(start);
    }

    fn note(&self) {
        let walk = &mut *self.0.borrow_mut();
        if walk.found.len() < MOST && !walk.found.contains(&walk.path) {
            walk.found.push(walk.path.clone());
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let start = self.enter(|path| path.push_str(&format!("[{}]", list.len())));
            let item = items.next_element_seed(Seed(self.0))?;
            self.leave(start);
            match item {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            let start = self.enter(|path| {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(&name);
            });
            if map.contains_key(&name) {
                self.note();
            }
            let value = fields.next_value_seed(Seed(self.0))?;
            self.leave(start);
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_that_stand_twice_are_named_and_the_last_counts() {
        let text = br#"{"a": 1, "b": {"c": 1, "c": [{"d": 1}, {"d": 1, "d": -2.5, "d": null}]}, "a": "x"}"#;
        let (value, found) = read(text).unwrap();
        assert_eq!(value, json!({"a": "x", "b": {"c": [{"d": 1}, {"d": null}]}}));
        assert_eq!(found, ["b.c", "b.c[1].d", "a"]);
    }

    #[test]
    fn what_is_no_document_is_refused() {
        assert!(read(b"{").is_err());
        assert!(read(b"{} {}").is_err());
    }
}
