//! Programs that look at, format and mount disks.

use super::{Context, Exit, Flags, ended};
use crate::guest::memory::{
    disk::{Block, Content, blocks},
    machine::Machine,
    root::{Mount, Volume},
};

/// File systems that the image can make, each with the options of its mkfs that take a value.
const MKFS: [(&str, &str); 5] = [
    ("xfs", "bdiLlmnprs"),
    ("ext4", "bCdEgGiIJLmMNoOrTU"),
    ("ext3", "bCdEgGiIJLmMNoOrTU"),
    ("btrfs", "LmdnsU"),
    ("vfat", "nFisS"),
];
/// File systems of the kernel, mounted by their name.
const KERNEL: [&str; 9] = ["tmpfs", "proc", "sysfs", "devtmpfs", "cgroup2", "bpf", "debugfs", "securityfs", "overlay"];

impl Context<'_> {
    fn block(&self, name: &str) -> Option<Block> {
        let is_tag = name.contains('=') && !name.starts_with('/');
        self.machine.block(&if is_tag { name.to_owned() } else { self.path(name) })
    }
}

/// Mounts as `mount` does; the message of what is wrong.
pub(in crate::guest::memory) fn mount_one(
    machine: &mut Machine,
    source: &str,
    place: &str,
    kind: Option<&str>,
    options: &str,
) -> Result<(), String> {
    let root = &mut machine.root;
    if !root.exists(place) {
        return Err(format!("{place}: mount point does not exist."));
    }
    if !root.is_directory(place) {
        return Err(format!("{place}: mount point is not a directory."));
    }
    let words: Vec<&str> = options.split(',').collect();
    if words.contains(&"bind") || words.contains(&"rbind") {
        return Err(format!("{place}: bind mounts are not played by this image."));
    }
    if words.contains(&"remount") {
        return if root.mounted_at(place).is_some() {
            Ok(())
        } else {
            Err(format!("{place}: mount point not mounted."))
        };
    }
    if kind.is_some_and(|kind| KERNEL.contains(&kind)) {
        let mount = Mount {
            path: place.to_owned(),
            source: source.to_owned(),
            options: options.to_owned(),
            device: None,
            volume: Volume::memory(),
        };
        return root.mount(mount).map_err(|error| format!("{place}: {error}"));
    }
    let Some(block) = machine.block(source) else {
        return Err(if source.contains('=') {
            format!("{place}: can't find {source}.")
        } else {
            format!("{place}: special device {source} does not exist.")
        });
    };
    let Some(volume) = block.disk.volume() else {
        return Err(format!(
            "{place}: wrong fs type, bad option, bad superblock on {source}, missing codepage or helper program, or other error."
        ));
    };
    if kind.is_some_and(|kind| kind != "auto" && kind != volume.kind()) {
        return Err(format!(
            "{place}: wrong fs type, bad option, bad superblock on {source} (it is {}).",
            volume.kind()
        ));
    }
    if machine.root.mounted_at(place).is_some_and(|mount| mount.device == Some(block.numbers)) {
        return Err(format!("{place}: {source} already mounted on {place}."));
    }
    machine
        .mount(&block, place, options.trim_start_matches("defaults").trim_start_matches(','))
        .map_err(|error| format!("{place}: {error}"))
}

/// Lines of `/etc/fstab`: device, place, type, options.
pub(in crate::guest::memory) fn fstab(machine: &Machine) -> Vec<[String; 4]> {
    let text = machine.root.read_text("/etc/fstab").unwrap_or_default();
    text.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut fields = line.split_whitespace().map(str::to_owned);
            let (device, place) = (fields.next()?, fields.next()?);
            let kind = fields.next().unwrap_or_else(|| "auto".to_owned());
            Some([device, place, kind, fields.next().unwrap_or_else(|| "defaults".to_owned())])
        })
        .collect()
}

/// Mounts what `/etc/fstab` names and is not mounted yet; what could not be.
pub(in crate::guest::memory) fn mount_all(machine: &mut Machine) -> Vec<String> {
    let mut failed = Vec::new();
    for [device, place, kind, options] in fstab(machine) {
        let skip = options.split(',').any(|option| option == "noauto") || kind == "swap" || place == "none";
        if skip || place == "/" || machine.root.mounted_at(&place).is_some() {
            continue;
        }
        // systemd makes mount points that are missing.
        let made = machine.root.make_directories(&place).map_err(|error| format!("{place}: {error}"));
        let done = made.and_then(|()| mount_one(machine, &device, &place, Some(&kind), &options));
        if let Err(reason) = done
            && !options.split(',').any(|option| option == "nofail")
        {
            failed.push(reason);
        }
    }
    failed
}

