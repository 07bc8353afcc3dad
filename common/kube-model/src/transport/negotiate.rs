//! In which form a client wants its answer, by its `Accept` header (`apiserver/pkg/endpoints/handlers/negotiation`).
//! Who asks for protobuf gets JSON: clients that can read the one read the other.

use http::{Request, header};

/// A form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Objects as they are.
    Whole,
    /// The same in YAML.
    Yaml,
    /// Their metadata alone.
    Metadata,
    /// Rows of a table of that version.
    Table(&'static str),
}

/// The first form that a client accepts and that there is; none for one who accepts nothing of what there is.
pub(super) fn form<B>(request: &Request<B>) -> Option<Form> {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accept.is_empty() {
        return Some(Form::Whole);
    }
    let mut clauses: Vec<_> = accept.split(',').map(Clause::parse).collect();
    clauses.sort_by(|one, other| other.quality.total_cmp(&one.quality));
    clauses.iter().find_map(Clause::form)
}

/// Whether a client accepts a media type, whatever else it accepts before.
pub(super) fn accepts<B>(request: &Request<B>, media_type: &str) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let (main, _) = media_type.split_once('/').unwrap_or_default();
    let any = format!("{main}/*");
    let is_accepted = |clause: &str| [media_type, any.as_str(), "*/*"].contains(&Clause::parse(clause).media_type);
    accept.is_empty() || accept.split(',').any(is_accepted)
}

struct Clause<'a> {
    media_type: &'a str,
    quality: f32,
    /// Kind, group and version into which objects are turned.
    target: [&'a str; 3],
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let mut clause = Self { media_type: parts.next().unwrap_or_default(), quality: 1.0, target: [""; 3] };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name.trim() {
                "q" => clause.quality = value.trim().parse().unwrap_or(1.0),
                "as" => clause.target[0] = value.trim(),
                "g" => clause.target[1] = value.trim(),
                "v" => clause.target[2] = value.trim(),
                _ => {}
            }
        }
        clause
    }

    fn form(&self) -> Option<Form> {
        let is_plain = self.target == ["", "", ""];
        match self.media_type {
            "application/json" | "application/*" | "*/*" => {}
            "application/yaml" => return is_plain.then_some(Form::Yaml),
            "application/vnd.kubernetes.protobuf" => return is_plain.then_some(Form::Whole),
            _ => return None,
        }
        match self.target {
            ["", "", ""] => Some(Form::Whole),
            ["PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1" | "v1beta1"] => {
                Some(Form::Metadata)
            }
            ["Table", "meta.k8s.io", "v1"] => Some(Form::Table("v1")),
            ["Table", "meta.k8s.io", "v1beta1"] => Some(Form::Table("v1beta1")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formed(accept: &str) -> Option<Form> {
        form(&Request::builder().header("accept", accept).body(()).unwrap())
    }

    #[test]
    fn the_first_form_that_there_is_counts() {
        for (accept, wanted) in [
            ("", Form::Whole),
            ("*/*", Form::Whole),
            ("application/json", Form::Whole),
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Form::Table("v1")),
            (
                "application/json;as=Table;v=v2;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io",
                Form::Table("v1beta1"),
            ),
            ("application/json;as=Table;v=v1;g=meta.k8s.io;q=0.5, application/json", Form::Whole),
            ("application/vnd.kubernetes.protobuf, application/json", Form::Whole),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,\
                 application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json",
                Form::Metadata,
            ),
            ("application/yaml, application/json;q=0.5", Form::Yaml),
        ] {
            assert_eq!(formed(accept), Some(wanted), "{accept}");
        }
        assert_eq!(formed("text/plain"), None);
    }
}
