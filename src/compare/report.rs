//! What a bench showed, in figures: the object that `--json` prints, and the one sentence on
//! where ufx wins and loses. `table` and `svg` show the same to people.

use std::fs;
use std::time::Duration;

use serde::Serialize;

use super::check::Measured;
use super::contest::{End, Run, Wiring};
use super::process::ProcessEnd;

/// Everything a bench showed. Names are stable; new ones may be added.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The version of ufx.
    pub version: &'static str,
    /// What it ran on.
    pub machine: Machine,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Where files lay.
    pub files: String,
    /// Runs of each contestant on each link.
    pub runs: u64,
    /// What named the fates of packets.
    pub seed: u64,
    /// How the hosts were connected: `TUN`, `veth with packet sockets`, `veth`, `loopback`.
    pub devices: String,
    /// How packets crossed: one by one, or as large as the kernel's offloads make them.
    pub packets_one_by_one: bool,
    /// What was measured on each emulated link before anybody ran on it.
    pub checks: Vec<Measured>,
    /// Runs that were repeated because the link had not been the one asked for.
    pub repeated: u64,
    /// What each contestant did on each link.
    pub cells: Vec<Cell>,
}

/// The machine a bench ran on.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The kernel's release.
    pub kernel: String,
    /// The processor's name.
    pub processor: String,
    /// Threads it runs at once.
    pub processors: usize,
    /// TCP's receive buffer: least, first and most bytes of its autotuning.
    pub tcp_rmem: String,
    /// The same of its send buffer.
    pub tcp_wmem: String,
}

impl Machine {
    /// This one.
    pub fn here() -> Machine {
        let text = |path: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = processors.lines().find_map(|line| line.strip_prefix("model name"));
        Machine {
            kernel: text("/proc/sys/kernel/osrelease"),
            processor: name.unwrap_or("unknown").trim_matches([' ', '\t', ':']).to_owned(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            tcp_rmem: text("/proc/sys/net/ipv4/tcp_rmem"),
            tcp_wmem: text("/proc/sys/net/ipv4/tcp_wmem"),
        }
    }
}

/// A link, as far as a reader needs it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LinkFigures {
    /// Bits per second, none without an emulated link.
    pub rate_bits_per_second: Option<u64>,
    /// The round trip of the empty link, in seconds.
    pub rtt_seconds: Option<f64>,
    /// Bytes that may wait in front of it.
    pub queue_bytes: Option<usize>,
    /// Share of packets lost on each way.
    pub loss: f64,
    /// Mean number of packets lost in a row, where it is not each by itself.
    pub burst_packets: Option<u64>,
    /// Seconds after which a run was ended.
    pub cap_seconds: f64,
}

impl LinkFigures {
    /// The figures of a link.
    pub fn of(
        wiring: &Wiring,
        loss: f64,
        burst_packets: Option<u64>,
        cap: Duration,
    ) -> LinkFigures {
        let path = match wiring {
            Wiring::Emulated(path) => Some(path),
            Wiring::Veth | Wiring::Loopback => None,
        };
        LinkFigures {
            rate_bits_per_second: path.and_then(|path| path.forward.rate_bits_per_second),
            rtt_seconds: path.map(|path| path.rtt().as_secs_f64()),
            queue_bytes: path.and_then(|path| path.forward.queue.bytes),
            loss,
            burst_packets,
            cap_seconds: cap.as_secs_f64(),
        }
    }
}

/// The middle of several figures, and their extremes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The one in the middle, or the mean of the two there.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

impl Spread {
    /// Of these figures; none without any.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let (min, max) = (*figures.first()?, *figures.last()?);
        let middle = figures.len() / 2;
        let median = match figures.len() % 2 {
            0 => f64::midpoint(figures[middle - 1], figures[middle]),
            _ => figures[middle],
        };
        Some(Spread { median, min, max })
    }
}

/// What one contestant did on one link. Figures are medians of the runs that finished, unless
/// they say otherwise; null where there is nothing to measure.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// The link.
    pub link: LinkFigures,
    /// The contestant.
    pub contestant: String,
    /// Runs that finished.
    pub finished: usize,
    /// Runs that did not finish in time.
    pub timed_out: usize,
    /// Runs in which a program failed, or left another file.
    pub failed: usize,
    /// Bits of the file a second, from the sender's start to its exit.
    pub goodput: Option<Spread>,
    /// What had arrived of runs that did not finish in time, in bits a second.
    pub arrived: Option<Spread>,
    /// Processor seconds of the sender for a GB of the file.
    pub sender_cpu_per_gb: Option<f64>,
    /// The same of the receiver.
    pub receiver_cpu_per_gb: Option<f64>,
    /// The same of the emulated link, in which much of the kernel's work for TCP is done.
    pub link_cpu_per_gb: Option<f64>,
    /// Most memory resident in the sender, in bytes.
    pub sender_resident_bytes: Option<f64>,
    /// The same of the receiver.
    pub receiver_resident_bytes: Option<f64>,
    /// Bytes on the wire, both directions, for a byte of the file.
    pub wire_ratio: Option<f64>,
    /// Packets on the way back for a MB of the file.
    pub back_packets_per_mb: Option<f64>,
    /// The share of what was sent that had been sent before.
    pub resent_share: Option<f64>,
    /// The mean wait for the link, in seconds.
    pub queue_delay_seconds: Option<f64>,
    /// The longest wait for the link in any run, in seconds.
    pub queue_delay_max_seconds: Option<f64>,
    /// From 95 % arrived to the end, in seconds.
    pub tail_seconds: Option<f64>,
    /// Whether every run that finished was compared with the original.
    pub verified: bool,
    /// The half of the packets that the emulator was least late with was at most so late, in
    /// seconds; the worst run counts.
    pub lateness_seconds: Option<f64>,
    /// Why runs failed.
    pub failures: Vec<String>,
}

