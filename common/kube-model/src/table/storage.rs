//! Volumes and what provides them.

use serde_json::Value;

use super::{
    AGE, NAME, Printer,
    cells::{UNSET, age, is_deleting, joined, list, name, scalar, text, text_or},
    column, number as number_column, text as text_column, wide,
};

/// Where the class of a volume stood before it had a field.
const CLASS: &str = "/metadata/annotations/volume.beta.kubernetes.io~1storage-class";
/// What marks the class of claims that name none.
const IS_DEFAULT: [&str; 2] = [
    "/metadata/annotations/storageclass.kubernetes.io~1is-default-class",
    "/metadata/annotations/storageclass.beta.kubernetes.io~1is-default-class",
];

pub(super) const VOLUMES: Printer = Printer {
    columns: &[
        NAME,
        text_column("Capacity"),
        text_column("Access Modes"),
        text_column("Reclaim Policy"),
        text_column("Status"),
        text_column("Claim"),
        text_column("StorageClass"),
        text_column("VolumeAttributesClass"),
        text_column("Reason"),
        AGE,
        wide("VolumeMode"),
    ],
    cells: |volume, now| {
        let claim = volume.pointer("/spec/claimRef").filter(|claim| !claim.is_null());
        let claim = claim.map(|claim| format!("{}/{}", text(claim, "/namespace"), text(claim, "/name")));
        vec![
            name(volume),
            scalar(volume, "/spec/capacity/storage").unwrap_or_else(|| "0".into()).into(),
            access_modes(volume, "/spec/accessModes").into(),
            text_or(volume, "/spec/persistentVolumeReclaimPolicy", "Retain").into(),
            phase(volume).into(),
            claim.unwrap_or_default().into(),
            class(volume).into(),
            text_or(volume, "/spec/volumeAttributesClassName", UNSET).into(),
            text(volume, "/status/reason").into(),
            age(volume, now),
            text_or(volume, "/spec/volumeMode", "Filesystem").into(),
        ]
    },
};

pub(super) const CLAIMS: Printer = Printer {
    columns: &[
        NAME,
        text_column("Status"),
        text_column("Volume"),
        text_column("Capacity"),
        text_column("Access Modes"),
        text_column("StorageClass"),
        text_column("VolumeAttributesClass"),
        AGE,
        wide("VolumeMode"),
    ],
    cells: |claim, now| {
        let volume = text(claim, "/spec/volumeName");
        let (capacity, modes) = if volume.is_empty() {
            (String::new(), String::new())
        } else {
            let capacity = scalar(claim, "/status/capacity/storage").unwrap_or_else(|| "0".into());
            (capacity, access_modes(claim, "/status/accessModes"))
        };
        vec![
            name(claim),
            phase(claim).into(),
            volume.into(),
            capacity.into(),
            modes.into(),
            class(claim).into(),
            text_or(claim, "/spec/volumeAttributesClassName", UNSET).into(),
            age(claim, now),
            text_or(claim, "/spec/volumeMode", "Filesystem").into(),
        ]
    },
};

pub(super) const CLASSES: Printer = Printer {
    columns: &[
        NAME,
        text_column("Provisioner"),
        text_column("ReclaimPolicy"),
        text_column("VolumeBindingMode"),
        text_column("AllowVolumeExpansion"),
        AGE,
    ],
    cells: |class, now| {
        let is_default = IS_DEFAULT.iter().any(|annotation| text(class, annotation) == "true");
        let mark = if is_default { " (default)" } else { "" };
        vec![
            format!("{}{mark}", text(class, "/metadata/name")).into(),
            text(class, "/provisioner").into(),
            text_or(class, "/reclaimPolicy", "Delete").into(),
            text_or(class, "/volumeBindingMode", "Immediate").into(),
            class.get("allowVolumeExpansion").and_then(Value::as_bool).unwrap_or_default().into(),
            age(class, now),
        ]
    },
};

pub(super) const ATTACHMENTS: Printer = Printer {
    columns: &[
        NAME,
        column("Attacher", "string", "name", 0),
        text_column("PV"),
        text_column("Node"),
        column("Attached", "boolean", "", 0),
        AGE,
    ],
    cells: |attachment, now| {
        vec![
            name(attachment),
            text(attachment, "/spec/attacher").into(),
            text(attachment, "/spec/source/persistentVolumeName").into(),
            text(attachment, "/spec/nodeName").into(),
            attachment.pointer("/status/attached").and_then(Value::as_bool).unwrap_or_default().into(),
            age(attachment, now),
        ]
    },
};

pub(super) const CSI_NODES: Printer = Printer {
    columns: &[NAME, number_column("Drivers"), AGE],
    cells: |node, now| vec![name(node), list(node, "/spec/drivers").len().into(), age(node, now)],
};

/// Short forms of access modes, in the order of the printers.
fn access_modes(object: &Value, pointer: &str) -> String {
    let modes = list(object, pointer);
    let short =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    joined(short.into_iter().filter(|(mode, _)| modes.iter().any(|one| one == mode)).map(|(_, short)| short))
}

fn phase(object: &Value) -> &str {
    if is_deleting(object) { "Terminating" } else { text_or(object, "/status/phase", "Pending") }
}

fn class(object: &Value) -> &str {
    text_or(object, CLASS, text(object, "/spec/storageClassName"))
}
