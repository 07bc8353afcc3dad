use super::*;

fn root() -> Root {
    let mut root = Root::new(Volume::new(FileSystem::new("ext4", "u", "l")));
    for path in ["/etc", "/var/lib", "/mnt"] {
        root.make_directories(path).unwrap();
    }
    root
}

fn mount(path: &str, volume: Volume) -> Mount {
    Mount {
        path: path.to_owned(),
        source: "/dev/vdb".to_owned(),
        options: String::new(),
        device: Some((252, 16)),
        volume,
    }
}

#[test]
fn files_keep_their_mode_when_written_again_and_lose_it_when_put_anew() {
    let mut root = root();
    root.put("/etc/a/b", b"one".as_slice(), 0o600, Owner { uid: 1, gid: 2 }).unwrap();
    root.write("/etc/a/b", b"two".as_slice()).unwrap();
    root.append("/etc/a/b", b"three").unwrap();
    assert_eq!(root.read_text("/etc/a/b").unwrap(), "twothree");
    let metadata = root.metadata("/etc/a/b").unwrap();
    assert_eq!((metadata.mode, metadata.owner, metadata.size), (0o600, Owner { uid: 1, gid: 2 }, 8));
    root.put("/etc/a/b", b"".as_slice(), 0o644, Owner::default()).unwrap();
    assert_eq!(root.metadata("/etc/a/b").unwrap().mode, 0o644);
    assert_eq!(root.write("/etc/none/c", Vec::new()), Err(Errno::NotFound));
    assert_eq!(root.write("/etc", Vec::new()), Err(Errno::IsADirectory));
    assert_eq!(root.read("/etc/a/b/c").unwrap_err(), Errno::NotADirectory);
}

#[test]
fn links_are_followed_and_circles_end() {
    let mut root = root();
    root.put("/var/lib/x", b"x".as_slice(), 0o644, Owner::default()).unwrap();
    root.symlink("../var/lib", "/etc/lib").unwrap();
    assert_eq!(root.read_text("/etc/lib/x").unwrap(), "x");
    assert_eq!(root.canonical("/etc/lib/../lib/x").unwrap(), "/var/lib/x");
    root.symlink("b", "/etc/a").unwrap();
    root.symlink("a", "/etc/b").unwrap();
    assert_eq!(root.read("/etc/a").unwrap_err(), Errno::LinkLoop);
    // A write goes where the link points, though nothing is there yet.
    root.symlink("/var/lib/new", "/etc/new").unwrap();
    root.write("/etc/new", b"n".as_slice()).unwrap();
    assert_eq!(root.read_text("/var/lib/new").unwrap(), "n");
    root.hard_link("/var/lib/new", "/var/lib/other").unwrap();
    root.append("/var/lib/other", b"!").unwrap();
    root.remove_file("/var/lib/new").unwrap();
    assert_eq!(root.read_text("/var/lib/other").unwrap(), "n!");
    assert_eq!(root.read_text("/../../var/./lib//other").unwrap(), "n!", "above the top is the top");
}

#[test]
fn what_is_mounted_hides_and_survives() {
    let mut root = root();
    root.put("/mnt/below", b"system".as_slice(), 0o644, Owner::default()).unwrap();
    let disk = Volume::new(FileSystem::new("xfs", "u2", "data"));
    root.mount(mount("/mnt", disk.clone())).unwrap();
    assert!(!root.exists("/mnt/below"));
    root.put("/mnt/a/b", b"disk".as_slice(), 0o644, Owner::default()).unwrap();
    assert_eq!(root.rename("/mnt/a/b", "/etc/b"), Err(Errno::CrossDevice));
    assert_eq!(root.remove_directory("/mnt"), Err(Errno::Busy));
    assert_eq!(root.mount_of("/mnt/a/b").unwrap().path, "/mnt");
    let taken = root.unmount("/mnt").unwrap();
    assert!(taken.volume.is(&disk));
    assert_eq!(root.read_text("/mnt/below").unwrap(), "system");
    let mut other = self::root();
    other.mount(mount("/var/lib", disk)).unwrap();
    assert_eq!(other.read_text("/var/lib/a/b").unwrap(), "disk", "another machine finds what this one wrote");
}

#[test]
fn trees_are_moved_and_removed() {
    let mut root = root();
    root.put("/etc/a/b/c", b"c".as_slice(), 0o644, Owner::default()).unwrap();
    assert_eq!(root.remove_directory("/etc/a"), Err(Errno::NotEmpty));
    assert_eq!(root.rename("/etc/a", "/etc/a/b/d"), Err(Errno::Invalid), "not into itself");
    root.rename("/etc/a", "/var/a").unwrap();
    assert_eq!(root.read_text("/var/a/b/c").unwrap(), "c");
    root.remove_all("/var/a").unwrap();
    assert_eq!(root.list("/var").unwrap(), ["lib"]);
}

#[test]
fn a_script_that_writes_without_end_finds_the_disk_full() {
    let mut root = root();
    let megabyte = vec![0; 1 << 20];
    let full = (0..100).find_map(|number| root.write(&format!("/var/lib/{number}"), megabyte.clone()).err());
    assert_eq!(full, Some(Errno::NoSpace));
    root.remove_file("/var/lib/0").unwrap();
    root.write("/var/lib/0", b"small".as_slice()).unwrap();
}

#[test]
fn users_and_groups_live_in_their_files() {
    let mut root = Root::new(crate::guest::memory::image::system_disk());
    let new = NewUser {
        name: "boot".to_owned(),
        groups: vec!["wheel".to_owned()],
        create_home: true,
        password_hash: Some("$6$x".to_owned()),
        ..NewUser::default()
    };
    let user = root.add_user(&new).unwrap();
    root.authorize_keys(&user, "authorized_keys", &["ssh-ed25519 AAAA".to_owned()]).unwrap();
    assert_eq!(user.owner, Owner { uid: 1000, gid: 1000 });
    assert_eq!(root.group("wheel").unwrap().members, ["boot"]);
    assert_eq!(root.metadata("/home/boot/.ssh/authorized_keys").unwrap().mode, 0o600);
    assert_eq!(root.metadata("/home/boot/.ssh").unwrap().mode, 0o700);
    assert!(root.read_text("/etc/shadow").unwrap().contains("boot:$6$x:"));
    for (text, expected) in [
        ("boot", Ok((1000, 7))),
        ("boot:", Ok((1000, 1000))),
        (":adm", Ok((5, 4))),
        ("0:0", Ok((0, 0))),
        ("nobody:nogroup", Ok((65534, 65534))),
        ("who", Err("invalid user: 'who'".to_owned())),
        ("root:who", Err("invalid group: 'root:who'".to_owned())),
    ] {
        let found = root.owner(text, Owner { uid: 5, gid: 7 }).map(|owner| (owner.uid, owner.gid));
        assert_eq!(found, expected, "{text}");
    }
    let missing = NewUser { name: "b".to_owned(), groups: vec!["docker".to_owned()], ..NewUser::default() };
    assert_eq!(root.add_user(&missing).unwrap_err().to_string(), "group 'docker' does not exist");
}
