//! Memory guests: machines whose content is played in this process.

pub mod api_server;
pub mod etcd;
#[cfg(test)]
pub(crate) mod testing;
pub mod time;
pub mod tls;
