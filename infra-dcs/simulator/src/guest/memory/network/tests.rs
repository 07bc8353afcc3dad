use super::*;
use crate::guest::memory::{image, root::Root};

fn with_keyfiles(files: &[(&str, &str, u32)]) -> Result<Vec<Profile>, NetworkError> {
    let mut root = Root::new(image::system_disk());
    for (name, text, mode) in files {
        root.put(&format!("{}/{name}", keyfile::FOLDER), text.as_bytes(), *mode, Default::default()).unwrap();
    }
    keyfile::profiles(&root)
}

fn bare() -> Network {
    let nic = |index: u32| GuestNic { index, mac: format!("28:6E:D4:00:00:0{index}"), port_group: "pg".to_owned() };
    Network::bare(&[nic(1), nic(0)])
}

const HEAD: &str = "[connection]\nid=x\ntype=ethernet\ninterface-name=eth0\n";

#[test]
fn keyfiles_say_what_networkmanager_reads() {
    let text = format!(
        "{HEAD}autoconnect-priority=5\n# comment\n[ethernet]\nmtu=9000\n[ipv4]\nmethod=manual\naddress1=10.0.0.2/24,10.0.0.1\naddress2=10.0.1.2/24\nroute1=10.9.0.0/16,10.0.0.9\ndns=10.0.0.3;10.0.0.4;\n[ipv6]\nmethod=manual\naddress1=fd00::2/64\nnever-default=true\n"
    );
    let other = "[connection]\nid=y\ntype=802-3-ethernet\nautoconnect-priority=9\n[802-3-ethernet]\nmac-address=28:6E:D4:00:00:01\n[ipv4]\nmethod=disabled\n";
    let off = "[connection]\nid=z\ntype=ethernet\nautoconnect=false\n";
    let found = with_keyfiles(&[
        ("a.nmconnection", &text, 0o600),
        ("b.nmconnection", other, 0o600),
        ("c.nmconnection", off, 0o600),
        ("ignored.txt", "x", 0o644),
        (".hidden.nmconnection", "x", 0o600),
    ])
    .unwrap();
    assert_eq!(found.len(), 2, "the higher priority first: {found:?}");
    let mut network = bare();
    for profile in &found {
        assert!(network.bring_up(profile).unwrap().is_some());
    }
    assert!(network.nics[1].is_up && network.nics[1].addresses.is_empty());
    assert_eq!(network.nics[0].mtu, 9000);
    assert_eq!(network.name_servers.len(), 2);
    assert_eq!(
        network.routes(true),
        "default via 10.0.0.1 dev eth0 proto static metric 100\n10.0.0.0/24 dev eth0 proto kernel scope link src 10.0.0.2 metric 100\n10.0.1.0/24 dev eth0 proto kernel scope link src 10.0.1.2 metric 100\n10.9.0.0/16 via 10.0.0.9 dev eth0 proto static metric 100\n"
    );
    assert_eq!(network.default_address(true), Some("10.0.0.2".parse().unwrap()));
    assert_eq!(network.default_address(false), None);
    assert!(network.bring_up(&found[0]).unwrap().is_none(), "a stronger profile has the NIC");
}

#[test]
fn what_is_wrong_with_a_keyfile_is_named() {
    for (text, expected) in [
        ("id=x\n".to_owned(), "line 1 is neither a [section] nor key=value"),
        ("[connection]\nid=x\n".to_owned(), "connection.type is missing"),
        ("[connection]\ntype=wifi\n".to_owned(), "connection.type \"wifi\" is not known to this image; use ethernet"),
        (format!("{HEAD}[wifi]\nssid=x\n"), "section [wifi] is not known to this image"),
        (format!("{HEAD}[ipv4]\nmethode=manual\n"), "[ipv4] has no key methode"),
        (format!("{HEAD}[ipv4]\nmethod=auto\n"), "[ipv4] method=auto: no DHCP server on this network"),
        (format!("{HEAD}[ipv4]\nmethod=manual\n"), "[ipv4] method=manual needs address1"),
        (
            format!("{HEAD}[ipv4]\nmethod=manual\naddress1=10.0.0.300/24\n"),
            "[ipv4] address1: \"10.0.0.300/24\" is no address with a prefix",
        ),
        (
            format!("{HEAD}[ipv4]\nmethod=manual\naddress1=fd00::1/64\n"),
            "[ipv4] address1: \"fd00::1/64\" is no address with a prefix",
        ),
        (
            format!("{HEAD}[ipv4]\nmethod=manual\naddress1=10.0.0.2/24,10.0.0.x\n"),
            "[ipv4] address1: \"10.0.0.x\" is no address of this family",
        ),
        (
            format!("{HEAD}[ipv4]\nmethod=manual\naddress1=10.0.0.2/24\ndns=a\n"),
            "[ipv4] dns: \"a\" is no address of this family",
        ),
    ] {
        let error = with_keyfiles(&[("a.nmconnection", &text, 0o600)]).unwrap_err();
        assert_eq!(error.reason, expected);
        assert!(error.origin.ends_with("/a.nmconnection"));
    }
    let same = |interface: &str| Profile {
        interface: Some(interface.to_owned()),
        addresses: vec!["10.0.0.2/24".parse().unwrap()],
        ..Profile::default()
    };
    let mut network = bare();
    network.bring_up(&same("eth0")).unwrap();
    assert_eq!(network.bring_up(&same("eth1")).unwrap_err().reason, "address 10.0.0.2 is on eth0 already");
}

#[test]
fn what_cloud_init_renders_is_read_back() {
    let profile = Profile {
        interface: Some("eth1".to_owned()),
        mtu: Some(1400),
        addresses: vec!["10.0.0.2/24".parse().unwrap(), "fd00::2/64".parse().unwrap()],
        gateways: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        routes: vec![("10.9.0.0/16".parse().unwrap(), "10.0.0.9".parse().unwrap())],
        name_servers: vec!["10.0.0.3".parse().unwrap(), "fd00::3".parse().unwrap()],
        ..Profile::default()
    };
    let text = keyfile::render(&profile, "eth1");
    let found = with_keyfiles(&[("x.nmconnection", &text, 0o600)]).unwrap();
    assert_eq!(Profile { origin: String::new(), ..found[0].clone() }, profile);
}
