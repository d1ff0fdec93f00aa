//! "Path MTU".

use ufx::sim::{LinkChange, NewValue, Path, Simulation};

use crate::{MIB, at, millis};

/// A path with this MTU forward.
fn path(mtu_bytes: usize) -> Path {
    let mut path = Path::new(Some(1_000_000_000), millis(1));
    path.forward.mtu_bytes = Some(mtu_bytes);
    path
}

/// The datagram a transfer ends with, on a route that claims to take `route` bytes.
fn datagram_bytes(path: Path, route: usize) -> usize {
    let simulation =
        Simulation::new(path).sender(|transfer| transfer.config.route_datagram_bytes = route);
    let outcome = simulation.transfer(16 * MIB);
    outcome.assert_delivered();
    outcome.first().sender.datagram_bytes
}

//= proto.md#path-mtu
//= type=test
//# It tests larger sizes with a PROBE lengthened with zeros, with ACK_NOW,
//# the largest the route and datagram_bytes_max allow first, then 8,972, 4,052
#[test]
fn larger_datagrams_are_found_by_testing() {
    assert_eq!(datagram_bytes(path(9_000), 8_972), 8_972);
    assert_eq!(datagram_bytes(path(9_000), 65_507), 8_972);
    assert_eq!(datagram_bytes(path(5_000), 65_507), 4_052);
    assert_eq!(datagram_bytes(path(1_500), 65_507), 1_472);
    assert_eq!(datagram_bytes(path(1_500), 1_472), 1_472);
}

//= proto.md#path-mtu
//= type=test
//# the sender goes back to 1,200 and tests 1,232, 1,372, 1,412, 1,472
#[test]
fn a_path_smaller_than_its_route_says_is_found_out() {
    assert_eq!(datagram_bytes(path(1_228), 1_472), 1_200);
    assert_eq!(datagram_bytes(path(1_280), 1_472), 1_232);
    assert_eq!(datagram_bytes(path(1_450), 1_472), 1_412);
}

#[test]
fn a_change_of_route_to_a_smaller_mtu_in_the_middle_is_found_out() {
    let mut jumbo = path(9_000);
    jumbo.forward.changes = vec![LinkChange { at: at(40), to: NewValue::MtuBytes(Some(1_500)) }];
    assert_eq!(datagram_bytes(jumbo, 8_972), 1_472);
}

#[test]
fn random_loss_is_no_black_hole() {
    for seed in 0..5 {
        let path = path(1_500).loss(0.3);
        let outcome = Simulation::new(path).seed(seed).transfer(4 * MIB);
        outcome.assert_delivered();
        assert_eq!(outcome.first().sender.datagram_bytes, 1_472, "seed {seed}");
    }
}
