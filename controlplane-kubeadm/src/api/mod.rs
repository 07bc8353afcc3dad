//! `KubeadmControlPlane` and `KubeadmControlPlaneTemplate`: types, defaults, validation, conversion, schema.

pub mod conversion;
pub mod crds;
pub mod defaulting;
pub mod naming;
pub mod v1beta2;
pub mod validation;