impl Cell {
    /// Puts the runs of one contestant on one link together.
    pub fn of(link: LinkFigures, contestant: &str, runs: &[Run], file_bytes: u64) -> Cell {
        let finished: Vec<&Run> = runs.iter().filter(|run| run.end == End::Finished).collect();
        let timed_out: Vec<&Run> = runs.iter().filter(|run| run.end == End::TimedOut).collect();
        let median = |figure: &dyn Fn(&Run) -> Option<f64>| {
            Spread::of(finished.iter().filter_map(|run| figure(run))).map(|spread| spread.median)
        };
        let gigabytes = file_bytes.max(1) as f64 / 1e9;
        let cpu = |end: &ProcessEnd| (end.user + end.system).as_secs_f64() / gigabytes;
        let queue_max =
            |run: &&Run| Some(run.tally.as_ref()?.forward.link.queue_delay_max.as_secs_f64());
        let lateness = |run: &Run| Some(run.tally.as_ref()?.lateness.quantile(0.5).as_secs_f64());
        let mut failures: Vec<String> = runs.iter().filter_map(|run| failure(&run.end)).collect();
        let failed = failures.len();
        failures.dedup();
        Cell {
            contestant: contestant.to_owned(),
            finished: finished.len(),
            timed_out: timed_out.len(),
            failed,
            goodput: Spread::of(finished.iter().filter_map(|run| run.goodput(file_bytes))),
            arrived: Spread::of(timed_out.iter().filter_map(|run| run.arrived_rate())),
            sender_cpu_per_gb: median(&|run| Some(cpu(&run.sender))),
            receiver_cpu_per_gb: median(&|run| Some(cpu(&run.receiver))),
            link_cpu_per_gb: median(&|run| Some(run.tally.as_ref()?.cpu.as_secs_f64() / gigabytes)),
            sender_resident_bytes: median(&|run| Some(run.sender.resident_bytes_max as f64)),
            receiver_resident_bytes: median(&|run| Some(run.receiver.resident_bytes_max as f64)),
            wire_ratio: median(&|run| run.wire_ratio(file_bytes)),
            back_packets_per_mb: median(&|run| {
                let packets = run.tally.as_ref()?.backward.link.offered_packets;
                Some(packets as f64 / (file_bytes.max(1) as f64 / 1e6))
            }),
            resent_share: median(&|run| run.resent_share),
            queue_delay_seconds: median(&|run| {
                Some(run.tally.as_ref()?.forward.link.queue_delay_mean().as_secs_f64())
            }),
            queue_delay_max_seconds: finished.iter().filter_map(queue_max).reduce(f64::max),
            tail_seconds: median(&|run| Some(run.tail?.as_secs_f64())),
            verified: finished.iter().all(|run| run.verified),
            lateness_seconds: runs.iter().filter_map(lateness).reduce(f64::max),
            link,
            failures,
        }
    }

    /// What counts in a comparison: the goodput, else what had arrived in time, else nothing.
    fn merit(&self) -> f64 {
        self.goodput.or(self.arrived).map_or(0.0, |spread| spread.median)
    }
}

fn failure(end: &End) -> Option<String> {
    match end {
        End::Failed(why) => Some(why.clone()),
        End::Differs => Some("the file that arrived is not the one that was sent".into()),
        End::Finished | End::TimedOut | End::Interrupted => None,
    }
}

/// Within this share two contestants count as level: runs differ by as much.
const LEVEL_SHARE: f64 = 0.02;

impl Report {
    /// The links in their order, each with its cells.
    pub fn links(&self) -> Vec<(&LinkFigures, Vec<&Cell>)> {
        let mut links: Vec<(&LinkFigures, Vec<&Cell>)> = Vec::new();
        for cell in &self.cells {
            match links.iter_mut().find(|(link, _)| **link == cell.link) {
                Some((_, cells)) => cells.push(cell),
                None => links.push((&cell.link, vec![cell])),
            }
        }
        links
    }

