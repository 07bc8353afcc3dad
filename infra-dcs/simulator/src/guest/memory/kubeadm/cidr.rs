//! Address ranges: of services, of pods, and the part of a node.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// A range in CIDR notation; the host part is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    first: u128,
    prefix: u8,
    is_ipv4: bool,
}

impl Cidr {
    /// Reads `10.96.0.0/12` or `fd00::/108`; host bits are dropped, as Go does.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.trim().split_once('/')?;
        let (address, prefix): (IpAddr, u8) = (address.parse().ok()?, prefix.parse().ok()?);
        let is_ipv4 = address.is_ipv4();
        let bits: u8 = if is_ipv4 { 32 } else { 128 };
        if prefix > bits {
            return None;
        }
        let value = match address {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        let host = u32::from(bits - prefix);
        let first = value.checked_shr(host).and_then(|net| net.checked_shl(host)).unwrap_or(0);
        Some(Self { first, prefix, is_ipv4 })
    }

    /// Whether it is of IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.is_ipv4
    }

    /// Length of an address of its family.
    pub fn bits(&self) -> u8 {
        if self.is_ipv4 { 32 } else { 128 }
    }

    /// Length of the network part.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Number of addresses; the largest number where it does not fit.
    pub fn size(&self) -> u128 {
        1_u128.checked_shl(u32::from(self.bits() - self.prefix)).unwrap_or(u128::MAX)
    }

    /// The address at an offset; none beyond the end.
    pub fn address(&self, offset: u128) -> Option<IpAddr> {
        let value = self.first.checked_add(offset).filter(|_| offset < self.size())?;
        Some(if self.is_ipv4 {
            IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(value).ok()?))
        } else {
            IpAddr::V6(Ipv6Addr::from_bits(value))
        })
    }

    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let value = match address {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        address.is_ipv4() == self.is_ipv4 && value.checked_sub(self.first).is_some_and(|offset| offset < self.size())
    }

    /// The n-th part of this range with a longer network part.
    pub fn part(&self, prefix: u8, index: u128) -> Option<Self> {
        let host = u32::from(self.bits().checked_sub(prefix)?);
        let offset = index.checked_mul(1_u128.checked_shl(host)?)?;
        if prefix < self.prefix || offset >= self.size() {
            return None;
        }
        Some(Self { first: self.first.checked_add(offset)?, prefix, is_ipv4: self.is_ipv4 })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address(0) {
            Some(address) => write!(formatter, "{address}/{}", self.prefix),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ranges_have_addresses_and_parts() {
        let range = Cidr::parse("10.96.7.0/12").unwrap();
        assert_eq!((range.to_string(), range.size()), ("10.96.0.0/12".to_owned(), 1 << 20));
        assert_eq!(range.address(10).unwrap().to_string(), "10.96.0.10");
        let pods = Cidr::parse("10.244.0.0/16").unwrap();
        assert_eq!(pods.part(24, 3).unwrap().to_string(), "10.244.3.0/24");
        assert_eq!(pods.part(24, 256), None);
        assert_eq!(Cidr::parse("fd00::/48").unwrap().part(64, 1).unwrap().to_string(), "fd00:0:0:1::/64");
        for wrong in ["10.0.0.0", "10.0.0.0/33", "x/8", ""] {
            assert_eq!(Cidr::parse(wrong), None, "{wrong}");
        }
    }
}
