//! "Pacing and congestion control": goodput by loss and round trip, as checked-in text.
//!
//! `UFX_BLESS=1` writes the table anew; otherwise it is compared.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use ufx::proto::Algorithm;
use ufx::sim::{Simulation, TransferOutcome, preset};

/// Link rates in Mbit/s.
const RATES: [u64; 2] = [100, 1_000];

/// Round trips in microseconds.
const ROUND_TRIPS: [u64; 3] = [200, 10_000, 50_000];

/// Loss in each direction.
const LOSSES: [f64; 4] = [0.0, 0.01, 0.05, 0.2];

/// Each transfer would take so long at the full rate.
const SPAN_MS: u64 = 2_000;

fn transfer(algorithm: Algorithm, rate_mbit: u64, rtt_us: u64, loss: f64) -> TransferOutcome {
    let rate = rate_mbit * 1_000_000;
    let path = preset::wan(rate, Duration::from_micros(rtt_us), loss);
    let simulation = Simulation::new(path)
        .sender(|transfer| {
            transfer.config.algorithm = algorithm;
            if algorithm == Algorithm::Fixed {
                transfer.config.rate_bytes_max = Some(rate / 8 / 100 * 97);
            }
        })
        .receiver(|host| {
            // Room for more than a bandwidth-delay product: the table is about the path.
            host.config.socket_bytes = 8 << 20;
            host.pool_packets = 16_384;
        });
    let outcome = simulation.transfer(rate / 8 * SPAN_MS / 1_000);
    outcome.assert_delivered();
    outcome.transfers.into_iter().next().expect("one transfer was planned")
}

/// Goodput in percent of what the link can carry: its rate, less headers and loss.
fn percent(outcome: &TransferOutcome, rate_mbit: u64, loss: f64) -> f64 {
    let possible = rate_mbit as f64 * 1e6 / 8.0 * (1.0 - loss) * 1_452.0 / 1_500.0;
    outcome.goodput() / possible * 100.0
}

/// The losses a controller is measured at: with more, those that give way to each loss take hours.
fn losses(algorithm: Algorithm) -> &'static [f64] {
    match algorithm {
        Algorithm::Auto | Algorithm::Fixed => &LOSSES,
        Algorithm::Bbr | Algorithm::Cubic => &LOSSES[..2],
    }
}

fn table() -> String {
    let mut table = String::from(
        "Goodput of 2 s at the full rate, in % of rate x (1 - loss) x 1,452 / 1,500; in brackets\n\
         packets sent beyond the least, in %. Loss holds in both directions.\n",
    );
    for algorithm in Algorithm::ALL {
        let _ = writeln!(table, "\n{}", algorithm.name());
        let _ = write!(table, "{:>22}", "loss");
        for loss in losses(algorithm) {
            let _ = write!(table, "{:>16}", format!("{} %", loss * 100.0));
        }
        table.push('\n');
        for (rate_mbit, rtt_us) in RATES.iter().flat_map(|&r| ROUND_TRIPS.map(|t| (r, t))) {
            let _ = write!(table, "{rate_mbit:>5} Mbit/s {:>6} ms", rtt_us as f64 / 1e3);
            for &loss in losses(algorithm) {
                let outcome = transfer(algorithm, rate_mbit, rtt_us, loss);
                let least = outcome.packets_lower_bound(loss);
                let beyond = (outcome.sender.packets_sent as f64 / least - 1.0) * 100.0;
                let share = percent(&outcome, rate_mbit, loss);
                let _ = write!(table, "{:>16}", format!("{share:.1} ({beyond:.1})"));
            }
            table.push('\n');
        }
    }
    table
}

#[test]
fn goodput_is_what_the_table_says() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots/goodput.txt");
    let table = table();
    if std::env::var_os("UFX_BLESS").is_some() {
        std::fs::write(&file, &table).expect("the snapshot can be written");
    }
    let before = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(before == table, "{}", diff(&before, &table));
}

fn diff(before: &str, after: &str) -> String {
    format!("goodput differs; UFX_BLESS=1 accepts it.\nbefore:\n{before}\nnow:\n{after}")
}