pub(super) fn mount(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let long =
            [("all", 'a'), ("types", 't'), ("options", 'o'), ("bind", 'B'), ("read-only", 'r'), ("make-rprivate", 'P')];
        let flags = Flags::parse(context, "aBrwvnP", "toLU", &long)?;
        let mut options = flags.values('o').join(",");
        if flags.has('a') {
            let failed = mount_all(context.machine);
            let mut exit = Exit::default();
            for reason in failed {
                exit.complain(32, format!("mount: {reason}"));
            }
            return Ok(exit);
        }
        let source = flags.value('L').map(|label| format!("LABEL={label}"));
        let source = source.or_else(|| flags.value('U').map(|uuid| format!("UUID={uuid}")));
        let mut operands = flags.operands.clone();
        if let Some(source) = source {
            operands.insert(0, source);
        }
        if flags.has('B') {
            options.push_str(",bind");
        }
        let kind = flags.value('t').map(str::to_owned);
        let (source, place, kind) = match operands.as_slice() {
            [] => {
                let mut exit = Exit::default();
                for mount in context.machine.root.mounts() {
                    exit.print(format!(
                        "{} on {} type {} ({})\n",
                        mount.source,
                        mount.path,
                        mount.volume.kind(),
                        mount.options
                    ));
                }
                return Ok(exit);
            }
            [one] => {
                let known =
                    fstab(context.machine).into_iter().find(|[device, place, ..]| device == one || place == one);
                let Some([device, place, kind, listed]) = known else {
                    return Err(Exit::fail(1, format!("mount: {one}: can't find in /etc/fstab.")));
                };
                options = listed;
                (device, place, Some(kind))
            }
            [source, place] => (source.clone(), context.path(place), kind),
            _ => return Err(context.fail(1, "bad usage")),
        };
        let source = if source.starts_with('/') || source.contains('=') || kind.is_some() {
            source
        } else {
            context.path(&source)
        };
        match mount_one(context.machine, &source, &place, kind.as_deref(), &options) {
            Ok(()) => Ok(Exit::default()),
            Err(reason) => Err(Exit::fail(32, format!("mount: {reason}"))),
        }
    })())
}

pub(super) fn umount(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let flags = Flags::parse(context, "flRrn", "", &[("lazy", 'l'), ("force", 'f')])?;
        let mut exit = Exit::default();
        for name in &flags.operands {
            let path = context.path(name);
            let place = match context.block(name) {
                Some(block) => context.machine.mounts_of(&block).last().map(|mount| mount.path.clone()),
                None => context.machine.root.mounted_at(&path).map(|mount| mount.path.clone()),
            };
            let Some(place) = place else {
                exit.complain(32, format!("umount: {name}: not mounted."));
                continue;
            };
            if let Err(error) = context.machine.root.unmount(&place) {
                exit.complain(32, format!("umount: {name}: {error}."));
            }
        }
        Ok(exit)
    })())
}

pub(super) fn mountpoint(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let flags = Flags::parse(context, "qdx", "", &[("quiet", 'q')])?;
        let Some(name) = flags.operands.first() else { return Err(context.fail(1, "bad usage")) };
        let is_one = context.machine.root.mounted_at(&context.path(name)).is_some();
        let mut exit = Exit::code(if is_one { 0 } else { 32 });
        if !flags.has('q') {
            exit.print(format!("{name} is {}a mountpoint\n", if is_one { "" } else { "not " }));
        }
        Ok(exit)
    })())
}

