//! Typed errors of the machine service: a gRPC status with `google.rpc` details, and back.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

pub use crate::v1::Reason;

/// Domain of our `ErrorInfo`.
const DOMAIN: &str = "dcs.machine.v1";

/// What went wrong, as both sides know it. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineError {
    /// Why.
    pub reason: Reason,
    /// For people.
    pub message: String,
    /// The site's own code and text, by name.
    pub metadata: HashMap<String, String>,
    /// Time after which a repetition makes sense.
    pub retry_after: Option<Duration>,
    /// Kind and name of what it is about.
    pub resource: Option<(String, String)>,
}

impl std::fmt::Display for MachineError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.message)?;
        match self.metadata.get(VENDOR_CODE) {
            Some(code) => write!(formatter, " (code {code})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for MachineError {}

/// Kind of [`MachineError::resource`]: the host that takes an upload.
pub const UPLOAD_HOST: &str = "upload host";
/// Kind of [`MachineError::resource`]: the name of a machine that is not the caller's.
pub const FOREIGN_MACHINE: &str = "foreign machine";
/// Kind of [`MachineError::resource`]: a datastore that takes no uploads.
pub const UPLOAD_DATASTORE: &str = "upload datastore";
/// Kind of [`MachineError::resource`]: a user whose password must be changed before it is good for anything.
pub const STALE_PASSWORD: &str = "stale password";
/// Kind of [`MachineError::resource`]: a machine whose drive takes a medium only while it runs.
pub const RUNNING_DRIVE: &str = "drive of a running machine";
/// Name of the site's own error number in [`MachineError::metadata`].
pub const VENDOR_CODE: &str = "vendorCode";

impl MachineError {
    /// An error with a message.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), metadata: HashMap::new(), retry_after: None, resource: None }
    }

    /// The same error, with the site's own number.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.metadata.insert(VENDOR_CODE.to_owned(), code.into());
        self
    }

    /// The same error, with a time before which a repetition makes no sense.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// The same error, with the kind and name of what it is about.
    #[must_use]
    pub fn about(mut self, kind: impl Into<String>, name: impl Into<String>) -> Self {
        self.resource = Some((kind.into(), name.into()));
        self
    }

    /// Whether it is about a resource of this kind.
    pub fn is_about(&self, kind: &str) -> bool {
        self.resource.as_ref().is_some_and(|(about, _)| about == kind)
    }
}

/// The gRPC code that says most of a reason to those who do not know ours.
fn code(reason: Reason) -> Code {
    match reason {
        Reason::NotFound => Code::NotFound,
        Reason::Ambiguous | Reason::Conflict | Reason::Placement | Reason::LockedOut => Code::FailedPrecondition,
        Reason::Busy | Reason::Unreachable => Code::Unavailable,
        Reason::Throttled | Reason::Capacity => Code::ResourceExhausted,
        Reason::Credentials | Reason::SessionUnknown => Code::Unauthenticated,
        Reason::Invalid => Code::InvalidArgument,
        Reason::Unsupported => Code::Unimplemented,
        Reason::OutcomeUnknown => Code::Aborted,
        Reason::Unspecified => Code::Unknown,
    }
}

impl From<MachineError> for Status {
    fn from(error: MachineError) -> Self {
        let mut details = ErrorDetails::new();
        details.set_error_info(error.reason.as_str_name(), DOMAIN, error.metadata);
        if let Some(after) = error.retry_after {
            details.set_retry_info(Some(after));
        }
        if let Some((kind, name)) = error.resource {
            details.set_resource_info(kind, name, "", "");
        }
        Status::with_error_details(code(error.reason), error.message, details)
    }
}

impl From<Status> for MachineError {
    /// A status without our details comes from the transport: the adapter is gone, or did not answer in time.
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == DOMAIN);
        let reason = info.and_then(|info| Reason::from_str_name(&info.reason)).unwrap_or(match status.code() {
            Code::Unavailable => Reason::Unreachable,
            // A call whose answer did not come may have been carried out.
            _ => Reason::OutcomeUnknown,
        });
        Self {
            reason,
            message: status.message().to_owned(),
            metadata: info.map(|info| info.metadata.clone()).unwrap_or_default(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
            resource: details.resource_info().map(|info| (info.resource_type.clone(), info.resource_name.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_crosses_the_wire_whole() {
        let error = MachineError::new(Reason::LockedOut, "the user is locked")
            .with_code("10100116")
            .retry_after(Duration::from_secs(300))
            .about("VM template", "basalt-node");
        let status = Status::from(error.clone());
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(MachineError::from(status), error);
        assert_eq!(error.to_string(), "the user is locked (code 10100116)");
    }

    #[test]
    fn a_transports_error_is_told_apart() {
        assert_eq!(MachineError::from(Status::unavailable("no socket")).reason, Reason::Unreachable);
        assert_eq!(MachineError::from(Status::cancelled("Timeout expired")).reason, Reason::OutcomeUnknown);
    }
}
