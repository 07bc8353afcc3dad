//! Cluster API contract types, conditions, labels, owner references and versions.
