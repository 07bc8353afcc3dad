//! Answers that are errors, worded as `apimachinery/pkg/api/errors` words them: clients and people match on them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, Status, StatusCause, StatusDetails};

use crate::apply::Conflicts;

/// What an update says whose resource version is not the stored one.
pub const STALE: &str = "the object has been modified; please apply your changes to the latest version and try again";

/// A refused request: the `Status` that a client gets.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}", self.message())]
pub struct ApiError(pub Box<Status>);

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the field.
    pub field: String,
    /// The machine-readable reason, such as `FieldValueInvalid`.
    pub reason: &'static str,
    /// What people read.
    pub body: String,
}

impl FieldError {
    /// A value that is refused; `value` is shown as JSON.
    pub fn invalid(field: impl Into<String>, value: impl Into<serde_json::Value>, detail: impl AsRef<str>) -> Self {
        let body = format!("Invalid value: {}: {}", value.into(), detail.as_ref());
        Self { field: field.into(), reason: "FieldValueInvalid", body }
    }

    /// The same with a value in Go's own notation.
    pub fn invalid_shown(field: impl Into<String>, shown: &str, detail: &str) -> Self {
        let body = format!("Invalid value: {shown}: {detail}");
        Self { field: field.into(), reason: "FieldValueInvalid", body }
    }

    /// A reference to something that is not there.
    pub fn not_found(field: impl Into<String>, value: &serde_json::Value) -> Self {
        Self { field: field.into(), reason: "FieldValueNotFound", body: format!("Not found: {value}") }
    }

    /// A field that must be there.
    pub fn required(field: impl Into<String>, detail: &str) -> Self {
        let body = if detail.is_empty() { "Required value".into() } else { format!("Required value: {detail}") };
        Self { field: field.into(), reason: "FieldValueRequired", body }
    }

    /// A field that must not be there, or not so.
    pub fn forbidden(field: impl Into<String>, detail: impl AsRef<str>) -> Self {
        let body = format!("Forbidden: {}", detail.as_ref());
        Self { field: field.into(), reason: "FieldValueForbidden", body }
    }

    /// A value of another type than the schema's.
    pub fn type_invalid(field: impl Into<String>, value: &serde_json::Value, detail: impl AsRef<str>) -> Self {
        let body = format!("Invalid value: {value}: {}", detail.as_ref());
        Self { field: field.into(), reason: "FieldValueTypeInvalid", body }
    }

    /// A value that is not one of those allowed.
    pub fn not_supported(field: impl Into<String>, value: &serde_json::Value, allowed: &[String]) -> Self {
        let allowed: Vec<_> = allowed.iter().map(|value| format!("{value:?}")).collect();
        let body = format!("Unsupported value: {value}: supported values: {}", allowed.join(", "));
        Self { field: field.into(), reason: "FieldValueNotSupported", body }
    }

    /// An item that is there already.
    pub fn duplicate(field: impl Into<String>, value: &serde_json::Value) -> Self {
        Self { field: field.into(), reason: "FieldValueDuplicate", body: format!("Duplicate value: {value}") }
    }
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.body)
    }
}

/// A resource or kind with its group, as messages name it: `widgets.example.com`.
#[derive(Clone, Copy, Debug)]
pub struct Qualified<'a> {
    /// API group; empty for the core group.
    pub group: &'a str,
    /// Plural of the resource, or a kind.
    pub resource: &'a str,
}

impl std::fmt::Display for Qualified<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.group {
            "" => f.write_str(self.resource),
            group => write!(f, "{}.{group}", self.resource),
        }
    }
}

impl ApiError {
    fn new(code: i32, reason: &str, message: String) -> Self {
        Self(Box::new(Status {
            code: Some(code),
            details: None,
            message: Some(message),
            metadata: ListMeta::default(),
            reason: Some(reason.to_owned()),
            status: Some("Failure".to_owned()),
        }))
    }

