//! What every provider knows of Cluster API: the core kinds as we read them, conditions, labels, owner references,
//! pausing, versions, and the shape of CRDs. Nothing here performs I/O.

pub mod conditions;
pub mod crd;
pub mod labels;
pub mod owner;
pub mod paused;
pub mod v1beta2;
pub mod version;
