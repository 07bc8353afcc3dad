//! VRM's error numbers, sorted by what a caller can do about them.

use dcs_proto::{
    MachineError,
    error::{Reason, STALE_PASSWORD, VENDOR_CODE},
};

/// Numbers that mean: what was asked for is the case already.
pub mod done {
    /// Started already.
    pub const STARTED: &[&str] = &["10300094"];
    /// Stopped already.
    pub const STOPPED: &[&str] = &["10300092"];
    /// The machine is gone.
    pub const MACHINE_GONE: &[&str] = &["10300001"];
    /// The volume is attached already; to whom must be looked up.
    pub const ATTACHED: &[&str] = &["10300076", "10300074", "10300057"];
    /// The volume is detached already.
    pub const DETACHED: &[&str] = &["10300037", "10300330"];
    /// The volume is gone.
    pub const VOLUME_GONE: &[&str] = &["10420004"];
    /// A medium is in the drive already; which must be looked up.
    pub const MEDIA_ATTACHED: &[&str] = &["10300033"];
    /// No medium is in the drive.
    pub const MEDIA_DETACHED: &[&str] = &["10300034"];
    /// The file is gone.
    pub const FILE_GONE: &[&str] = &["10000008"];
    /// The disk has that size or a larger one already.
    pub const LARGE_ENOUGH: &[&str] = &["10300323"];
    /// A machine of that UUID exists: ours.
    pub const UUID_EXISTS: &[&str] = &["10300451"];
    /// The rule is gone.
    pub const RULE_GONE: &[&str] = &["10300130"];
}

/// The datastore does not hold files that are uploaded.
pub const NOT_FOR_FILES: &[&str] = &["10410052"];
/// The word for the kind of medium is not known to this release.
pub const PROTOCOL_REFUSED: &[&str] = &["10300343"];
/// The machine is not in the state, running or stopped, that the call wants.
pub const WRONG_POWER: &[&str] = &["10300015", "10300331"];
/// The password must be changed, or has expired.
const STALE: &[&str] = &["10100108", "10100109"];

const SESSION_END: &[&str] = &["10000002"];
const VERSION_REFUSED: &[&str] = &["10000022"];
const EXPIRY_WARNING: &[&str] = &["10100110"];

/// The error that a refusal is.
pub fn error(code: &str, status: u16, says: &str) -> MachineError {
    let mut error = MachineError::new(reason(code, status), says);
    if !code.is_empty() {
        error = error.with_code(code);
    }
    if STALE.contains(&code) { error.about(STALE_PASSWORD, "") } else { error }
}

fn reason(code: &str, status: u16) -> Reason {
    match code {
        "10100103" | "10100108" | "10100109" | "10100112" | "10100342" | "10100343" | "10100353" | "10100354"
        | "10000003" | "10000002" => Reason::Credentials,
        "10100113" | "10100116" | "10100117" | "10100118" => Reason::LockedOut,
        "10000022" => Reason::Unsupported,
        "10000006" | "10000007" => Reason::Throttled,
        "10000004" | "10000005" | "11000000" | "10200300" | "10400004" | "10400006" | "10300025" | "10300096"
        | "10300101" | "10300162" | "10300421" | "10300502" | "10800119" | "10800120" | "10300152" | "103000053"
        | "10300242" | "10300133" | "10300169" | "10300170" | "10420005" | "10420138" | "10420017" | "10420054"
        | "10420170" | "10420171" | "10410024" | "10410052" | "10410071" | "10410096" | "10410154" | "10410163"
        | "10410494" => Reason::Busy,
        "10300001" | "10420004" | "10300078" | "10410006" | "10300028" | "10000020" | "10300621" | "10540010"
        | "10540107" | "10540108" | "10410488" | "10410283" | "10300130" => Reason::NotFound,
        "10300072" | "10300073" | "10300083" | "10300084" | "10800128" | "10800129" | "10800130" | "10800131"
        | "10321049" => Reason::Placement,
        "10300016" | "10410003" | "10420037" | "10420012" | "10420109" | "10800115" | "10800126" | "10800125"
        | "10410234" | "10800096" | "10800113" => Reason::Capacity,
        "10000001" | "10300010" | "10300012" | "10300067" | "10300070" | "10300345" | "10300349" | "10300350"
        | "10300351" | "10300352" | "10300355" | "10300424" | "10300426" | "10300624" | "10420045" | "10420066"
        | "10420046" | "11400000" | "10400002" | "10000012" | "10000013" | "10000016" | "10000018" | "10301035"
        | "10300437" | "10300343" | "10110001" | "10300323" => Reason::Invalid,
        "10000008" | "10000009" | "10300015" | "10300320" | "10300331" | "10300470" | "10800122" | "102212808"
        | "10300451" | "10300057" | "10300074" | "10300076" | "10300033" | "10300034" | "10300037" | "10300330"
        | "10300092" | "10300094" | "10300097" | "10410232" | "10420009" | "10420010" | "10420142" => Reason::Conflict,
        // A gateway's answer, not the site's: the request may have arrived.
        "" if matches!(status, 500 | 502 | 504) => Reason::Unreachable,
        _ => match status {
            401 | 403 => Reason::Credentials,
            404 => Reason::NotFound,
            413 | 429 | 503 => Reason::Throttled,
            500..=599 => Reason::Busy,
            // A number that is in no list: it may pass.
            _ => Reason::Busy,
        },
    }
}

/// Whether an error carries a number of the site: then the site itself said it, not something on the way.
pub fn has_code(error: &MachineError) -> bool {
    error.metadata.contains_key(VENDOR_CODE)
}

/// Whether an error carries one of these numbers.
pub fn is(error: &MachineError, codes: &[&str]) -> bool {
    error.metadata.get(VENDOR_CODE).is_some_and(|code| codes.contains(&code.as_str()))
}

/// Whether the token has ended: the call had no effect, and a new login helps.
pub fn is_session_end(error: &MachineError) -> bool {
    is(error, SESSION_END) || (error.reason == Reason::Credentials && !has_code(error))
}

/// Whether the site does not speak the version that was asked for: the call had no effect.
pub(super) fn is_version_refused(error: &MachineError) -> bool {
    is(error, VERSION_REFUSED)
}

pub(super) fn is_expiry_warning(error: &MachineError) -> bool {
    is(error, EXPIRY_WARNING)
}
