//! Where the workspace, its build output and the caches are.

use std::{
    env,
    path::{Path, PathBuf},
};

/// Root of the workspace this binary was built from.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Cargo's output folder: `CARGO_TARGET_DIR` or `target/` in the workspace.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), |dir| workspace().join(dir))
}

/// What takes minutes to make and is kept between runs and checkouts: Go-built peers, guest images.
/// `BASALT_CACHE_DIR`, else `$XDG_CACHE_HOME/basalt`, else `~/.cache/basalt`.
pub fn cache() -> PathBuf {
    if let Some(dir) = env::var_os("BASALT_CACHE_DIR") {
        return PathBuf::from(dir);
    }
    let base = env::var_os("XDG_CACHE_HOME").map_or_else(
        || env::var_os("HOME").map_or_else(|| PathBuf::from("/var/cache"), PathBuf::from).join(".cache"),
        PathBuf::from,
    );
    base.join("basalt")
}

/// Logs, dumps and state of one run: `target/e2e/<name>`.
pub fn run_dir(name: &str) -> PathBuf {
    target().join("e2e").join(name)
}
