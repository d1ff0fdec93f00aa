//! Loss on real sockets, by firewall rules between two namespaces. A rule of INPUT loses what has
//! arrived; one of OUTPUT makes the send call fail.

use crate::support::content::{room, same_bytes, write_random};
use crate::support::process::Program;
use crate::support::root::{Namespace, Pair, is_root_with};
use crate::support::transfer::{Receiver, both_succeed, send_words};

/// Payload of a full packet at MTU 1,500 over IPv4 (proto.md, "DATA").
const PAYLOAD_BYTES: u64 = 1_452;

/// More packets than this many times the least possible is flooding.
const FLOODING: u64 = 4;

fn lose(namespace: &Namespace, chain: &str, percent: u64) {
    namespace.run(&format!(
        "iptables -w 30 -A {chain} -p udp -m statistic --mode random --probability 0.{percent:02} \
         -j DROP"
    ));
}

/// Moves a file through `percent` of loss in each direction, by either chain.
fn survive(percent: u64, bytes: u64, offload: &str) {
    for chain in ["INPUT", "OUTPUT"] {
        if !is_root_with(&["iptables"]) {
            return;
        }
        let Some(pair) = Pair::new(1_500) else { return };
        lose(&pair.sender, chain, percent);
        lose(&pair.receiver, chain, percent);
        let room = room();
        let source = write_random(&room.path().join("source.bin"), bytes, percent);
        let dir = room.path().join("to");
        let options = ["--once", "--offload", offload];
        let receiver = Receiver::start_in(&pair.receiver, &dir, &options);
        let options = ["--offload", offload];
        let words = send_words(&[&source], &options, Pair::RECEIVER, receiver.port);
        let sender = Program::start(&mut pair.sender.ufx(words));
        let reports = both_succeed(sender, receiver);
        assert!(same_bytes(&source, &dir.join("source.bin")));
        let sent = reports.sender["packets"]["sent"].as_u64().unwrap();
        let least = bytes.div_ceil(PAYLOAD_BYTES);
        assert!(sent >= least && sent <= FLOODING * least, "{chain}: {sent} packets for {least}");
        let lost = reports.sender["packets"]["lost"].as_u64().unwrap();
        assert!(lost > 0, "{chain}: the rule lost nothing");
    }
}

#[test]
fn single_packets_lost_1_percent() {
    survive(1, 32 << 20, "single");
}

#[test]
fn single_packets_lost_5_percent() {
    survive(5, 32 << 20, "single");
}

#[test]
fn single_packets_lost_20_percent() {
    survive(20, 8 << 20, "single");
}

#[test]
fn single_packets_lost_50_percent() {
    survive(50, 4 << 20, "single");
}

#[test]
fn bursts_lost_1_percent() {
    survive(1, 64 << 20, "gso");
}

#[test]
fn bursts_lost_5_percent() {
    survive(5, 32 << 20, "gso");
}

#[test]
fn bursts_lost_20_percent() {
    survive(20, 16 << 20, "gso");
}

#[test]
fn bursts_lost_50_percent() {
    survive(50, 4 << 20, "gso");
}
