//! Small matters of addresses: as bytes for the cookie, and with the scope a socket needs.

use std::net::{IpAddr, SocketAddr};

/// An address as bytes for the cookie.
pub fn peer_bytes(address: SocketAddr) -> Vec<u8> {
    let mut bytes = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    bytes.extend(address.port().to_be_bytes());
    bytes
}

/// A link-local address needs the interface it was reached by.
pub fn with_scope(mut local: SocketAddr, reached: Option<SocketAddr>) -> SocketAddr {
    if let (SocketAddr::V6(local), Some(SocketAddr::V6(reached))) = (&mut local, reached) {
        local.set_scope_id(reached.scope_id());
    }
    local
}
