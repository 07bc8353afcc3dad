//! Cluster API infrastructure provider for Huawei DCS.

fn main() {}