    /// One sentence on where ufx wins and where it loses; none if it met nobody.
    pub fn verdict(&self) -> Option<String> {
        let (mut wins, mut level, mut losses) = (Vec::new(), Vec::new(), Vec::new());
        for (link, cells) in self.links() {
            let is_ufx = |cell: &&&Cell| cell.contestant.starts_with("ufx");
            let best = |cells: &mut dyn Iterator<Item = &Cell>| {
                cells.max_by(|one, other| one.merit().total_cmp(&other.merit())).cloned()
            };
            let ours = best(&mut cells.iter().filter(is_ufx).copied());
            let others = best(&mut cells.iter().filter(|cell| !is_ufx(cell)).copied());
            let (Some(ours), Some(others)) = (ours, others) else { continue };
            let place = self.place(link);
            let ratio = ours.merit() / others.merit().max(1.0);
            let against = format!("{place} ({} {})", times(ratio), others.contestant);
            if ratio > 1.0 + LEVEL_SHARE {
                wins.push(against);
            } else if ratio >= 1.0 - LEVEL_SHARE {
                level.push(against);
            } else {
                losses.push(against);
            }
        }
        let parts: Vec<String> = [("wins", wins), ("is level", level), ("loses", losses)]
            .into_iter()
            .filter(|(_, places)| !places.is_empty())
            .map(|(verb, places)| format!("{verb} {}", places.join(", ")))
            .collect();
        (!parts.is_empty()).then(|| format!("ufx {}.", parts.join("; it ")))
    }

    /// What sets a link apart from the others of this report.
    fn place(&self, link: &LinkFigures) -> String {
        let links: Vec<&LinkFigures> = self.links().into_iter().map(|(link, _)| link).collect();
        let differ = |figure: &dyn Fn(&LinkFigures) -> Option<f64>| {
            links.iter().any(|other| figure(other) != figure(link))
        };
        let Some(rate) = link.rate_bits_per_second else {
            return format!("on {}", self.devices);
        };
        let mut words = Vec::new();
        if differ(&|link| link.rate_bits_per_second.map(|rate| rate as f64)) {
            words.push(format!("{} Mbit/s", round(rate as f64 / 1e6)));
        }
        if differ(&|link| link.rtt_seconds) {
            words.push(format!("{} ms", round(link.rtt_seconds.unwrap_or(0.0) * 1e3)));
        }
        words.push(format!("{} % loss", round(link.loss * 100.0)));
        format!("at {}", words.join(" "))
    }
}

/// `1.50 x`, `46 x`.
pub fn times(ratio: f64) -> String {
    if ratio < 10.0 { format!("{ratio:.2} x") } else { format!("{ratio:.0} x") }
}

/// A figure without idle zeros.
pub fn round(figure: f64) -> String {
    let text = format!("{figure:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A cell of a 100 Mbit/s link with this loss and goodput in Mbit/s.
    pub(in crate::compare) fn cell(contestant: &str, loss: f64, goodput: Option<f64>) -> Cell {
        let link = LinkFigures {
            rate_bits_per_second: Some(100_000_000),
            rtt_seconds: Some(0.01),
            queue_bytes: Some(256_000),
            loss,
            burst_packets: None,
            cap_seconds: 3.4,
        };
        let mut cell = Cell::of(link, contestant, &[], 12_500_000);
        let spread = |median: f64| Spread { median, min: median * 0.9, max: median * 1.1 };
        cell.goodput = goodput.map(|goodput| spread(goodput * 1e6));
        cell.finished = if goodput.is_some() { 3 } else { 0 };
        cell.timed_out = 3 - cell.finished;
        cell.arrived = goodput.is_none().then(|| spread(2e6));
        cell
    }

    pub(in crate::compare) fn report(cells: Vec<Cell>) -> Report {
        Report {
            version: "0.1.0",
            machine: Machine::here(),
            file_bytes: 12_500_000,
            files: "memory".into(),
            runs: 3,
            seed: 1,
            devices: "TUN".into(),
            packets_one_by_one: true,
            checks: Vec::new(),
            repeated: 0,
            cells,
        }
    }

    #[test]
    fn the_median_is_the_middle_and_the_extremes_are_kept() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
    }

    #[test]
    fn the_verdict_names_wins_draws_and_losses_against_the_best_other() {
        let report = report(vec![
            cell("ufx", 0.0, Some(90.0)),
            cell("reno", 0.0, Some(94.0)),
            cell("ufx", 0.01, Some(92.0)),
            cell("bbr", 0.01, Some(91.5)),
            cell("reno", 0.01, None),
            cell("ufx", 0.05, Some(90.0)),
            cell("cubic", 0.05, None),
        ]);
        assert_eq!(
            report.verdict().unwrap(),
            "ufx wins at 5 % loss (45 x cubic); it is level at 1 % loss (1.01 x bbr); \
             it loses at 0 % loss (0.96 x reno)."
        );
    }

    #[test]
    fn without_an_opponent_there_is_no_verdict() {
        assert_eq!(report(vec![cell("ufx", 0.0, Some(90.0))]).verdict(), None);
    }
}
