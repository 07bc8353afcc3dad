//! Ignition 2.3 and 3.x documents, translation between them, merge.
