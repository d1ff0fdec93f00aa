//! What was typed after `ufx bench`, resolved: links, contestants, sizes. Leaves the forms of
//! numbers to `units` and running anything to `compare`.

use std::ffi::OsString;
use std::time::Duration;

use super::args::{BenchArguments, NativeKind};
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::cli::units;
use crate::compare::contest::{Contestant, Kind, Wiring};
use crate::compare::defaults;
use crate::sim::{
    BurstLoss, Corrupting, CorruptionKind, Duplication, Impairments, Jitter, JitterShape, Path,
    QueueLimit, Reordering,
};

/// What `ufx bench` is to do.
#[derive(Debug)]
pub struct BenchOptions {
    /// The links to compare on, in the order of the tables.
    pub links: Vec<LinkOptions>,
    /// Who takes part, in the order of their turns.
    pub contestants: Vec<ContestantOptions>,
    /// Size of the file.
    pub file_bytes: u64,
    /// Runs of each contestant on each link.
    pub runs: u64,
    /// Names the fates of packets.
    pub seed: u64,
}

/// One link.
#[derive(Clone, Debug)]
pub struct LinkOptions {
    /// What connects the hosts.
    pub wiring: Wiring,
    /// The share of packets lost on each way, by whatever process.
    pub loss: f64,
    /// Mean number of packets lost in a row, if not each by itself.
    pub burst_packets: Option<u64>,
    /// When a run is ended.
    pub cap: Duration,
}

/// A contestant before the link, and so the rate of `ufx:fixed`, is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContestantOptions {
    /// ufx with its default controller, or the one named.
    Ufx(Option<String>),
    /// A plain TCP copy with this congestion control.
    Tcp(String),
    /// Another program: name, receiver's and sender's command.
    Tool(String, String, String),
}

impl BenchOptions {
    /// Resolves what was typed.
    ///
    /// # Errors
    /// The first value that makes no sense, with the range or the forms it should have.
    pub fn resolve(typed: &BenchArguments) -> Result<BenchOptions, Failure> {
        let file_bytes = parse_size(typed.size.as_deref().unwrap_or(defaults::SIZE))?;
        let runs = parse_runs(&typed.runs)?;
        let seed = units::parse_integer(&typed.seed, &defaults::SEED_RANGE)
            .map_err(|why| refuse("--seed", &typed.seed, &why))?;
        let cap = typed
            .cap
            .as_deref()
            .map(|cap| {
                units::parse_duration(cap, &defaults::CAP_RANGE)
                    .map_err(|why| refuse("--cap", cap, &why))
            })
            .transpose()?;
        let mut contestants = Vec::new();
        for list in &typed.against {
            parse_contestants(list, &mut contestants)?;
        }
        let links = match typed.native {
            Some(native) => vec![native_link(native, cap)],
            None => emulated_links(typed, file_bytes, cap)?,
        };
        let fixed = contestants.contains(&ContestantOptions::Ufx(Some("fixed".into())));
        if typed.native.is_some() && fixed {
            return Err(Failure::usage("--against ufx:fixed", "needs a link with a rate")
                .advise("leave out --native"));
        }
        Ok(BenchOptions { links, contestants, file_bytes, runs, seed })
    }
}

/// `--size` in bytes.
pub fn parse_size(typed: &str) -> Result<u64, Failure> {
    units::parse_decimal_size(typed, &defaults::SIZE_RANGE)
        .map_err(|why| refuse("--size", typed, &why))
}

/// `--runs`.
pub fn parse_runs(typed: &str) -> Result<u64, Failure> {
    units::parse_integer(typed, &defaults::RUNS_RANGE).map_err(|why| refuse("--runs", typed, &why))
}

fn native_link(native: NativeKind, cap: Option<Duration>) -> LinkOptions {
    let wiring = match native {
        NativeKind::Loopback => Wiring::Loopback,
        NativeKind::Veth => Wiring::Veth,
    };
    let cap = cap.unwrap_or(defaults::CAP_NATIVE);
    LinkOptions { wiring, loss: 0.0, burst_packets: None, cap }
}

