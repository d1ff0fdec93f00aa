//! Every loss of one packet of a small transfer, and of every two among the first and the last
//! twenty of each direction.

use std::collections::BTreeSet;
use std::time::Duration;

use ufx::sim::{Outcome, Path, SimFile, Simulation};

/// Packets at either end of a transfer of which all pairs are lost.
const EDGE_PACKETS: u64 = 20;

/// What an end may come later by, for each lost packet: a probe timeout or two, or the receiver's
/// lingering where its sender is gone.
const DELAY_MAX: Duration = Duration::from_millis(1_500);

fn run(lost: [&[u64]; 2]) -> Outcome {
    let mut path = Path::new(Some(100_000_000), Duration::from_millis(10));
    let links = [&mut path.forward, &mut path.backward];
    for (link, lost) in links.into_iter().zip(lost) {
        link.impairments.lose_packets = BTreeSet::from_iter(lost.iter().copied());
    }
    let mut files = vec![SimFile::directory(), SimFile::new(0), SimFile::new(1)];
    files.extend([1_451, 1_452, 1_453, 70_000].map(SimFile::new));
    Simulation::new(path).payload().files(files).run()
}

fn check(lost: [&[u64]; 2], undisturbed: Duration) {
    let outcome = run(lost);
    outcome.assert_delivered();
    let took = outcome.first().sender_time.expect("it ended");
    let late = DELAY_MAX * (lost[0].len() + lost[1].len()) as u32;
    assert!(took <= undisturbed + late, "{took:?} with {lost:?} lost");
}

/// The first and the last packets of so many.
fn edges(packets: u64) -> Vec<u64> {
    let last = packets.saturating_sub(EDGE_PACKETS);
    (0..packets).filter(|index| *index < EDGE_PACKETS || *index >= last).collect()
}

#[test]
fn any_one_packet_may_be_lost_and_any_two_of_the_first_and_last_twenty() {
    let outcome = run([&[], &[]]);
    let first = outcome.first();
    let undisturbed = first.sender_time.expect("it ended");
    let [there, back] = [first.forward.offered_packets, first.backward.offered_packets];
    assert!(there > 2 * EDGE_PACKETS, "{there} packets are too few");
    for packet in 0..there {
        check([&[packet], &[]], undisturbed);
    }
    for packet in 0..back {
        check([&[], &[packet]], undisturbed);
    }
    let (edges_there, edges_back) = (edges(there), edges(back));
    let mut pairs = 0;
    for (index, one) in edges_there.iter().enumerate() {
        for other in &edges_there[index + 1..] {
            check([&[*one, *other], &[]], undisturbed);
            pairs += 1;
        }
        for other in &edges_back {
            check([&[*one], &[*other]], undisturbed);
            pairs += 1;
        }
    }
    for (index, one) in edges_back.iter().enumerate() {
        for other in &edges_back[index + 1..] {
            check([&[], &[*one, *other]], undisturbed);
            pairs += 1;
        }
    }
    println!("{there} packets there and {back} back, each lost alone; {pairs} pairs of losses");
}