    fn about(mut self, what: Qualified<'_>, name: &str) -> Self {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        self.details(|details| {
            details.group = text(what.group);
            details.kind = text(what.resource);
            details.name = text(name);
        });
        self
    }

    fn details(&mut self, change: impl FnOnce(&mut StatusDetails)) {
        change(self.0.details.get_or_insert_default());
    }

    /// HTTP status code.
    pub fn code(&self) -> u16 {
        self.0.code.and_then(|code| u16::try_from(code).ok()).unwrap_or(500)
    }

    /// The machine-readable reason.
    pub fn reason(&self) -> &str {
        self.0.reason.as_deref().unwrap_or_default()
    }

    /// What people read.
    pub fn message(&self) -> &str {
        self.0.message.as_deref().unwrap_or_default()
    }

    /// 404: no object of that name.
    pub fn not_found(what: Qualified<'_>, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{what} {name:?} not found")).about(what, name)
    }

    /// 404: no such path.
    pub fn no_such_path() -> Self {
        let mut error = Self::new(404, "NotFound", "the server could not find the requested resource".into());
        error.details(|_| {});
        error
    }

    /// 409: the name is taken. A holder that is being deleted is mentioned.
    pub fn already_exists(what: Qualified<'_>, name: &str, is_deleting: bool) -> Self {
        let prefix = if is_deleting { "object is being deleted: " } else { "" };
        Self::new(409, "AlreadyExists", format!("{prefix}{what} {name:?} already exists")).about(what, name)
    }

    /// 409: no free name was found for a `generateName`.
    pub fn no_free_name(what: Qualified<'_>, name: &str) -> Self {
        let message =
            format!("{what} {name:?} already exists, the server was not able to generate a unique name for the object");
        let mut error = Self::new(409, "AlreadyExists", message).about(what, name);
        error.details(|details| details.retry_after_seconds = Some(1));
        error
    }

    /// 409: the object is not as the request supposes.
    pub fn conflict(what: Qualified<'_>, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {what} {name:?}: {why}");
        Self::new(409, "Conflict", message).about(what, name)
    }

    /// 409: an apply that would change fields of others.
    pub fn apply_conflict(conflicts: &Conflicts) -> Self {
        let mut causes = Vec::new();
        let mut lines = Vec::new();
        for (manager, fields) in &conflicts.0 {
            lines.push(format!("conflicts with {manager}:"));
            for path in fields.paths() {
                lines.push(format!("- {path}"));
                causes.push(StatusCause {
                    field: Some(path),
                    message: Some(format!("conflict with {manager}")),
                    reason: Some("FieldManagerConflict".into()),
                });
            }
        }
        let message = match causes.as_slice() {
            [StatusCause { field: Some(field), message: Some(message), .. }] => {
                format!("Apply failed with 1 conflict: {message}: {field}")
            }
            causes => format!("Apply failed with {} conflicts: {}", causes.len(), lines.join("\n")),
        };
        let mut error = Self::new(409, "Conflict", message);
        error.details(|details| details.causes = Some(causes));
        error
    }

    /// 410: what is asked for is older than what is kept.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message.into())
    }

    /// 410 for a continued list, with a token that goes on at the present state.
    pub fn expired_continue(token: String) -> Self {
        let mut error = Self::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list \
             without the continue parameter, or use the continue token in this response to retrieve the remainder of \
             the results. Continuing with the provided token results in an inconsistent list - objects that were \
             created, modified, or deleted between the time the first chunk was returned and now may show up in the \
             list.",
        );
        error.0.metadata.continue_ = Some(token);
        error
    }

    /// 422: fields of the object are refused.
    pub fn invalid(kind: Qualified<'_>, name: &str, errors: &[FieldError]) -> Self {
        let mut shown: Vec<String> = Vec::new();
        for error in errors.iter().map(ToString::to_string) {
            if !shown.contains(&error) {
                shown.push(error);
            }
        }
        let why = match shown.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let mut error = Self::new(422, "Invalid", format!("{kind} {name:?} is invalid: {why}")).about(kind, name);
        let causes = errors.iter().map(|error| StatusCause {
            field: Some(error.field.clone()),
            message: Some(error.body.clone()),
            reason: Some(error.reason.to_owned()),
        });
        error.details(|details| details.causes = Some(causes.collect()));
        error
    }

    /// 422: a JSON patch that cannot be applied.
    pub fn unprocessable() -> Self {
        let mut error =
            Self::new(422, "Invalid", "the server rejected our request due to an error in our request".into());
        error.details(|_| {});
        error
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message.into())
    }

    /// 403: what is asked for is not allowed, or not now. A collection has no name, a path no resource either.
    pub fn forbidden(what: Qualified<'_>, name: &str, why: &str) -> Self {
        let message = match (what.resource, name) {
            ("", _) => format!("forbidden: {why}"),
            (_, "") => format!("{what} is forbidden: {why}"),
            _ => format!("{what} {name:?} is forbidden: {why}"),
        };
        Self::new(403, "Forbidden", message).about(what, name)
    }

    /// 401: nobody knows who is asking.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized".into())
    }

    /// Adds a cause to an answer.
    #[must_use]
    pub fn with_cause(mut self, reason: &str, message: &str, field: &str) -> Self {
        let cause = StatusCause {
            field: Some(field.to_owned()).filter(|field| !field.is_empty()),
            message: Some(message.to_owned()),
            reason: Some(reason.to_owned()),
        };
        self.details(|details| details.causes.get_or_insert_default().push(cause));
        self
    }

    /// 405: the resource does not know the verb.
    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource".into();
        let mut error = Self::new(405, "MethodNotAllowed", message);
        error.details(|_| {});
        error
    }

    /// 406: an answer of no type that the client accepts.
    pub fn not_acceptable(available: &str) -> Self {
        Self::new(406, "NotAcceptable", format!("only the following media types are accepted: {available}"))
    }

    /// 406: an object in no form that the client accepts.
    pub fn no_acceptable_form() -> Self {
        const FORMS: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
        let message = format!("406: Not Acceptable\n\nAvailable representations: {FORMS}");
        let mut error = Self::new(406, "NotAcceptable", message);
        error.details(|_| {});
        error
    }

    /// 413: a body of more bytes than that.
    pub fn too_large(limit: usize) -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("Request entity too large: limit is {limit}"))
    }

    /// 504: it took too long.
    pub fn timeout(why: &str) -> Self {
        let mut error = Self::new(504, "Timeout", format!("Timeout: {why}"));
        error.details(|_| {});
        error
    }

    /// 415: a body of another type than those accepted.
    pub fn unsupported_media_type(accepted: &str) -> Self {
        let message =
            format!("the body of the request was in an unknown format - accepted media types include: {accepted}");
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 415: a patch of a type that there is none of.
    pub fn unsupported_patch() -> Self {
        let mut error = Self::new(415, "UnsupportedMediaType", "415: Unsupported Media Type".into());
        error.details(|_| {});
        error
    }

    /// 429: come again later; after so many seconds, or whenever it suits.
    pub fn too_many_requests(message: &str, retry_after_seconds: i32) -> Self {
        let mut error = Self::new(429, "TooManyRequests", message.to_owned());
        error.details(|details| details.retry_after_seconds = Some(retry_after_seconds).filter(|seconds| *seconds > 0));
        error
    }

    /// 500: something went wrong inside.
    pub fn internal(why: &str) -> Self {
        let mut error = Self::new(500, "InternalError", format!("Internal error occurred: {why}"));
        error.details(|details| {
            details.causes = Some(vec![StatusCause { message: Some(why.to_owned()), ..StatusCause::default() }]);
        });
        error
    }

    /// 500 with nothing but a text, as errors that no rule foresaw get it.
    pub fn plain(why: &str) -> Self {
        let mut error = Self::new(500, "", why.to_owned());
        error.0.reason = None;
        error
    }

    /// 500: a resource version that is no number.
    pub fn unreadable_number(text: &str) -> Self {
        Self::plain(&format!("strconv.ParseUint: parsing {text:?}: invalid syntax"))
    }

    /// 504: a version was asked for that is not there yet.
    pub fn too_large_version(asked: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        let mut error =
            Self::new(504, "Timeout", message).with_cause("ResourceVersionTooLarge", "Too large resource version", "");
        error.details(|details| {
            details.retry_after_seconds = Some(1);
        });
        error
    }

    /// 503: the server is not ready to serve.
    pub fn unavailable(message: &str) -> Self {
        Self::new(503, "ServiceUnavailable", message.to_owned())
    }
}
