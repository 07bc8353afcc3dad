//! What a real cluster answered, one file a theme under `e2e/conformance`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use xtask::paths;

/// How records come about.
pub const CURE: &str =
    "record it where sandbox guests run: `cargo xtask test --tier node --filter conformance --record`";

/// Answers of one theme by the names of the checks.
pub type Answers = BTreeMap<String, Value>;

/// Folder of the committed records.
pub fn folder() -> PathBuf {
    paths::workspace().join("e2e/conformance")
}

fn file(folder: &Path, theme: &str) -> PathBuf {
    folder.join(format!("{theme}.json"))
}

/// The records of a theme. A missing file is an error that says how it is made.
pub fn load(folder: &Path, theme: &str) -> Result<Answers> {
    let path = file(folder, theme);
    match fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).with_context(|| format!("{} cannot be read", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("{} is missing: {CURE}", path.display())
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Writes a theme's answers, sorted and indented, so that a change of an answer is a change of few lines.
pub fn save(folder: &Path, theme: &str, answers: &Answers) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = file(folder, theme);
    let text = serde_json::to_string_pretty(answers)?;
    fs::write(&path, format!("{text}\n")).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn records_are_read_as_they_were_written() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("records");
        let missing = load(&folder, "reads").unwrap_err().to_string();
        assert!(missing.contains("reads.json is missing") && missing.contains("--record"), "{missing}");
        let answers = Answers::from([("b".to_owned(), json!({"x": [1, 2]})), ("a".to_owned(), Value::Null)]);
        save(&folder, "reads", &answers).unwrap();
        assert_eq!(load(&folder, "reads").unwrap(), answers);
    }
}
