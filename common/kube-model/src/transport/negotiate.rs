//! In which form a client wants its answer, by its `Accept` header (`apiserver/pkg/endpoints/handlers/negotiation`).

use http::{Request, header};

/// A form of an answer. All of them are JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Objects as they are.
    Whole,
    /// Their metadata alone.
    Metadata,
    /// Rows of a table of that version.
    Table(&'static str),
}

/// The first form that a client accepts and that there is; one who accepts nothing of what there is gets objects as they
/// are.
pub(super) fn form<B>(request: &Request<B>) -> Form {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let mut clauses: Vec<_> = accept.split(',').map(Clause::parse).collect();
    clauses.sort_by(|one, other| other.quality.total_cmp(&one.quality));
    clauses.iter().find_map(Clause::form).unwrap_or(Form::Whole)
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
        if !["application/json", "application/*", "*/*"].contains(&self.media_type) {
            return None;
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

    fn formed(accept: &str) -> Form {
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
            ("text/plain", Form::Whole),
        ] {
            assert_eq!(formed(accept), wanted, "{accept}");
        }
    }
}