pub(super) fn findmnt(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let long = [
            ("noheadings", 'n'),
            ("output", 'o'),
            ("mountpoint", 'M'),
            ("target", 'T'),
            ("source", 'S'),
            ("types", 't'),
            ("raw", 'r'),
            ("first-only", 'f'),
        ];
        let flags = Flags::parse(context, "nrflvu", "oMTSt", &long)?;
        let columns = flags.value('o').unwrap_or("TARGET,SOURCE,FSTYPE,OPTIONS").to_ascii_uppercase();
        let root = &context.machine.root;
        let source = flags.value('S').map(|name| context.block(name).map(|block| block.numbers));
        let place = flags.value('M').or(flags.operands.first().map(String::as_str));
        let place = place.map(|place| context.path(place));
        let lies_on = flags.value('T').map(|path| root.mount_of(&context.path(path)).map(|mount| mount.path.clone()));
        let mut lines = Vec::new();
        for mount in root.mounts() {
            let fits = place.as_ref().is_none_or(|place| root.canonical(place).is_ok_and(|place| place == mount.path))
                && source.is_none_or(|numbers| numbers.is_some() && numbers == mount.device)
                && lies_on.as_ref().is_none_or(|place| place.as_ref().is_ok_and(|place| *place == mount.path))
                && flags.value('t').is_none_or(|kind| kind == mount.volume.kind());
            if !fits {
                continue;
            }
            let mut fields = Vec::new();
            for column in columns.split(',') {
                fields.push(match column {
                    "TARGET" => mount.path.clone(),
                    "SOURCE" => mount.source.clone(),
                    "FSTYPE" => mount.volume.kind(),
                    "OPTIONS" => mount.options.clone(),
                    "UUID" => mount.volume.uuid(),
                    "LABEL" => mount.volume.label(),
                    "MAJ:MIN" => {
                        let (major, minor) = mount.device.unwrap_or((0, 1));
                        format!("{major}:{minor}")
                    }
                    _ => return Err(context.fail(1, format!("unknown column: {column}"))),
                });
            }
            lines.push(fields.join(" "));
        }
        if lines.is_empty() {
            return Err(Exit::code(1));
        }
        if !flags.has('n') {
            lines.insert(0, columns.replace(',', " "));
        }
        Ok(Exit::ok(lines.join("\n") + "\n"))
    })())
}

/// Tags of what is on a disk or partition, as `blkid` names them.
fn tags(block: &Block) -> Vec<(&'static str, String)> {
    match block.disk.content() {
        Content::Blank => Vec::new(),
        Content::FileSystem(volume) => {
            let mut tags = Vec::new();
            if !volume.label().is_empty() {
                tags.push(("LABEL", volume.label()));
            }
            tags.extend([("UUID", volume.uuid()), ("TYPE", volume.kind()), ("USAGE", "filesystem".to_owned())]);
            tags
        }
        Content::Swap(uuid) => vec![("UUID", uuid), ("TYPE", "swap".to_owned()), ("USAGE", "other".to_owned())],
        Content::Partitioned(table) => vec![("PTTYPE", table.kind.name().to_owned())],
    }
}

pub(super) fn blkid(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let long =
            [("probe", 'p'), ("output", 'o'), ("match-tag", 's'), ("label", 'L'), ("uuid", 'U'), ("match-token", 't')];
        let flags = Flags::parse(context, "pidgl", "osLUtcw", &long)?;
        let found: Vec<Block> = if let Some(label) = flags.value('L') {
            context.block(&format!("LABEL={label}")).into_iter().collect()
        } else if let Some(uuid) = flags.value('U') {
            context.block(&format!("UUID={uuid}")).into_iter().collect()
        } else if let Some(token) = flags.value('t') {
            context.block(token).into_iter().collect()
        } else if flags.operands.is_empty() {
            blocks(&context.machine.disks)
        } else {
            let mut found = Vec::new();
            for name in &flags.operands {
                match context.block(name) {
                    Some(block) => found.push(block),
                    None if flags.has('p') => {
                        return Err(context.fail(2, format!("error: {name}: No such file or directory")));
                    }
                    None => {}
                }
            }
            found
        };
        if flags.has('L') || flags.has('U') {
            return Ok(found.first().map_or_else(|| Exit::code(2), |block| Exit::ok(format!("/dev/{}\n", block.name))));
        }
        let wanted = flags.values('s');
        let mut exit = Exit::code(2);
        for block in found {
            let tags: Vec<_> = tags(&block)
                .into_iter()
                .filter(|(name, _)| wanted.is_empty() && *name != "USAGE" || wanted.iter().any(|wanted| wanted == name))
                .collect();
            if tags.is_empty() {
                continue;
            }
            exit.code = 0;
            match flags.value('o') {
                Some("value") => tags.iter().for_each(|(_, value)| exit.print(format!("{value}\n"))),
                Some("device") => exit.print(format!("/dev/{}\n", block.name)),
                Some("export") => {
                    exit.print(format!("DEVNAME=/dev/{}\n", block.name));
                    for (name, value) in &tags {
                        exit.print(format!("{name}={value}\n"));
                    }
                }
                _ => {
                    let tags: Vec<_> = tags.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
                    exit.print(format!("/dev/{}: {}\n", block.name, tags.join(" ")));
                }
            }
        }
        Ok(exit)
    })())
}

