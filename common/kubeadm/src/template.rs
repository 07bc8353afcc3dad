//! Files whose content is a Go template over the control plane's version (`contentFormat: Template`).
//!
//! The engine is a library; what could exhaust the process is refused before: templates that call templates, deep nesting,
//! large output.

use std::{
    collections::HashMap,
    io::{self, Write},
    thread,
};

use gtmpl::{Context, Template, Value};

/// Largest output of one template, in bytes.
pub const LIMIT: usize = 1 << 20;
/// Most actions of one template: each may nest in the one before.
const ACTIONS: usize = 1000;
/// Most parentheses in one action.
const PARENTHESES: usize = 100;
/// Stack of the engine, which descends as deep as its template nests.
const STACK: usize = 32 << 20;

/// Why a template gives no content. `detail` may quote the template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is no template that is understood.
    #[error("is no valid template: {detail}")]
    Parse {
        /// What the engine says.
        detail: String,
    },
    /// It fails while it runs.
    #[error("the template fails: {detail}")]
    Run {
        /// What the engine says.
        detail: String,
    },
    /// It calls templates, nests too deep, or has too many actions.
    #[error(
        "the template must not use define, block or template, have more than {ACTIONS} actions, or more than {PARENTHESES} parentheses in one"
    )]
    TooComplex,
    /// It writes too much.
    #[error("the template writes more than {LIMIT} bytes")]
    TooLarge,
}

impl Error {
    /// The same without what may quote the template, for templates that come from a Secret.
    #[must_use]
    pub fn redacted(self) -> Self {
        let detail = "its text comes from a Secret and is not shown".to_owned();
        match self {
            Self::Parse { .. } => Self::Parse { detail },
            Self::Run { .. } => Self::Run { detail },
            other => other,
        }
    }
}

/// Runs a template. `version` is the control plane's Kubernetes version, `vX.Y.Z`; without one `{{ if .controlPlane }}`
/// does not hold.
pub fn render(text: &str, version: Option<&str>) -> Result<String, Error> {
    if is_too_complex(text) {
        return Err(Error::TooComplex);
    }
    let text = text.to_owned();
    let mut data: HashMap<String, Value> = HashMap::new();
    if let Some(version) = version {
        let known: HashMap<String, Value> = [("version".to_owned(), Value::from(version))].into();
        data.insert("controlPlane".to_owned(), known.into());
    }
    // A thread of its own: for its stack, and so that a panic of the engine is an error of the template.
    let run = move || execute(&text, data);
    let failed = |detail: &str| Error::Run { detail: detail.to_owned() };
    let running = thread::Builder::new().name("template".to_owned()).stack_size(STACK).spawn(run);
    running.map_err(|error| failed(&error.to_string()))?.join().map_err(|_| failed("the engine gave up"))?
}

fn execute(text: &str, data: HashMap<String, Value>) -> Result<String, Error> {
    let mut template = Template::default();
    template.parse(text).map_err(|error| Error::Parse { detail: error.to_string() })?;
    let mut output = Limited::default();
    let outcome = template.execute(&mut output, &Context::from(Value::from(data)));
    if output.is_full {
        return Err(Error::TooLarge);
    }
    outcome.map_err(|error| Error::Run { detail: error.to_string() })?;
    String::from_utf8(output.bytes).map_err(|error| Error::Run { detail: error.to_string() })
}

fn is_too_complex(text: &str) -> bool {
    let actions: Vec<&str> = text.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap_or(rest)).collect();
    let calls = |action: &str| {
        let word = action.trim_start_matches('-').trim_start();
        let word = word.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
        ["define", "block", "template"].contains(&word)
    };
    actions.len() > ACTIONS || actions.iter().any(|action| calls(action) || action.matches('(').count() > PARENTHESES)
}

#[derive(Default)]
struct Limited {
    bytes: Vec<u8>,
    is_full: bool,
}

impl Write for Limited {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + more.len() > LIMIT {
            self.is_full = true;
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("plain", "plain")]
    #[case("{{ .controlPlane.version }}", "v1.34.5-3")]
    #[case("a {{- /* why */ -}} b", "ab")]
    #[case("{{ if .controlPlane }}yes{{ else }}no{{ end }}", "yes")]
    #[case("{{ with .controlPlane }}{{ .version }}{{ end }}", "v1.34.5-3")]
    #[case("{{ $v := .controlPlane.version }}{{ printf \"%s!\" $v }}", "v1.34.5-3!")]
    #[case("{{ if eq .controlPlane.version \"v1.34.5-3\" }}same{{ end }}", "same")]
    #[case("{{ if and (ne 1 2) (not false) }}both{{ end }}", "both")]
    #[case("{{ len .controlPlane.version }}", "9")]
    #[case("{{ .controlPlane.missing }}", "<no value>")]
    fn a_template_sees_the_control_planes_version(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(render(text, Some("v1.34.5-3")).unwrap(), expected);
    }

    #[test]
    fn without_a_version_a_template_can_tell() {
        assert_eq!(render("{{ if .controlPlane }}yes{{ else }}no{{ end }}", None).unwrap(), "no");
    }

    #[test]
    fn what_is_wrong_is_said_and_what_is_secret_is_not() {
        let error = render("{{ sup3rs3cret }}", None).unwrap_err();
        assert!(matches!(&error, Error::Parse { .. } | Error::Run { .. }), "{error}");
        assert!(!error.redacted().to_string().contains("sup3rs3cret"));
        assert!(matches!(render("{{ if true }}", None), Err(Error::Parse { .. })));
        assert!(matches!(render("{{ index .controlPlane 3 4 }}", Some("v1")), Err(Error::Run { .. })));
    }

    #[test]
    fn what_could_exhaust_the_process_is_refused() {
        let recursion = "{{define \"a\"}}{{template \"a\"}}{{end}}{{template \"a\"}}";
        assert_eq!(render(recursion, None), Err(Error::TooComplex));
        assert_eq!(render(&"{{ if true }}".repeat(1001), None), Err(Error::TooComplex));
        assert_eq!(render(&format!("{{{{ {}1{} }}}}", "(".repeat(101), ")".repeat(101)), None), Err(Error::TooComplex));
        let deep = format!("{}x{}", "{{ if true }}".repeat(500), "{{ end }}".repeat(500));
        assert_eq!(render(&deep, None).unwrap(), "x");
        let large = format!("{}{{{{ 1 }}}}{}", "x".repeat(LIMIT / 2), "x".repeat(LIMIT / 2));
        assert_eq!(render(&large, None), Err(Error::TooLarge));
    }
}
