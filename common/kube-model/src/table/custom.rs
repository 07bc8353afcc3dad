//! Custom resources: columns from the definition, cells by `JSONPath`.

use std::{borrow::Cow, sync::Arc};

use jiff::Timestamp;
use serde_json::Value;

use super::{Column, NAME, cells, duration, jsonpath::Path};
use crate::stored::Stored;

/// A column that a definition adds, with its path.
struct Added {
    column: Column,
    path: Path,
}

/// Columns and rows of custom resources; the definition's own list of columns, or the age when it has none.
pub(super) fn content(columns: &[Value], objects: &[Arc<Stored>], now: Timestamp) -> (Vec<Column>, Vec<Vec<Value>>) {
    let added = added(columns);
    let row = |object: &Arc<Stored>| {
        let cells = added.iter().map(|added| cell(added, object, now));
        std::iter::once(cells::name(object)).chain(cells).collect()
    };
    let rows = objects.iter().map(row).collect();
    (std::iter::once(NAME).chain(added.into_iter().map(|added| added.column)).collect(), rows)
}

/// The columns up to the first whose path cannot be read.
fn added(columns: &[Value]) -> Vec<Added> {
    let owned = |column: &Value, field: &str| Cow::Owned(cells::text(column, field).to_owned());
    let read = |column: &Value| {
        let path = cells::text(column, "/jsonPath");
        let description = match cells::text(column, "/description") {
            "" => format!("Custom resource definition column (in JSONPath format): {path}"),
            description => description.to_owned(),
        };
        let column = Column {
            name: owned(column, "/name"),
            kind: owned(column, "/type"),
            format: owned(column, "/format"),
            description: description.into(),
            priority: cells::number(column, "/priority"),
        };
        Some(Added { path: Path::parse(path).ok()?, column })
    };
    columns.iter().map_while(read).collect()
}

fn cell(added: &Added, object: &Value, now: Timestamp) -> Value {
    let Some(value) = added.path.select(object).and_then(|found| found.first().copied()) else { return Value::Null };
    match (&*added.column.kind, value) {
        ("string", Value::String(_)) | ("boolean", Value::Bool(_)) => value.clone(),
        ("string", Value::Null) => "<no value>".into(),
        // Maps and lists are printed as JSON.
        ("string", other) => other.to_string().into(),
        ("integer", Value::Number(number)) => whole(number).into(),
        ("number", Value::Number(_)) => value.clone(),
        ("date", Value::String(date)) if ["", "null"].contains(&date.as_str()) => duration::UNKNOWN.into(),
        ("date", Value::String(date)) => match date.parse::<Timestamp>() {
            Ok(_) => duration::since(date, now).into(),
            Err(_) => "<invalid>".into(),
        },
        _ => Value::Null,
    }
}

/// A number without its fraction, as Go converts it.
#[allow(clippy::cast_possible_truncation)]
fn whole(number: &serde_json::Number) -> Option<i64> {
    number.as_i64().or_else(|| number.as_f64().map(|number| number as i64))
}
