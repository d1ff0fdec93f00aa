//! Where to send: HOST as typed becomes a list of addresses to try. What belongs to later forms
//! of a destination (`user@host:dir`, `ufx://`) or to other programs (`host:9000`) is told apart
//! here, with the way to say it instead.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs, UdpSocket};

use super::exit::Failure;
use super::output;
use crate::io::report::Outcome;

/// A host that was named on the command line, not looked up yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address; the scope is an interface's index, 0 for none.
    Address {
        /// The address itself.
        address: IpAddr,
        /// The interface that a link-local address belongs to.
        scope: u32,
    },
    /// A name for the resolver.
    Name(String),
}

impl Host {
    /// Understands HOST as typed.
    ///
    /// # Errors
    /// Whatever is no host, with the form that it should have had.
    pub fn parse(typed: &OsStr) -> Result<Host, Failure> {
        let shown = output::escape_name(typed.as_encoded_bytes());
        let refuse = |why: &str| Failure::usage(shown.clone(), why);
        let Some(text) = typed.to_str() else {
            return Err(refuse("is not a host").advise("a host is a name or an address"));
        };
        if text.is_empty() {
            return Err(Failure::usage("", "the HOST is empty").advise("give a name or an address"));
        }
        if text.to_ascii_lowercase().starts_with("ufx://") {
            return Err(refuse("ufx:// addresses are not built yet").advise("give the host alone"));
        }
        if let Some(host) = parse_bracketed(text, &refuse) {
            return host;
        }
        if let Some(host) = parse_address(text, &refuse) {
            return host;
        }
        if let Some((host, rest)) = text.split_once(':') {
            return Err(refuse_colon(host, rest, &refuse));
        }
        if text.contains('@') {
            return Err(refuse("users are not built yet").advise("give the host alone"));
        }
        let fits = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        if text.starts_with('-') || text.len() > 253 || !text.chars().all(fits) {
            return Err(refuse("is not a host").advise("HOST comes last: ufx send PATH... HOST"));
        }
        Ok(Host::Name(text.to_owned()))
    }

    /// All addresses of the host, in the resolver's order, each once, with `port`.
    /// May wait for the network.
    ///
    /// # Errors
    /// The name does not resolve.
    pub fn resolve(&self, port: u16) -> Result<Vec<SocketAddr>, Failure> {
        let name = match self {
            Host::Address { address, scope } => {
                return Ok(vec![socket_address(*address, *scope, port)]);
            }
            Host::Name(name) => name,
        };
        let refuse = |why: String| {
            Failure::new(Outcome::Unreachable, name.clone(), why)
                .advise("check the name, or give the address")
        };
        let resolved = (name.as_str(), port)
            .to_socket_addrs()
            .map_err(|error| refuse(format!("the name cannot be looked up: {error}")))?;
        let mut addresses = Vec::new();
        for address in resolved {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            return Err(refuse("the name has no address".to_owned()));
        }
        Ok(addresses)
    }
}

/// Understands ADDRESS or `[V6]`, either with `%INTERFACE`, as an address to listen on.
///
/// # Errors
/// What is no address, or an interface that is not there.
pub fn parse_bind(text: &str, port: u16) -> Result<SocketAddr, Failure> {
    let refuse = |why: &str| {
        let typed = output::escape_name(text.as_bytes());
        Failure::usage("--bind", format!("{typed}: {why}"))
    };
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let (address, scope) = split_scope(inner, &refuse)?;
    let address = address.parse().map_err(|_| {
        refuse("is not an address").advise("give one of this machine, as in 10.0.0.1")
    })?;
    Ok(socket_address(address, scope, port))
}

fn socket_address(address: IpAddr, scope: u32, port: u16) -> SocketAddr {
    match address {
        IpAddr::V4(address) => SocketAddr::from((address, port)),
        IpAddr::V6(address) => SocketAddr::V6(SocketAddrV6::new(address, port, 0, scope)),
    }
}

