//! What an earlier run left is not taken for what this one made.

use std::fs;

use dcs_simulator::{Config, Simulator, site::inventory::SiteFile};

#[tokio::test(flavor = "multi_thread")]
async fn files_of_no_object_go_when_a_site_starts() {
    let dir = tempfile::tempdir().unwrap();
    // A killed simulator: its disks and uploads are there, its state was never saved.
    // The first volume is the VM template's, the second the first machine's.
    for (folder, name) in
        [("disks", "volume-901.img"), ("disks", "volume-902.img"), ("files", "30001.iso"), ("uploads", "0123")]
    {
        fs::create_dir_all(dir.path().join(folder)).unwrap();
        fs::write(dir.path().join(folder).join(name), "old").unwrap();
    }
    let simulator = Simulator::start(Config::local(dir.path(), SiteFile::default())).await.unwrap();
    let second =
        Simulator::start(Config::local(dir.path(), SiteFile::default())).await.err().map(|why| why.to_string());
    assert!(second.is_some_and(|why| why.contains("is running")), "one data directory, one simulator");
    for folder in ["disks", "files", "uploads"] {
        assert_eq!(fs::read_dir(dir.path().join(folder)).unwrap().count(), 0, "{folder}");
    }
    simulator.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_saved_site_knows_stays() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::local(dir.path(), SiteFile::default());
    let first = Simulator::start(config.clone()).await.unwrap();
    first.engine().with(|site, now| {
        site.apply_upload(now, 8, "a.iso", 4).and_then(|ticket| site.uploaded(now, &ticket)).unwrap()
    });
    fs::write(dir.path().join("files/30001.iso"), "iso!").unwrap();
    first.shutdown().await.unwrap();
    fs::write(dir.path().join("files/30002.iso"), "of nobody").unwrap();
    let second = Simulator::start(config).await.unwrap();
    let left: Vec<_> =
        fs::read_dir(dir.path().join("files")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["30001.iso"]);
    second.shutdown().await.unwrap();
}
