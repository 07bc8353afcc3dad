use super::{start::command_line, *};
use crate::guest::memory::image;

fn root() -> Root {
    Root::new(image::system_disk())
}

fn put(root: &mut Root, name: &str, text: &str) {
    root.put(&format!("/etc/systemd/system/{name}"), text.as_bytes(), 0o644, Default::default()).unwrap();
}

#[test]
fn units_are_read_with_their_drop_ins() {
    let mut root = root();
    put(
        &mut root,
        "a.service",
        "[Unit]\nDescription=A\nAfter=x.service \\\n  y.service\n[Service]\nType=oneshot\nExecStart=-/bin/echo \"one two\" 'it''s' a\\x20b $V ${V}\nEnvironment=\"A=1 2\" B=3\n[Install]\nWantedBy=multi-user.target\n",
    );
    put(
        &mut root,
        "a.service.d/20.conf",
        "[Service]\nExecStart=\nExecStart=/bin/true\n[Unit]\nAfter=\nAfter=z.service\n",
    );
    let unit = load(&root, "a.service").unwrap().unwrap();
    assert_eq!(unit.after, ["z.service"]);
    assert_eq!(unit.service.exec_start[0].argv, ["/bin/true"]);
    assert_eq!(unit.service.environment, [("A".to_owned(), "1 2".to_owned()), ("B".to_owned(), "3".to_owned())]);
    root.remove_file("/etc/systemd/system/a.service.d/20.conf").unwrap();
    let unit = load(&root, "a.service").unwrap().unwrap();
    assert_eq!(unit.after, ["x.service", "y.service"]);
    let variables = BTreeMap::from([("V".to_owned(), "v w".to_owned())]);
    let line = command_line(&unit.service.exec_start[0], &unit, "h", &variables);
    assert!(line.may_fail);
    assert_eq!(line.argv, ["/bin/echo", "one two", "its", "a b", "v", "w", "v w"]);
    let kubelet = load(&root, "kubelet.service").unwrap().unwrap();
    assert_eq!(kubelet.service.exec_start.len(), 1, "the drop-in replaces it");
}

#[test]
fn what_is_wrong_with_a_unit_is_named() {
    for (name, text, expected) in [
        ("a.service", "x=1\n", "a.service:1: Assignment outside of section."),
        ("a.service", "[Unit]\nDescrption=x\n", "a.service:2: Unknown key 'Descrption' in section [Unit]"),
        ("a.service", "[Servce]\nType=x\n", "a.service:2: Unknown section 'Servce'"),
        ("a.service", "[Unit]\nConditionPathExist=/x\n", "a.service:2: Unknown condition 'PathExist'"),
        (
            "a.service",
            "[Service]\nExecStart=bin/x\n",
            "a.service:2: Neither a valid executable name nor an absolute path: bin/x",
        ),
        ("a.service", "[Service]\nExecStart=/bin/x \"a\n", "a.service:2: a quote is not closed"),
        ("a.service", "[Service]\nType=onshot\nExecStart=/bin/x\n", "Failed to parse service type: onshot"),
        ("a.service", "[Service]\nType=simple\n", "Service has no ExecStart= setting. Refusing."),
        (
            "a.service",
            "[Service]\nExecStart=/bin/a\nExecStart=/bin/b\n",
            "Service has more than one ExecStart= setting",
        ),
        (
            "srv-x.mount",
            "[Mount]\nWhat=/dev/vdb\nWhere=/srv/y\n",
            "Where= setting (/srv/y) doesn't match unit name. Refusing.",
        ),
        ("srv-x.mount", "[Mount]\nWhere=/srv/x\n", "What= or Where= setting is missing. Refusing."),
    ] {
        let error = unit::parse(name, &[(name.to_owned(), text.to_owned())]).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}\nexpected: {expected}");
    }
    for (path, name) in [("/", "-"), ("/var/lib/etcd", "var-lib-etcd"), ("/a-b_c.d", "a\\x2db_c.d"), ("/.h", "\\x2eh")]
    {
        assert_eq!(unit::escape_path(path), name);
    }
}

#[test]
fn enabling_links_and_presets_decide_once() {
    let mut root = root();
    put(
        &mut root,
        "a.service",
        "[Service]\nExecStart=/bin/a\n[Install]\nWantedBy=multi-user.target\nAlias=b.service\n",
    );
    let presets =
        b"# first line wins\nenable a.service\ndisable a.service\nenable none.service\ndisable sshd.service\n";
    root.put("/etc/systemd/system-preset/20.preset", presets.as_slice(), 0o644, Default::default()).unwrap();
    assert_eq!(preset_all(&mut root).unwrap(), ["none.service"]);
    let wanted = wanted_by(&root, "multi-user.target");
    assert!(wanted.contains(&"a.service".to_owned()) && !wanted.contains(&"sshd.service".to_owned()), "{wanted:?}");
    assert!(root.is_file("/etc/systemd/system/b.service"));
    disable(&mut root, "a.service");
    assert!(!wanted_by(&root, "multi-user.target").contains(&"a.service".to_owned()));
    root.symlink("/dev/null", "/etc/systemd/system/sshd.service").unwrap();
    assert!(is_masked(&root, "sshd.service") && load(&root, "sshd.service").unwrap().is_none());
    assert_eq!(enable(&mut root, "none.service").unwrap_err().reason, "Unit file none.service does not exist.");
}

#[test]
fn what_a_service_wants_around_it_is_made_or_refused() {
    let service = |lines: &str| {
        let text = format!("[Service]\nExecStart=/bin/true\n{lines}\n");
        unit::parse("a.service", &[("a.service".to_owned(), text)]).map(|unit| unit.service)
    };
    let mut root = root();
    let wanted = service("RuntimeDirectory=a a/b\nStateDirectory=c\nUser=root").unwrap();
    start::make_directories(&wanted, &mut root).unwrap();
    assert!(["/run/a/b", "/var/lib/c"].iter().all(|path| root.is_directory(path)));
    for (line, expected) in [
        ("User=app", "User=app is not modelled: services run as root here"),
        ("ExecCondition=/bin/false", "ExecCondition= is not modelled; remove it"),
    ] {
        assert_eq!(service(line).unwrap_err().reason, expected);
    }
}
