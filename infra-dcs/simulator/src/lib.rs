//! A simulated Huawei DCS site whose virtual machines boot for real.

pub mod fabric;
pub mod guest;
