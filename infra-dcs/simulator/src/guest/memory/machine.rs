//! A powered-on machine: what the documents, the shell and kubeadm act on.

use std::{
    fmt::{self, Write as _},
    net::IpAddr,
    sync::Arc,
};

use aws_lc_rs::digest;

use super::{
    clock::GuestClock,
    disk::{self, Block, BlockDevice, Content},
    network::Network,
    root::{Errno, FileSystem, Mount, Root, Volume},
    systemd::Services,
};

/// What is told about a machine while it boots. Calls must not block.
pub trait Observer: Send + Sync {
    /// A line on the console, without control characters.
    fn console(&self, line: &str);
    /// The network is up: host name, and addresses by hardware address of the NIC. From here on guest tools would
    /// answer.
    fn online(&self, hostname: &str, addresses: &[(String, IpAddr)]);
}

/// See the [module](self).
pub struct Machine {
    /// Everything under `/`.
    pub root: Root,
    /// The kernel's host name.
    pub hostname: String,
    /// Disks, the system disk first.
    pub disks: Vec<BlockDevice>,
    /// NICs, addresses, routes, name servers.
    pub network: Network,
    /// What systemd runs.
    pub services: Services,
    /// Time.
    pub clock: Arc<dyn GuestClock>,
    /// Who is told what happens.
    pub observer: Arc<dyn Observer>,
    /// Identities made so far, so that no two are the same.
    made: u64,
}

impl Machine {
    /// A machine with these disks, the first of which holds the system.
    pub fn new(
        system: Volume,
        disks: Vec<BlockDevice>,
        network: Network,
        clock: Arc<dyn GuestClock>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        Self {
            root: Root::new(system),
            hostname: "localhost".to_owned(),
            disks,
            network,
            services: Services::default(),
            clock,
            observer,
            made: 0,
        }
    }

    /// Writes text to the console, line by line.
    pub fn say(&self, text: &str) {
        if text.is_empty() {
            self.observer.console("");
        }
        for line in text.lines() {
            let line: String = line.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect();
            self.observer.console(line.trim_end());
        }
    }

    /// The disk or partition that a path under `/dev`, `LABEL=` or `UUID=` names.
    pub fn block(&self, name: &str) -> Option<Block> {
        let blocks = disk::blocks(&self.disks);
        let with = |test: &dyn Fn(&Volume) -> bool| {
            blocks.iter().find(|block| block.disk.volume().is_some_and(|volume| test(&volume))).cloned()
        };
        let named = |tag: &str, folder: &str| {
            let value = name.strip_prefix(tag).or_else(|| name.strip_prefix(folder))?;
            Some(value.trim_matches('"').to_owned())
        };
        if let Some(label) = named("LABEL=", "/dev/disk/by-label/") {
            return with(&|volume| volume.label() == label);
        }
        if let Some(uuid) = named("UUID=", "/dev/disk/by-uuid/") {
            return with(&|volume| volume.uuid() == uuid);
        }
        if let Some(label) = named("PARTLABEL=", "/dev/disk/by-partlabel/") {
            let found = self.disks.iter().find_map(|device| {
                let Content::Partitioned(table) = device.disk.content() else { return None };
                let partition = table.partitions.iter().find(|partition| partition.label == label)?;
                Some(format!("{}{}", device.name, partition.number))
            })?;
            return blocks.into_iter().find(|block| block.name == found);
        }
        let path = self.root.canonical(name).ok()?;
        let name = path.strip_prefix("/dev/")?;
        blocks.into_iter().find(|block| block.name == name)
    }

    /// Shows every disk and partition under `/dev`, as udev does when something about them has changed.
    pub fn settle_devices(&mut self) -> Result<(), Errno> {
        let blocks = disk::blocks(&self.disks);
        for name in self.root.list("/dev")? {
            let path = format!("/dev/{name}");
            let is_block = self.root.link_metadata(&path)?.kind == super::root::Kind::Block;
            if is_block && !blocks.iter().any(|block| block.name == name) {
                self.root.remove_file(&path)?;
            }
        }
        for block in blocks {
            let path = format!("/dev/{}", block.name);
            if !self.root.exists(&path) {
                self.root.block_device(&path, block.numbers.0, block.numbers.1)?;
            }
        }
        Ok(())
    }

    /// Puts a new file system on a disk or partition and gives it a UUID.
    pub fn format(&mut self, block: &Block, kind: &str, label: &str, uuid: Option<&str>) -> Volume {
        let uuid = uuid.map_or_else(|| self.new_uuid(&block.name), str::to_owned);
        let volume = Volume::new(FileSystem::new(kind, uuid, label));
        block.disk.set(Content::FileSystem(volume.clone()));
        volume
    }

    /// Mounts the file system of a disk or partition.
    pub fn mount(&mut self, block: &Block, path: &str, options: &str) -> Result<(), Errno> {
        let volume = block.disk.volume().ok_or(Errno::Invalid)?;
        self.root.mount(Mount {
            path: path.to_owned(),
            source: format!("/dev/{}", block.name),
            options: if options.is_empty() { "rw,relatime".to_owned() } else { options.to_owned() },
            device: Some(block.numbers),
            volume,
        })
    }

    /// Where a disk or partition is mounted.
    pub fn mounts_of(&self, block: &Block) -> Vec<&Mount> {
        self.root.mounts().iter().filter(|mount| mount.device == Some(block.numbers)).collect()
    }

    /// A UUID that no other call of any machine gives: of the name of what it is for, this machine's disks and the time.
    pub fn new_uuid(&mut self, name: &str) -> String {
        self.made += 1;
        let mut seed = format!("{name}/{}/{}", self.clock.now(), self.made);
        for device in &self.disks {
            let _ = write!(seed, "/{}", device.serial);
        }
        for nic in &self.network.nics {
            let _ = write!(seed, "/{}", nic.mac);
        }
        let hash = digest::digest(&digest::SHA256, seed.as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.as_ref()[..16]);
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("hostname", &self.hostname).finish_non_exhaustive()
    }
}
