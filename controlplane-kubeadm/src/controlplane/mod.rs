//! The controller of control planes.

mod compare;
pub mod decide;
mod desired;
pub mod facts;
pub mod health;
pub mod names;
pub mod status;
pub mod wanted;
