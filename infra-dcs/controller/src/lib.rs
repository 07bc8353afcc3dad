//! Cluster API infrastructure provider for Huawei DCS: the Kubernetes side. It talks to the site through the machine
//! service of its adapter and knows nothing of the site's own API.

pub mod api;
pub mod claims;
pub mod guest;