/// Every rate with every round trip with every loss.
fn emulated_links(
    typed: &BenchArguments,
    file_bytes: u64,
    cap: Option<Duration>,
) -> Result<Vec<LinkOptions>, Failure> {
    let rates =
        parse_list("--rate", &typed.rate, |text| units::parse_rate(text, &defaults::RATE_RANGE))?;
    let rtts = parse_list("--rtt", &typed.rtt, |text| {
        units::parse_duration(text, &defaults::RTT_RANGE).map_err(|why| {
            let (least, most) = (defaults::RTT_RANGE.start(), defaults::RTT_RANGE.end());
            // `units` says "< 1 ms" for the least.
            match why.starts_with("a time here is") {
                true => format!("a round trip is from {least:?} to {most:?}"),
                false => why,
            }
        })
    })?;
    let losses = parse_list("--loss", &typed.loss, parse_percent)?;
    let burst_packets = typed
        .burst
        .as_deref()
        .map(|burst| {
            units::parse_integer(burst, &defaults::BURST_RANGE)
                .map_err(|why| refuse("--burst", burst, &why))
        })
        .transpose()?;
    let queue = typed
        .queue
        .as_deref()
        .map(|queue| {
            units::parse_size(queue, &defaults::QUEUE_RANGE)
                .map_err(|why| refuse("--queue", queue, &why))
        })
        .transpose()?;
    let impairments = other_impairments(typed)?;
    let mut links = Vec::new();
    for &rate in &rates {
        for &rtt in &rtts {
            for &loss in &losses {
                let impairments = with_loss(impairments.clone(), loss, burst_packets);
                let wiring = Wiring::Emulated(Box::new(path(rate, rtt, queue, impairments)));
                let cap = cap.unwrap_or_else(|| defaults::cap(file_bytes, rate, rtt));
                links.push(LinkOptions { wiring, loss, burst_packets, cap });
            }
        }
    }
    Ok(links)
}

fn path(rate: u64, rtt: Duration, queue: Option<u64>, impairments: Impairments) -> Path {
    let product = u128::from(rate) * rtt.as_nanos() / 8_000_000_000;
    let product = u64::try_from(product).unwrap_or(u64::MAX);
    let queue_bytes = queue.unwrap_or_else(|| product.max(defaults::QUEUE_BYTES_MIN));
    Path::new(Some(rate), rtt).both(|link| {
        link.queue = QueueLimit { bytes: usize::try_from(queue_bytes).ok(), packets: None };
        // Whole IP packets pass, headers and all.
        link.overhead_bytes = 0;
        link.impairments = impairments.clone();
    })
}

fn with_loss(impairments: Impairments, loss: f64, burst_packets: Option<u64>) -> Impairments {
    match burst_packets {
        Some(packets) if loss > 0.0 => {
            let burst = BurstLoss { mean_loss: loss, mean_burst_packets: packets as f64 };
            Impairments { burst_loss: Some(burst), ..impairments }
        }
        _ => Impairments { loss, ..impairments },
    }
}

fn other_impairments(typed: &BenchArguments) -> Result<Impairments, Failure> {
    let percent = |option: &str, value: &Option<String>| {
        value
            .as_deref()
            .map(|text| parse_percent(text).map_err(|why| refuse(option, text, &why)))
            .transpose()
    };
    let jitter = typed
        .jitter
        .as_deref()
        .map(|text| {
            units::parse_duration(text, &defaults::JITTER_RANGE)
                .map_err(|why| refuse("--jitter", text, &why))
        })
        .transpose()?;
    Ok(Impairments {
        jitter: jitter
            .map(|max| Jitter { shape: JitterShape::Uniform { max }, keeps_order: false }),
        reordering: percent("--reorder", &typed.reorder)?
            .map(|probability| Reordering { probability, delay: defaults::REORDERING_DELAY }),
        duplication: percent("--duplicate", &typed.duplicate)?
            .map(|probability| Duplication { probability, delay: defaults::DUPLICATION_DELAY }),
        corruption: percent("--corrupt", &typed.corrupt)?
            .map(|probability| Corrupting { probability, kinds: vec![CorruptionKind::SwapWords] }),
        ..Impairments::default()
    })
}

/// One value or several with commas between them.
fn parse_list<T>(
    option: &str,
    typed: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, Failure> {
    typed
        .split(',')
        .map(|text| parse(text.trim()).map_err(|why| refuse(option, text.trim(), &why)))
        .collect()
}

/// A share in percent, with or without the sign, as a fraction.
fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches('%').trim_end();
    let plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let percent: Option<f64> = number.parse().ok().filter(|_| plain);
    percent
        .filter(|percent| (0.0..=defaults::PERCENT_MAX).contains(percent))
        .map(|percent| percent / 100.0)
        .ok_or_else(|| format!("must be a share from 0 to {} percent", defaults::PERCENT_MAX))
}

