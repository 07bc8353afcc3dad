//! VRM's error codes, as far as this site gives them, and the error that carries one.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A vendor error code: 8 or 9 decimal digits, text on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Code(pub u32);

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:08}", self.0)
    }
}

impl Code {
    /// A refusal with this code and the vendor's general text.
    pub fn refuse<T>(self) -> Result<T, VrmError> {
        Err(self.into())
    }

    /// A refusal that names what is wrong.
    pub fn because(self, detail: impl Into<String>) -> VrmError {
        VrmError { code: self, detail: detail.into() }
    }

    /// HTTP status that release 8.8.1 sends with the code: 400 for nearly every refusal, state conflicts included.
    pub fn http_status(self) -> u16 {
        match self {
            TOKEN => 401,
            NO_PERMISSION | RECOVERING | INTERNAL => 500,
            PASSWORD_MUST_CHANGE | PASSWORD_EXPIRED | PASSWORD_EXPIRES_SOON => 200,
            _ => 400,
        }
    }
}

/// A refusal of the site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VrmError {
    /// What clients branch on.
    pub code: Code,
    /// What is wrong with this very call; empty where the general text says all.
    pub detail: String,
}

impl From<Code> for VrmError {
    fn from(code: Code) -> Self {
        Self { code, detail: String::new() }
    }
}

impl fmt::Display for VrmError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(text(self.code))?;
        if self.detail.is_empty() { Ok(()) } else { write!(formatter, " ({})", self.detail) }
    }
}

impl std::error::Error for VrmError {}

macro_rules! codes {
    ($($name:ident = $code:literal $text:literal;)*) => {
        $(#[doc = $text] pub const $name: Code = Code($code);)*

        /// The general text of a code.
        pub fn text(code: Code) -> &'static str {
            match code.0 { $($code => $text,)* _ => "The operation failed." }
        }
    };
}

