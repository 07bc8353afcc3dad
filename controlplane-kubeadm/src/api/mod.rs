//! `KubeadmControlPlane` and `KubeadmControlPlaneTemplate`: types, defaults, validation, conversion, schema.

pub mod conversion;
pub mod crds;
pub mod defaulting;
pub mod v1beta2;
pub mod validation;