pub(super) fn lsblk(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let long = [
            ("noheadings", 'n'),
            ("output", 'o'),
            ("bytes", 'b'),
            ("nodeps", 'd'),
            ("paths", 'p'),
            ("list", 'l'),
            ("raw", 'r'),
            ("fs", 'f'),
        ];
        let flags = Flags::parse(context, "nbdplrf", "o", &long)?;
        let columns = flags.value('o').unwrap_or("NAME,MAJ:MIN,SIZE,TYPE,MOUNTPOINTS").to_ascii_uppercase();
        let wanted: Vec<_> = flags.operands.iter().map(|name| context.block(name).map(|block| block.name)).collect();
        if let Some(at) = wanted.iter().position(Option::is_none) {
            return Err(context.fail(32, format!("{}: not a block device", flags.operands[at])));
        }
        let mut lines = Vec::new();
        for block in blocks(&context.machine.disks) {
            let named = |name: &String| wanted.iter().flatten().any(|wanted| wanted == name);
            let fits = wanted.is_empty()
                || named(&block.name)
                || (!flags.has('d') && block.parent.as_ref().is_some_and(named));
            if !fits || (flags.has('d') && wanted.is_empty() && block.parent.is_some()) {
                continue;
            }
            let volume = block.disk.volume();
            let device = context.machine.disks.iter().find(|device| device.name == block.name);
            let mut fields = Vec::new();
            for column in columns.split(',') {
                fields.push(match column {
                    "NAME" | "KNAME" if flags.has('p') => format!("/dev/{}", block.name),
                    "NAME" | "KNAME" => block.name.clone(),
                    "PATH" => format!("/dev/{}", block.name),
                    "MAJ:MIN" => format!("{}:{}", block.numbers.0, block.numbers.1),
                    "SIZE" if flags.has('b') => block.size_bytes.to_string(),
                    "SIZE" => format!("{}G", block.size_bytes >> 30),
                    "TYPE" => if block.parent.is_some() { "part" } else { "disk" }.to_owned(),
                    "FSTYPE" => volume.as_ref().map(Volume::kind).unwrap_or_default(),
                    "UUID" => volume.as_ref().map(Volume::uuid).unwrap_or_default(),
                    "LABEL" => volume.as_ref().map(Volume::label).unwrap_or_default(),
                    "SERIAL" => device.map(|device| device.serial.clone()).unwrap_or_default(),
                    "PKNAME" => block.parent.clone().unwrap_or_default(),
                    "MOUNTPOINT" | "MOUNTPOINTS" => {
                        context.machine.mounts_of(&block).last().map(|mount| mount.path.clone()).unwrap_or_default()
                    }
                    _ => return Err(context.fail(1, format!("unknown column: {column}"))),
                });
            }
            lines.push(fields.join(" ").trim_end().to_owned());
        }
        if !flags.has('n') {
            lines.insert(0, columns.replace(',', " "));
        }
        Ok(Exit::ok(lines.join("\n") + "\n"))
    })())
}

pub(super) fn wipefs(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let flags =
            Flags::parse(context, "aqfn", "t", &[("all", 'a'), ("quiet", 'q'), ("force", 'f'), ("no-act", 'n')])?;
        let mut exit = Exit::default();
        for name in &flags.operands {
            let Some(block) = context.block(name) else {
                exit.complain(
                    1,
                    format!("wipefs: error: {name}: probing initialization failed: No such file or directory"),
                );
                continue;
            };
            if !flags.has('a') {
                for (tag, value) in tags(&block) {
                    exit.print(format!("{name} {tag}={value}\n"));
                }
                continue;
            }
            if !context.machine.mounts_of(&block).is_empty() && !flags.has('f') || block.name == "vda" {
                exit.complain(
                    1,
                    format!("wipefs: error: {name}: probing initialization failed: Device or resource busy"),
                );
            } else if !flags.has('n') {
                block.disk.set(Content::Blank);
            }
        }
        settle(context, exit)
    })())
}

