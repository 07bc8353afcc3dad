//! The adapter: the machine service over a Unix socket, VRM's REST behind it. It holds nothing that cannot be lost.

pub mod fault;
pub mod followed;
pub mod iso;
pub mod server;
pub mod service;
pub mod session;
pub mod vrm;
