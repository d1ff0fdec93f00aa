//! Who may send in open mode (proto.md, "Security considerations").

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use crate::io::socket::on_link;

/// Whether `address` may send: loopback, private, link-local, unique-local, on one of our links,
/// or allowed by name.
pub fn may_send(address: IpAddr, allowed: &[IpNet]) -> bool {
    let address = address.to_canonical();
    is_local(address)
        || allowed.iter().any(|network| network.contains(&address))
        // If the interfaces cannot be listed, nobody is known to be on link.
        || on_link(address).unwrap_or(false)
}

fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            address.is_loopback() || address.is_private() || address.is_link_local()
        }
        IpAddr::V6(address) => {
            address.is_loopback() || is_unicast_link_local(address) || is_unique_local(address)
        }
    }
}

/// fe80::/10.
fn is_unicast_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

/// fc00::/7.
fn is_unique_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xfe00 == 0xfc00
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_local_networks_may_send_unless_more_is_allowed() {
        let local = ["127.0.0.1", "10.1.2.3", "192.168.0.9", "172.16.0.1", "169.254.1.1", "::1"];
        for address in local.into_iter().chain(["fe80::1", "fd00::1", "::ffff:10.0.0.1"]) {
            assert!(may_send(address.parse().unwrap(), &[]), "{address}");
        }
        let stranger = "203.0.113.7".parse().unwrap();
        assert!(!may_send(stranger, &[]));
        assert!(!may_send("2001:db8::1".parse().unwrap(), &[]));
        assert!(may_send(stranger, &["203.0.113.0/24".parse().unwrap()]));
        assert!(!may_send(stranger, &["198.51.100.0/24".parse().unwrap()]));
    }
}