codes! {
    BAD_PARAMETER = 10_000_001 "A parameter is invalid.";
    TOKEN = 10_000_002 "The token is missing, wrong or has expired.";
    NO_PERMISSION = 10_000_003 "The user has no permission for the operation.";
    RECOVERING = 10_000_005 "The VRM is recovering.";
    BUSY = 10_000_006 "The system is busy.";
    TOO_MANY_TASKS = 10_000_007 "There are too many tasks.";
    GONE = 10_000_008 "The object does not exist or is in conflict.";
    SITE_NOT_FOUND = 10_000_020 "The site does not exist.";
    VERSION = 10_000_022 "The interface version is missing or not supported.";
    INTERNAL = 11_000_000 "An internal error occurred.";

    BAD_PASSWORD = 10_100_103 "The user name or password is wrong.";
    PASSWORD_MUST_CHANGE = 10_100_108 "The password must be changed at the first login.";
    PASSWORD_EXPIRED = 10_100_109 "The password has expired.";
    PASSWORD_EXPIRES_SOON = 10_100_110 "The password expires soon.";
    LOGIN_FAILED = 10_100_112 "The login failed.";
    LOCKED_NOW = 10_100_113 "The user has been locked after too many failed logins.";
    STILL_LOCKED = 10_100_116 "The user is locked. Further attempts extend the lock.";
    LOCKED_BY_ADMINISTRATOR = 10_100_117 "The user has been locked by an administrator.";
    LOCKED_FOREVER = 10_100_118 "The user is locked and will not be unlocked automatically.";
    DOMAIN_USER_UNKNOWN = 10_100_342 "The domain user does not exist.";
    DOMAIN_CREDENTIAL = 10_100_343 "The credential of the domain user is invalid.";
    NOT_ACTIVATED = 10_100_353 "The user has not been activated.";
    NO_ROLE = 10_100_354 "The user has no role.";
    TOO_MANY_PROPERTIES = 10_110_001 "There are too many custom properties.";

    VM_NOT_FOUND = 10_300_001 "The VM does not exist.";
    BAD_DISKS = 10_300_010 "The disk settings are invalid.";
    BAD_NICS = 10_300_012 "The NIC settings are invalid.";
    VM_STATE = 10_300_015 "The VM is in a state that does not allow the operation.";
    NO_RESOURCES = 10_300_016 "The resources are insufficient.";
    IS_TEMPLATE = 10_300_021 "A VM template cannot be started.";
    NO_TOOLS = 10_300_026 "Tools are not running in the VM.";
    CLUSTER_NOT_FOUND = 10_300_028 "The cluster does not exist.";
    CD_MOUNTED = 10_300_033 "A CD-ROM is mounted already.";
    CD_NOT_MOUNTED = 10_300_034 "No CD-ROM is mounted.";
    NOT_ATTACHED = 10_300_037 "The volume is not attached to the VM.";
    BAD_LOCATION = 10_300_067 "The location is invalid.";
    SLOT_TAKEN = 10_300_070 "The disk's sequence number is in use or out of range.";
    ATTACHED_ELSEWHERE = 10_300_074 "The volume is attached to another VM.";
    ATTACHED_HERE = 10_300_076 "The volume is attached to this VM already.";
    DISK_NOT_FOUND = 10_300_078 "The disk does not exist.";
    NO_PLACEMENT = 10_300_083 "No host of the location can run the VM.";
    IS_STOPPED = 10_300_092 "The VM is stopped or hibernated already.";
    IS_RUNNING = 10_300_094 "The VM is running already.";
    SAME_OPERATION = 10_300_096 "The same operation is running on the VM.";
    HIBERNATING = 10_300_097 "The VM is hibernating.";
    RULE_TYPE = 10_300_125 "The type of the rule is invalid.";
    RULE_NAME = 10_300_126 "The name of the rule is invalid.";
    RULE_OPERATION = 10_300_127 "The operation on the rule is invalid.";
    RULE_NAME_USED = 10_300_128 "The name of the rule is in use.";
    RULE_VM_ELSEWHERE = 10_300_129 "A VM of the rule is not in the cluster.";
    RULE_NOT_FOUND = 10_300_130 "The rule does not exist.";
    TEMPLATE_CLONING = 10_300_133 "The VM or VM template is being cloned.";
    RULE_INDEX_MISSING = 10_300_135 "The index of the rule is missing.";
    RULE_TOO_MANY_VMS = 10_300_136 "There are too many VMs in the rule.";
    TOO_MANY_RULES = 10_300_137 "There are too many rules in the cluster.";
    UNFINISHED_TASK = 10_300_162 "The operation conflicts with an unfinished task.";
    SYSTEM_DISK = 10_300_165 "The system disk cannot be detached.";
    TEMPLATE_CLONING_START = 10_300_169 "The VM template is being cloned and cannot be started.";
    TEMPLATE_CLONING_ATTACH = 10_300_170 "The VM template is being cloned; disks cannot be attached.";
    DRS_OFF = 10_300_240 "Computing resource scheduling is off in the cluster.";
    RULE_CONFLICT = 10_300_246 "The rule conflicts with another one.";
    STOP_FIRST = 10_300_320 "The VM must be stopped first.";
    VOLUME_IS_FREE = 10_300_321 "The volume is not attached to a VM.";
    VOLUME_ELSEWHERE = 10_300_322 "The volume is attached to another VM.";
    NOT_LARGER = 10_300_323 "The new size is not larger than the current one.";
    DETACHED_ALREADY = 10_300_330 "The volume has been detached already.";
    RUNNING_OR_STOPPED = 10_300_331 "The VM is neither running nor stopped.";
    CUSTOM_HOST_NAME = 10_300_342 "The host name is invalid.";
    CD_PROTOCOL = 10_300_343 "The protocol of the CD-ROM is invalid.";
    CUSTOM_IP = 10_300_349 "An IP address of the customization is invalid.";
    CUSTOM_COUNT = 10_300_355 "The number of customized NICs differs from the number of NICs.";
    FILE_EXISTS = 10_300_381 "A file of that name exists.";
    BUS_TYPE = 10_300_424 "The bus type of a disk is invalid.";
    NO_CD_DRIVE = 10_300_437 "The VM has no CD-ROM drive.";
    UUID_USED = 10_300_451 "The UUID is in use.";
    GUEST_REFUSED_STOP = 10_300_474 "The guest did not shut down.";
    NO_HOT_UNPLUG = 10_300_569 "The guest does not support removing disks while it is running.";
    FOLDER_NAME_USED = 10_300_619 "The name is in use at that level.";
    FOLDER_NOT_EMPTY = 10_300_620 "The folder is not empty.";
    FOLDER_NOT_FOUND = 10_300_621 "The folder does not exist.";
    FOLDER_TYPE = 10_300_626 "The type of the folder is wrong.";
    BAD_URN = 10_300_624 "The URN is invalid.";
    CD_PATH = 10_301_035 "The path of the CD-ROM is invalid.";
    NO_HOST_FOR_RULES = 10_321_049 "No host fits the scheduling rules.";

    NO_SPACE = 10_410_003 "The datastore has too little space.";
    DATASTORE_NOT_FOUND = 10_410_006 "The datastore does not exist.";
    DATASTORE_NOT_CONNECTED = 10_410_024 "The host is not connected to the datastore.";
    DATASTORE_UNSUITABLE = 10_410_052 "The datastore does not support the operation.";
    DATASTORE_READ_ONLY = 10_410_154 "The datastore is read-only.";
    DATASTORE_STATE = 10_410_163 "The datastore is in a state that does not allow the operation.";
    FILE_IN_USE = 10_410_232 "The file is in use.";
    DATASTORE_CLUSTER_NOT_FOUND = 10_410_488 "The datastore cluster does not exist.";
    VOLUME_NOT_FOUND = 10_420_004 "The volume does not exist.";
    VOLUME_STATE = 10_420_005 "The volume is in a state that does not allow the operation.";
    VOLUME_BOUND = 10_420_009 "The volume is attached to a VM.";
    VOLUME_CREATING = 10_420_017 "The volume is being created.";
    VOLUME_NO_SPACE = 10_420_037 "The datastore has too little space for the volume.";
    THIN_UNSUPPORTED = 10_420_045 "The datastore does not support thin volumes.";
    THIN_REQUIRED = 10_420_066 "The datastore supports thin volumes only.";
    VOLUME_TYPE = 10_420_071 "The type of the volume does not allow the operation.";
    VOLUME_BOUND_EXPAND = 10_420_142 "The volume is attached to a VM; expand it there.";
    SWITCH_NOT_FOUND = 10_540_010 "The distributed switch does not exist.";
    PORT_GROUP_NOT_FOUND = 10_540_108 "The port group does not exist.";

    TASK_NOT_CANCELABLE = 10_800_001 "The task cannot be cancelled.";
    TASK_FINISHED = 10_800_002 "The task is finished or unknown.";
    CD_SHARE_UNREACHABLE = 10_800_108 "The host cannot reach the share.";
    CD_ISO_MISSING = 10_800_110 "The ISO file does not exist.";
    NO_HOST_MEMORY = 10_800_126 "No host has enough memory.";
    NO_HOST = 10_800_128 "No host is available.";
    HOST_START_FAILED = 10_800_104 "The host could not start the VM.";
    DELETE_NEEDS_STOPPED = 102_212_808 "Only stopped VMs can be deleted.";
}
