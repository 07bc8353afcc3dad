//! A simulated Huawei DCS site whose virtual machines boot for real.

fn main() {}