/// `[V6]`, and what people put behind the bracket. None where there is no bracket.
fn parse_bracketed(text: &str, refuse: &dyn Fn(&str) -> Failure) -> Option<Result<Host, Failure>> {
    let (inner, rest) = text.strip_prefix('[')?.split_once(']')?;
    if let Some(rest) = rest.strip_prefix(':') {
        return Some(Err(refuse_colon(inner, rest, refuse)));
    }
    let host = parse_address(inner, refuse).filter(|_| rest.is_empty() && inner.contains(':'));
    Some(host.unwrap_or_else(|| {
        Err(refuse("is not an address").advise("brackets hold an IPv6 address, as in [fd00::1]"))
    }))
}

/// A bare address. None where the text is something else.
fn parse_address(text: &str, refuse: &dyn Fn(&str) -> Failure) -> Option<Result<Host, Failure>> {
    let plain = text.split_once('%').map_or(text, |(address, _)| address);
    let address: IpAddr = plain.parse().ok()?;
    Some(split_scope(text, refuse).and_then(|(_, scope)| check_address(address, scope, refuse)))
}

/// Refuses addresses that cannot be one receiver's.
fn check_address(
    address: IpAddr,
    scope: u32,
    refuse: &dyn Fn(&str) -> Failure,
) -> Result<Host, Failure> {
    if address.is_unspecified() {
        return Err(
            refuse("stands for no host in particular").advise("for this machine: localhost")
        );
    }
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    if address.is_multicast() || broadcast {
        return Err(refuse("stands for many hosts").advise("give the address of one"));
    }
    if let IpAddr::V6(v6) = address
        && v6.is_unicast_link_local()
        && scope == 0
    {
        let example = format!("name it, as in {v6}%eth0");
        return Err(refuse("a link-local address needs its interface").advise(example));
    }
    Ok(Host::Address { address, scope })
}

/// Takes `%INTERFACE` off an IPv6 address and returns what is before it with the interface's index.
fn split_scope<'a>(
    text: &'a str,
    refuse: &dyn Fn(&str) -> Failure,
) -> Result<(&'a str, u32), Failure> {
    let Some((address, interface)) = text.split_once('%') else {
        return Ok((text, 0));
    };
    if address.parse::<Ipv6Addr>().is_err() {
        return Err(refuse("only an IPv6 address can name an interface"));
    }
    match interface_index(interface) {
        Some(scope) => Ok((address, scope)),
        None => {
            let interface = output::escape_name(interface.as_bytes());
            Err(refuse(&format!("there is no interface {interface}")).advise("see \"ip link\""))
        }
    }
}

/// The index of an interface that is named, or given by its index.
fn interface_index(interface: &str) -> Option<u32> {
    if let Ok(index) = interface.parse() {
        return Some(index).filter(|index| *index != 0);
    }
    // Any socket will do to ask; unlike /sys, it speaks of the namespace that we are in.
    let socket = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0))
        .or_else(|_| UdpSocket::bind(("127.0.0.1", 0)))
        .ok()?;
    rustix::net::netdevice::name_to_index(&socket, interface).ok()
}

