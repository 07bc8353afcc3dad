//! scratch
use e2e::{isolation, management::Management, providers::*};
use std::{fs, path::PathBuf, process::ExitCode, time::Instant};
#[tokio::main]
async fn main() -> ExitCode {
    if !isolation::is_inside() { return isolation::reenter("basalt-scratch").await.unwrap(); }
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let dir = PathBuf::from("/tmp/scratch-env"); let _ = fs::remove_dir_all(&dir); fs::create_dir_all(dir.join("logs")).unwrap(); fs::create_dir_all(dir.join("r")).unwrap();
    let t = Instant::now();
    isolation::make_network("br0", "10.77.0.1/16").await.unwrap();
    let tc = PathBuf::from("/work/warm/bin");
    let mut m = Management::start(&tc, &dir, &dir.join("logs")).await.unwrap();
    println!("mgmt {:?}", t.elapsed());
    let up = xtask::toolchain::MODULES.iter().find(|m| m.folder == "cluster-api").unwrap().source_dir().unwrap();
    let (s, l) = (dir.join("r"), dir.join("logs"));
    let places = Places { management: &m, toolchain: &tc, binaries: &tc, scratch: &s, logs: &l };
    let i = Installed::apply(&CORE, &up.join("core/config/default"), &places, vec![]).await.unwrap();
    println!("applied {:?}", t.elapsed());
    let mut p = i.start(&[]).unwrap();
    i.wait_ready(&mut p).await.unwrap();
    println!("ready {:?}", t.elapsed());
    p.stop().await; m.stop().await;
    println!("stopped {:?}", t.elapsed());
    ExitCode::SUCCESS
}