fn settle(context: &mut Context<'_>, exit: Exit) -> Result<Exit, Exit> {
    match context.machine.settle_devices() {
        Ok(()) => Ok(exit),
        Err(error) => Err(context.fail(1, error)),
    }
}

pub(super) fn blockdev(context: &mut Context<'_>) -> Exit {
    let [question, name] = context.args else { return context.fail(1, "bad usage") };
    let Some(block) = context.block(name) else {
        return context.fail(1, format!("cannot open {name}: No such file or directory"));
    };
    match question.as_str() {
        "--getsize64" => Exit::ok(format!("{}\n", block.size_bytes)),
        "--getsz" => Exit::ok(format!("{}\n", block.size_bytes / 512)),
        "--getss" | "--getpbsz" => Exit::ok("512\n"),
        "--rereadpt" => Exit::default(),
        _ => context.fail(1, format!("unrecognized option '{question}'")),
    }
}

pub(super) fn mkswap(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let flags = Flags::parse(context, "fv", "LUp", &[("label", 'L'), ("force", 'f')])?;
        let Some(name) = flags.operands.first() else { return Err(context.fail(1, "bad usage")) };
        let Some(block) = context.block(name) else {
            return Err(context.fail(1, format!("cannot open {name}: No such file or directory")));
        };
        if !context.machine.mounts_of(&block).is_empty() {
            return Err(context.fail(1, format!("error: {name} is mounted; will not make swapspace")));
        }
        let uuid = context.machine.new_uuid(&block.name);
        block.disk.set(Content::Swap(uuid));
        settle(context, Exit::default())
    })())
}

pub(super) fn mkfs(context: &mut Context<'_>) -> Exit {
    ended((|| {
        let mut args = context.args.to_vec();
        let mut kind = context.name.strip_prefix("mkfs.").unwrap_or("ext2").to_owned();
        if let Some(at) = args.iter().position(|arg| arg == "-t").filter(|_| context.name == "mkfs") {
            args.remove(at);
            kind = if at < args.len() { args.remove(at) } else { String::new() };
        }
        let name = format!("mkfs.{kind}");
        let Some((_, valued)) = MKFS.iter().find(|(known, _)| *known == kind) else {
            return Err(Exit::fail(127, format!("{name}: command not found")));
        };
        let inner = Context {
            name: &name,
            args: &args,
            machine: &mut *context.machine,
            stdin: context.stdin.clone(),
            ..*context
        };
        let plain: String = ('A'..='Z').chain('a'..='z').filter(|letter| !valued.contains(*letter)).collect();
        let flags = Flags::parse(&inner, &plain, valued, &[])?;
        let [device, ..] = flags.operands.as_slice() else { return Err(inner.fail(1, "no device name given")) };
        let Some(block) = inner.block(device) else {
            return Err(inner.fail(1, format!("Error accessing specified device {device}: No such file or directory")));
        };
        if !inner.machine.mounts_of(&block).is_empty() || block.name == "vda" {
            return Err(inner.fail(1, format!("{device} contains a mounted filesystem")));
        }
        let force = match kind.as_str() {
            "ext4" | "ext3" => flags.has('F'),
            "vfat" => true,
            _ => flags.has('f'),
        };
        let present = tags(&block).into_iter().find(|(tag, _)| matches!(*tag, "TYPE" | "PTTYPE"));
        if let Some((_, what)) = present.filter(|_| !force) {
            return Err(inner.fail(
                1,
                format!(
                    "{device} appears to contain an existing filesystem ({what}). Use the -f option to force overwrite."
                ),
            ));
        }
        let label = flags.value(if kind == "vfat" { 'n' } else { 'L' }).unwrap_or_default().to_owned();
        let longest = if kind == "xfs" { 12 } else { 16 };
        if label.len() > longest {
            return Err(inner.fail(1, format!("label {label:?} is too long: at most {longest} characters")));
        }
        context.machine.format(&block, &kind, &label, None);
        settle(context, Exit::default())
    })())
}