/// Names with commas between them; what has a `=` is a tool's definition up to the end.
fn parse_contestants(list: &str, all: &mut Vec<ContestantOptions>) -> Result<(), Failure> {
    let mut rest = list;
    while !rest.is_empty() {
        let word = rest.split(',').next().unwrap_or_default();
        let contestant = if word.contains('=') {
            parse_tool(std::mem::take(&mut rest))?
        } else {
            rest = rest.get(word.len() + 1..).unwrap_or_default();
            match word.trim().split_once(':') {
                Some(("ufx", controller)) => ContestantOptions::Ufx(Some(controller.to_owned())),
                None if word.trim() == "ufx" => ContestantOptions::Ufx(None),
                None if is_congestion_name(word.trim()) => {
                    ContestantOptions::Tcp(word.trim().to_owned())
                }
                _ => return Err(no_contestant(word)),
            }
        };
        if all.contains(&contestant) {
            return Err(refuse("--against", word, "is named twice"));
        }
        all.push(contestant);
    }
    if all.is_empty() { Err(no_contestant(list)) } else { Ok(()) }
}

fn is_congestion_name(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn parse_tool(definition: &str) -> Result<ContestantOptions, Failure> {
    let (name, commands) = definition.split_once('=').unwrap_or((definition, ""));
    match commands.split_once(";;") {
        Some((receive, send)) if !name.trim().is_empty() && !send.trim().is_empty() => {
            let [name, receive, send] = [name, receive, send].map(|text| text.trim().to_owned());
            Ok(ContestantOptions::Tool(name, receive, send))
        }
        _ => Err(refuse("--against", definition, "a program looks like NAME='RECV ;; SEND'")),
    }
}

fn no_contestant(word: &str) -> Failure {
    refuse(
        "--against",
        word,
        "takes ufx, ufx:KIND, congestion controls of this kernel, and NAME='RECV ;; SEND'",
    )
}

impl ContestantOptions {
    /// What the table calls it.
    pub fn name(&self) -> String {
        match self {
            ContestantOptions::Ufx(None) => "ufx".into(),
            ContestantOptions::Ufx(Some(controller)) => format!("ufx:{controller}"),
            ContestantOptions::Tcp(name) | ContestantOptions::Tool(name, ..) => name.clone(),
        }
    }

    /// The command lines it runs as on a link; `program` is ufx itself.
    pub fn on(&self, link: &LinkOptions, program: &str) -> Contestant {
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        let (kind, receive, send) = match self {
            ContestantOptions::Ufx(controller) => {
                let mut send: Vec<String> =
                    words(&[program, "send", "--json", "--quiet", "{file}", "{host}"]);
                if let Some(controller) = controller {
                    send.extend(["--cc".into(), controller.clone()]);
                }
                if controller.as_deref() == Some("fixed") {
                    send.extend(["--rate".into(), fixed_rate(link).to_string()]);
                }
                let receive = &[program, "recv", "--once", "--quiet", "--dir", "{dir}"];
                (Kind::Ufx, words(receive), send)
            }
            ContestantOptions::Tcp(name) => (
                Kind::Tcp,
                words(&[program, "tcp-copy", "recv", name, "{dir}", "{name}"]),
                words(&[program, "tcp-copy", "send", name, "{file}", "{host}"]),
            ),
            ContestantOptions::Tool(_, receive, send) => {
                (Kind::Tool, words(&["sh", "-c", receive]), words(&["sh", "-c", send]))
            }
        };
        Contestant { name: self.name(), kind, receive, send }
    }
}

/// What `ufx:fixed` keeps to: the link's rate less what IP and UDP add to full packets (28 bytes
/// of 1,500, and as much again for a margin), so that its own queue never overflows.
fn fixed_rate(link: &LinkOptions) -> u64 {
    match &link.wiring {
        Wiring::Emulated(path) => path.forward.rate_bits_per_second.unwrap_or(0) / 100 * 96,
        Wiring::Veth | Wiring::Loopback => 0,
    }
}

fn refuse(option: &str, typed: &str, why: &str) -> Failure {
    Failure::usage(format!("{option} {}", output::escape_name(typed.as_bytes())), why)
}

/// The program that contestants run: this one.
///
/// # Errors
/// The system does not tell where it is, or it has a name that is no text.
pub fn own_program() -> Result<String, Failure> {
    let failed = |why: String| {
        Failure::new(crate::io::report::Outcome::Failed, "the path of this program", why)
    };
    let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
    OsString::from(program).into_string().map_err(|_| failed("is no text".into()))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::args::{Arguments, Command};

    fn bench(words: &[&str]) -> Result<BenchOptions, String> {
        let words = ["ufx", "bench"].into_iter().chain(words.iter().copied());
        match Arguments::try_parse_from(words).unwrap().command {
            Command::Bench(typed) => {
                BenchOptions::resolve(&typed).map_err(|error| error.to_string())
            }
            _ => unreachable!("the words say bench"),
        }
    }

    fn emulated(link: &LinkOptions) -> &Path {
        match &link.wiring {
            Wiring::Emulated(path) => path,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_default_is_three_losses_and_four_contestants() {
        let options = bench(&[]).unwrap();
        let losses: Vec<f64> = options.links.iter().map(|link| link.loss).collect();
        assert_eq!(losses, [0.0, 0.01, 0.05]);
        let names: Vec<String> = options.contestants.iter().map(ContestantOptions::name).collect();
        assert_eq!(names, ["ufx", "reno", "cubic", "bbr"]);
        let path = emulated(&options.links[1]);
        assert_eq!(path.rtt(), Duration::from_millis(10));
        assert_eq!(path.forward.queue.bytes, Some(256_000));
        assert_eq!((path.forward.impairments.loss, path.backward.impairments.loss), (0.01, 0.01));
        assert_eq!(options.links[0].cap, Duration::from_millis(3_000 + 100 + 300));
    }

    #[test]
    fn every_rate_meets_every_round_trip_and_every_loss() {
        let options = bench(&["--rate", "1M,1G", "--rtt", "0.2ms, 50ms", "--loss", "0,2%"]);
        let links = options.unwrap().links;
        assert_eq!(links.len(), 8);
        let path = emulated(&links[7]);
        assert_eq!(path.forward.rate_bits_per_second, Some(1_000_000_000));
        assert_eq!(path.forward.queue.bytes, Some(6_250_000), "one bandwidth-delay product");
    }

    #[test]
    fn bursts_take_the_place_of_single_losses() {
        let links = bench(&["--burst", "8", "--loss", "2"]).unwrap().links;
        let impairments = &emulated(&links[0]).forward.impairments;
        assert_eq!(impairments.loss, 0.0);
        let burst = impairments.burst_loss.unwrap();
        assert_eq!((burst.mean_loss, burst.mean_burst_packets), (0.02, 8.0));
    }

    #[test]
    fn a_wrong_value_is_told_its_range_or_form() {
        let table: [(&[&str], &str); 9] = [
            (&["--loss", "0,51"], "--loss 51: must be a share from 0 to 50 percent"),
            (&["--loss", "-1"], "--loss -1: must be a share from 0 to 50 percent"),
            (&["--rtt", "10"], "--rtt 10: a time looks like 500ms, 10s or 2m"),
            (&["--rtt", "1us"], "--rtt 1us: a round trip is from 50\u{b5}s to 5s"),
            (&["--rate", "3G"], "--rate 3G: a rate is from 100 kbit/s to 2 Gbit/s"),
            (&["--runs", "0"], "--runs 0: must be a number from 1 to 1000"),
            (&["--burst", "0"], "--burst 0: must be a number from 1 to 10000"),
            (&["--against", "ufx,ufx"], "--against ufx: is named twice"),
            (&["--against", "nc=x"], "--against nc=x: a program looks like NAME='RECV ;; SEND'"),
        ];
        for (words, message) in table {
            let words: Vec<String> = match words {
                [option, value] => vec![format!("{option}={value}")],
                _ => unreachable!("an option and its value"),
            };
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            assert_eq!(bench(&words).unwrap_err(), message);
        }
    }

    #[test]
    fn a_tool_is_two_shell_commands_and_may_contain_commas() {
        let options = bench(&["--against", "ufx,x=listen a,b ;; talk {host} = c,d"]).unwrap();
        let tool =
            ContestantOptions::Tool("x".into(), "listen a,b".into(), "talk {host} = c,d".into());
        assert_eq!(options.contestants, [ContestantOptions::Ufx(None), tool.clone()]);
        let contestant = tool.on(&options.links[0], "ufx");
        assert_eq!(contestant.receive, ["sh", "-c", "listen a,b"]);
        assert_eq!(contestant.kind, Kind::Tool);
    }

    #[test]
    fn a_fixed_rate_follows_the_link_and_needs_one() {
        let options = bench(&["--against", "ufx:fixed", "--rate", "10M"]).unwrap();
        let send = options.contestants[0].on(&options.links[0], "ufx").send;
        assert!(send.ends_with(&["--rate".into(), "9600000".into()]), "{send:?}");
        let error = bench(&["--against", "ufx:fixed", "--native", "veth"]).unwrap_err();
        assert!(error.contains("needs a link with a rate"), "{error}");
    }
}
