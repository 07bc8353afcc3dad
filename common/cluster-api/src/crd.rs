//! The shape of CRDs.
