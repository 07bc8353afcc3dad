//! What an environment stands on: the kind of its machines, and where everything listens.

use std::{
    net::{Ipv4Addr, TcpListener},
    ops::Range,
    process,
};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::management;

/// What a machine of the site is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Guests {
    /// A Linux sandbox in which everything is real; needs root
    Sandbox,
    /// A model inside the simulator; needs nothing, and takes seconds
    Memory,
}

/// Ports below those that the kernel gives to outgoing connections: one of ours could take a port that is free now.
const FREE: Range<u16> = 15_000..30_000;
/// Ports of the site: REST, uploads, control.
const SITE: u16 = 3;
/// Ports of four managers.
const MANAGERS: u16 = 4 * PORTS_PER_MANAGER;

/// Webhooks, health, diagnostics.
pub const PORTS_PER_MANAGER: u16 = 3;

/// Where an environment's parts are.
#[derive(Clone, Copy, Debug)]
pub struct Ground {
    /// What machines are.
    pub guests: Guests,
    /// The management cluster.
    pub management: management::Ports,
    /// First of the site's three ports.
    pub site: u16,
    /// First port of the managers, three for each.
    pub managers: u16,
    /// First two octets of every address of the site's network.
    pub network: [u8; 2],
}

impl Ground {
    /// Sandbox guests, for which the run has a network namespace of its own.
    pub const ISOLATED: Self = Self {
        guests: Guests::Sandbox,
        management: management::Ports::USUAL,
        site: 7443,
        managers: 9440,
        network: [10, 77],
    };

    /// Memory guests on free ports of loopback; machines have addresses in a part of 127/8 that is this process's own.
    pub fn loopback() -> Result<Self> {
        let first = free_ports(management::Ports::COUNT + SITE + MANAGERS)?;
        let site = first + management::Ports::COUNT;
        let network = u8::try_from(64 + process::id() % 128)?;
        Ok(Self {
            guests: Guests::Memory,
            management: management::Ports::starting_at(first),
            site,
            managers: site + SITE,
            network: [127, network],
        })
    }

    /// What this machine offers for the guests that are wanted.
    pub fn of(guests: Guests) -> Result<Self> {
        match guests {
            Guests::Sandbox => Ok(Self::ISOLATED),
            Guests::Memory => Self::loopback(),
        }
    }

    /// An address of the site's network by its last two octets.
    pub fn address(&self, third: u8, fourth: u8) -> Ipv4Addr {
        Ipv4Addr::new(self.network[0], self.network[1], third, fourth)
    }

    /// VRM's REST listener, as credential Secrets name it.
    pub fn endpoint(&self) -> String {
        format!("https://127.0.0.1:{}", self.site)
    }
}

/// The first of `count` free ports in a row. Another server may take one before it is used; a run then fails by name.
pub fn free_ports(count: u16) -> Result<u16> {
    // Who starts at the same time begins in another place.
    let first = FREE.start + u16::try_from(process::id() * u32::from(count) % u32::from(FREE.end - FREE.start))?;
    let mut starts = (first..FREE.end).chain(FREE.start..first).step_by(usize::from(count));
    let is_free = |first: &u16| {
        let row: Result<Vec<_>, _> =
            (*first..*first + count).map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port))).collect();
        row.is_ok()
    };
    starts.find(is_free).with_context(|| format!("no {count} free ports in a row on loopback"))
}
