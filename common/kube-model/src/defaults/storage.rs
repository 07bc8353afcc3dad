//! Volumes, claims and what provides them.

use serde_json::{Value, json};

use super::{below, fill, pods::default_host_path};

/// A claim of a volume.
pub fn default_claim(claim: &mut Value) {
    if let Some(spec) = below(claim, "spec") {
        fill(spec, [("volumeMode", json!("Filesystem"))]);
    }
}

/// What a new claim shows.
pub fn new_claim_status(claim: &mut Value) {
    claim["status"] = json!({"phase": "Pending"});
}

/// A volume.
pub fn default_volume(volume: &mut Value) {
    let Some(spec) = below(volume, "spec") else { return };
    fill(spec, [("persistentVolumeReclaimPolicy", json!("Retain")), ("volumeMode", json!("Filesystem"))]);
    default_host_path(spec);
}

/// What a new volume shows, since when.
pub fn new_volume_status(volume: &mut Value) {
    volume["status"] = json!({"phase": "Pending", "lastPhaseTransitionTime": volume["metadata"]["creationTimestamp"]});
}

/// A `StorageClass`.
pub fn default_storage_class(class: &mut Value) {
    if let Some(class) = class.as_object_mut() {
        fill(class, [("reclaimPolicy", json!("Delete")), ("volumeBindingMode", json!("Immediate"))]);
    }
}

/// A `CSIDriver`.
pub fn default_csi_driver(driver: &mut Value) {
    let Some(spec) = below(driver, "spec") else { return };
    fill(
        spec,
        [
            ("attachRequired", json!(true)),
            ("fsGroupPolicy", json!("ReadWriteOnceWithFSType")),
            ("podInfoOnMount", json!(false)),
            ("requiresRepublish", json!(false)),
            ("seLinuxMount", json!(false)),
            ("storageCapacity", json!(false)),
            ("volumeLifecycleModes", json!(["Persistent"])),
        ],
    );
}
