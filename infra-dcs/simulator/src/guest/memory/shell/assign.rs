//! Assignments to variables and elements of arrays.

use std::collections::BTreeMap;

use super::{
    ast::{AssignedValue, Assignment, Word},
    exec::{Shell, Stop},
    state::Value,
};

impl Shell<'_> {
    pub(super) async fn assign(&mut self, assignment: &Assignment) -> Result<(), Stop> {
        let Assignment { name, index, append, value } = assignment;
        let done = match (value, index) {
            (AssignedValue::Scalar(word), None) => {
                let mut text = self.text(word).await?;
                if *append {
                    text.insert_str(0, &self.state.scalar(name).unwrap_or_default());
                }
                self.charge(text.len() as u64 / 4096)?;
                self.state.set(name, text)
            }
            (AssignedValue::Scalar(word), Some(index)) => {
                let key = self.key(name, index).await?;
                let mut text = self.text(word).await?;
                if *append {
                    let present = self.state.elements(name).into_iter().find(|(present, _)| *present == key);
                    text.insert_str(0, &present.map(|(_, text)| text).unwrap_or_default());
                }
                self.state.set_element(name, &key, text)
            }
            (AssignedValue::Array(elements), _) => {
                let associative = self.state.is_associative(name);
                if !append {
                    let empty =
                        if associative { Value::Associative(BTreeMap::new()) } else { Value::Indexed(BTreeMap::new()) };
                    self.state.replace(name, empty).map_err(|reason| self.refuse(&reason))?;
                }
                let last = self.state.elements(name).last().and_then(|(key, _)| key.parse::<usize>().ok());
                let mut next = last.map_or(0, |last| last + 1);
                for (index, word) in elements {
                    if let Some(index) = index {
                        let key = self.key(name, index).await?;
                        let text = self.text(word).await?;
                        self.state.set_element(name, &key, text).map_err(|reason| self.refuse(&reason))?;
                        next = key.parse::<usize>().map_or(next, |key| key + 1);
                        continue;
                    }
                    for text in self.fields(word).await? {
                        self.charge(1)?;
                        self.state.set_element(name, &next.to_string(), text).map_err(|reason| self.refuse(&reason))?;
                        next += 1;
                    }
                }
                Ok(())
            }
        };
        done.map_err(|reason| self.refuse(&reason))
    }

    async fn key(&mut self, name: &str, index: &Word) -> Result<String, Stop> {
        if self.state.is_associative(name) {
            self.text(index).await
        } else {
            Ok(self.arithmetic(index).await?.to_string())
        }
    }

    fn refuse(&mut self, reason: &str) -> Stop {
        self.complain(reason);
        Stop::Exit(1)
    }
}