/// What to say about a colon that is not part of an address.
fn refuse_colon(host: &str, rest: &str, refuse: &dyn Fn(&str) -> Failure) -> Failure {
    let looks_like_v6 = |text: &str| {
        text.chars().all(|letter| letter.is_ascii_hexdigit() || ":.%".contains(letter))
    };
    let digits = !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
    if digits {
        let host = output::escape_name(host.as_bytes());
        return refuse("a port is not part of HOST")
            .advise(format!("say: --port {rest} ... {host}"));
    }
    if rest.contains(':') && looks_like_v6(host) && looks_like_v6(rest) {
        return refuse("is not an IPv6 address").advise("as in fd00::1");
    }
    refuse("copying through ssh (HOST:DIR) is not built yet")
        .advise("start \"ufx recv --dir DIR\" there and give the host alone")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str, scope: u32) -> Host {
        Host::Address { address: text.parse().unwrap(), scope }
    }

    fn parse(text: &str) -> Result<Host, String> {
        Host::parse(OsStr::new(text)).map_err(|failure| failure.to_string())
    }

    #[test]
    fn names_and_addresses_are_hosts() {
        let table = [
            ("10.0.0.7", address("10.0.0.7", 0)),
            ("::1", address("::1", 0)),
            ("[::1]", address("::1", 0)),
            ("fe80::1%1", address("fe80::1", 1)),
            ("[fe80::1%1]", address("fe80::1", 1)),
            ("fe80::1%lo", address("fe80::1", 1)),
            ("nas", Host::Name("nas".into())),
            ("nas_2.example-net.org.", Host::Name("nas_2.example-net.org.".into())),
        ];
        for (text, host) in table {
            assert_eq!(parse(text), Ok(host), "{text}");
        }
    }

    /// HOST as typed, a bar, and what is said about it.
    const NO_HOSTS: &str = r#"
        | the HOST is empty (give a name or an address)
        nas:9000 | nas:9000: a port is not part of HOST (say: --port 9000 ... nas)
        [::1]:9000 | [::1]:9000: a port is not part of HOST (say: --port 9000 ... ::1)
        me@nas:dir | me@nas:dir: copying through ssh (HOST:DIR) is not built yet (SSH)
        nas: | nas:: copying through ssh (HOST:DIR) is not built yet (SSH)
        nas:90x | nas:90x: copying through ssh (HOST:DIR) is not built yet (SSH)
        me@nas | me@nas: users are not built yet (give the host alone)
        UFX://nas/x | UFX://nas/x: ufx:// addresses are not built yet (give the host alone)
        fd00:::1 | fd00:::1: is not an IPv6 address (as in fd00::1)
        fe80::1 | fe80::1: a link-local address needs its interface (name it, as in fe80::1%eth0)
        fe80::1%nosuch0 | fe80::1%nosuch0: there is no interface nosuch0 (see "ip link")
        fe80::1% | fe80::1%: there is no interface  (see "ip link")
        10.0.0.1%lo | 10.0.0.1%lo: only an IPv6 address can name an interface
        [10.0.0.1] | [10.0.0.1]: is not an address (BRACKETS)
        [::1]x | [::1]x: is not an address (BRACKETS)
        [ | [: is not a host (LAST)
        0.0.0.0 | 0.0.0.0: stands for no host in particular (for this machine: localhost)
        ff02::1 | ff02::1: stands for many hosts (give the address of one)
        255.255.255.255 | 255.255.255.255: stands for many hosts (give the address of one)
        dir/file | dir/file: is not a host (LAST)
        - | -: is not a host (LAST)
        two words | two words: is not a host (LAST)"#;

    #[test]
    fn what_is_no_host_is_told_what_to_write_instead() {
        for row in NO_HOSTS.trim_start_matches('\n').lines() {
            let (typed, message) = row.trim_start().split_once("| ").unwrap();
            let message = message
                .replace("SSH", "start \"ufx recv --dir DIR\" there and give the host alone")
                .replace("BRACKETS", "brackets hold an IPv6 address, as in [fd00::1]")
                .replace("LAST", "HOST comes last: ufx send PATH... HOST");
            assert_eq!(parse(typed.trim_end()), Err(message), "{typed:?}");
        }
        let colored = parse("a\u{1b}[31m").unwrap_err();
        assert!(colored.starts_with(r"a\x1b[31m: is not a host"), "{colored}");
    }

    #[test]
    fn an_address_resolves_to_itself_without_the_network() {
        let host = parse("[fe80::1%1]").unwrap();
        let expected = SocketAddr::V6(SocketAddrV6::new("fe80::1".parse().unwrap(), 8390, 0, 1));
        assert_eq!(host.resolve(8390), Ok(vec![expected]));
    }

    #[test]
    fn a_bind_address_may_stand_for_all() {
        assert_eq!(parse_bind("0.0.0.0", 7), Ok("0.0.0.0:7".parse().unwrap()));
        assert_eq!(parse_bind("[::]", 7), Ok("[::]:7".parse().unwrap()));
        assert_eq!(
            parse_bind("eth0", 7).unwrap_err().to_string(),
            "--bind: eth0: is not an address (give one of this machine, as in 10.0.0.1)"
        );
    }
}
