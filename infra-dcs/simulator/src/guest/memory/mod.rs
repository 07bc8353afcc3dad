//! Memory guests: machines whose content is played in this process.

pub mod api_server;
pub mod etcd;
pub mod time;
pub mod tls;
