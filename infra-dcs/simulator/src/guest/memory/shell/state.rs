//! What a shell remembers: variables, functions, options. A subshell works on a copy.

use std::{collections::BTreeMap, sync::Arc};

use super::ast::Command;

/// Longest value of a variable in bytes.
const MAX_VALUE: usize = 4 << 20;

#[derive(Clone, Debug)]
pub(super) enum Value {
    Scalar(String),
    Indexed(BTreeMap<usize, String>),
    Associative(BTreeMap<String, String>),
}

#[derive(Clone, Debug)]
pub(super) struct Variable {
    pub value: Option<Value>,
    pub exported: bool,
    pub read_only: bool,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Options {
    pub errexit: bool,
    pub nounset: bool,
    pub pipefail: bool,
    pub xtrace: bool,
    pub noglob: bool,
    pub noexec: bool,
    /// `sh`: no braces, and command substitutions keep `-e`.
    pub posix: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub variables: BTreeMap<String, Variable>,
    pub positional: Vec<String>,
    pub functions: BTreeMap<String, Arc<Command>>,
    pub options: Options,
    pub directory: String,
    /// What `local` hid, one map per function that runs.
    pub locals: Vec<BTreeMap<String, Option<Variable>>>,
    pub status: u8,
    /// Status of the last command substitution of a command.
    pub substituted: Option<u8>,
    /// `$0`.
    pub name: String,
    pub line: usize,
    /// Greater than 0 where a failure is asked about and so does not end the script.
    pub forgiving: usize,
    pub exit_trap: Option<String>,
}

impl State {
    /// A shell with an environment.
    pub(super) fn new(name: &str, environment: &BTreeMap<String, String>, directory: &str) -> Self {
        let exported = |(name, value): (&String, &String)| {
            let value = Some(Value::Scalar(value.clone()));
            (name.clone(), Variable { value, exported: true, read_only: false })
        };
        let mut state = Self {
            variables: environment.iter().map(exported).collect(),
            directory: directory.to_owned(),
            name: name.to_owned(),
            ..Self::default()
        };
        for (name, value) in [("IFS", " \t\n"), ("PWD", directory), ("OPTIND", "1")] {
            let value = Some(Value::Scalar(value.to_owned()));
            let exported = name == "PWD";
            state.variables.insert(name.to_owned(), Variable { value, exported, read_only: false });
        }
        state
    }

    /// What programs are given.
    pub(super) fn environment(&self) -> BTreeMap<String, String> {
        let exported = self.variables.iter().filter(|(_, variable)| variable.exported);
        exported
            .filter_map(|(name, variable)| match &variable.value {
                Some(Value::Scalar(text)) => Some((name.clone(), text.clone())),
                _ => None,
            })
            .collect()
    }

    /// A variable's value as a scalar: of an array its first element.
    pub(super) fn scalar(&self, name: &str) -> Option<String> {
        match self.variables.get(name)?.value.as_ref()? {
            Value::Scalar(text) => Some(text.clone()),
            Value::Indexed(elements) => elements.get(&0).cloned(),
            Value::Associative(elements) => elements.get("0").cloned(),
        }
    }

    pub(super) fn ifs(&self) -> String {
        self.scalar("IFS").unwrap_or_else(|| " \t\n".to_owned())
    }

    fn slot(&mut self, name: &str) -> Result<&mut Variable, String> {
        let variable = self.variables.entry(name.to_owned()).or_insert(Variable {
            value: None,
            exported: false,
            read_only: false,
        });
        if variable.read_only { Err(format!("{name}: readonly variable")) } else { Ok(variable) }
    }

    /// Assigns a scalar, or the first element of an array.
    pub(super) fn set(&mut self, name: &str, text: impl Into<String>) -> Result<(), String> {
        let text = bounded(name, text.into())?;
        let variable = self.slot(name)?;
        match &mut variable.value {
            Some(Value::Indexed(elements)) => {
                elements.insert(0, text);
            }
            Some(Value::Associative(elements)) => {
                elements.insert("0".to_owned(), text);
            }
            value => *value = Some(Value::Scalar(text)),
        }
        Ok(())
    }

    /// Replaces a variable's value as a whole.
    pub(super) fn replace(&mut self, name: &str, value: Value) -> Result<(), String> {
        self.slot(name)?.value = Some(value);
        Ok(())
    }

    /// Assigns an element; `index` is a number unless the array is associative.
    pub(super) fn set_element(&mut self, name: &str, index: &str, text: String) -> Result<(), String> {
        let text = bounded(name, text)?;
        let variable = self.slot(name)?;
        if let Some(Value::Associative(elements)) = &mut variable.value {
            elements.insert(index.to_owned(), text);
            return Ok(());
        }
        let elements = match variable.value.take() {
            Some(Value::Indexed(elements)) => elements,
            Some(Value::Scalar(first)) => BTreeMap::from([(0, first)]),
            _ => BTreeMap::new(),
        };
        let Value::Indexed(elements) = variable.value.insert(Value::Indexed(elements)) else { return Ok(()) };
        let index = match index.parse::<i64>() {
            Ok(index) if index < 0 => {
                let end = elements.keys().next_back().map_or(0, |last| last + 1);
                end.checked_sub(usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX))
            }
            Ok(index) => usize::try_from(index).ok(),
            Err(_) => None,
        };
        elements.insert(index.ok_or_else(|| format!("{name}: bad array subscript"))?, text);
        Ok(())
    }

    pub(super) fn is_associative(&self, name: &str) -> bool {
        matches!(self.variables.get(name), Some(Variable { value: Some(Value::Associative(_)), .. }))
    }

    pub(super) fn unset(&mut self, name: &str) -> Result<(), String> {
        match self.variables.get(name) {
            Some(variable) if variable.read_only => Err(format!("{name}: cannot unset: readonly variable")),
            _ => {
                self.variables.remove(name);
                Ok(())
            }
        }
    }

    pub(super) fn export(&mut self, name: &str, exported: bool) {
        let variable = self.variables.entry(name.to_owned());
        variable.or_insert(Variable { value: None, exported, read_only: false }).exported = exported;
    }

    /// Hides a variable until the function returns.
    pub(super) fn localize(&mut self, name: &str) -> Result<(), String> {
        let Some(hidden) = self.locals.last_mut() else {
            return Err("can only be used in a function".to_owned());
        };
        if !hidden.contains_key(name) {
            hidden.insert(name.to_owned(), self.variables.remove(name));
            self.variables.insert(name.to_owned(), Variable { value: None, exported: false, read_only: false });
        }
        Ok(())
    }

    pub(super) fn leave_function(&mut self) {
        for (name, hidden) in self.locals.pop().unwrap_or_default() {
            match hidden {
                Some(variable) => self.variables.insert(name, variable),
                None => self.variables.remove(&name),
            };
        }
    }

    /// All elements of an array, or the scalar alone.
    pub(super) fn elements(&self, name: &str) -> Vec<(String, String)> {
        match self.variables.get(name).and_then(|variable| variable.value.as_ref()) {
            None => Vec::new(),
            Some(Value::Scalar(text)) => vec![("0".to_owned(), text.clone())],
            Some(Value::Indexed(elements)) => {
                elements.iter().map(|(index, text)| (index.to_string(), text.clone())).collect()
            }
            Some(Value::Associative(elements)) => {
                elements.iter().map(|(key, text)| (key.clone(), text.clone())).collect()
            }
        }
    }
}

fn bounded(name: &str, text: String) -> Result<String, String> {
    if text.len() > MAX_VALUE { Err(format!("{name}: a value of more than {MAX_VALUE} bytes")) } else { Ok(text) }
}
