//! The adapter's effects at the site, each between two crash points.

pub use ::fault::around;

/// Every effect, by the name of its crash points.
pub const EFFECTS: &[&str] = &[
    "vrm-login",
    "vrm-clone",
    "vrm-start",
    "vrm-stop",
    "vrm-delete",
    "vrm-grow-disk",
    "vrm-move",
    "vrm-upload",
    "vrm-attach-media",
    "vrm-detach-media",
    "vrm-delete-media",
    "vrm-create-volume",
    "vrm-adopt-volume",
    "vrm-mark-volume",
    "vrm-attach-volume",
    "vrm-detach-volume",
    "vrm-delete-volume",
    "vrm-change-rule",
];
