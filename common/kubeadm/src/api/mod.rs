//! `KubeadmConfig` and what it is made of.

pub mod conversion;
pub mod defaulting;
pub mod discovery;
mod env;
pub mod files;
pub mod spec;
pub mod v1beta1;
pub mod v1beta2;
pub mod validation;
