//! `ufx bench` as typed, and the hidden commands that its own contestants run as. Leaves the
//! meaning of the values to `options`.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::compare::defaults;

const EXAMPLES_HELP: &str = "\
The link is emulated packet by packet between two network namespaces of this machine. Nothing
leaves it, files stay in memory, and no root is needed where user namespaces are allowed.

Examples:
  ufx bench                                        ufx, reno, cubic and bbr in about a minute
  ufx bench --rate 1G --rtt 0.2ms,10ms --loss 0,1 --size 200MB
  ufx bench --loss 2 --burst 8 --against ufx,bbr   losses 8 in a row on average
  ufx bench --native veth --size 1GB               no emulator: what the kernel can do
  ufx bench nas                                    to a real host: network, CPU or disk?
  ufx bench --against 'ufx,nc=nc -l -p 9 -q 0 > {dir}/{name} ;; nc -q 0 {host} 9 < {file}'";

/// `ufx bench` as typed.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES_HELP)]
pub struct BenchArguments {
    /// Measure the real path to this host, where "ufx recv" runs, instead of an emulated link
    #[arg(value_name = "HOST",
        conflicts_with_all = ["loss", "burst", "rtt", "rate", "queue", "jitter", "reorder",
            "duplicate", "corrupt", "cap", "seed", "against", "native", "svg"])]
    pub host: Option<OsString>,

    /// With HOST: the receiver's port [default: 8390]
    #[arg(long, value_name = "N", requires = "host")]
    pub port: Option<String>,

    /// Lose this share of the packets in each direction, in percent; several with commas
    #[arg(long, value_name = "LIST", default_value = defaults::LOSS)]
    pub loss: String,

    /// Lose so many packets in a row on average, instead of each by itself
    #[arg(long, value_name = "PACKETS")]
    pub burst: Option<String>,

    /// Round-trip time of the empty link; several with commas
    #[arg(long, value_name = "LIST", default_value = defaults::RTT)]
    pub rtt: String,

    /// Rate of the link in both directions; several with commas
    #[arg(long, value_name = "LIST", default_value = defaults::RATE)]
    pub rate: String,

    /// Queue in front of the link [default: rate x round trip, at least 256 kB]
    #[arg(long, value_name = "SIZE")]
    pub queue: Option<String>,

    /// Delay each packet by up to this much more; they may overtake each other
    #[arg(long, value_name = "TIME")]
    pub jitter: Option<String>,

    /// Hold this share of the packets back by 2 ms, in percent
    #[arg(long, value_name = "PERCENT")]
    pub reorder: Option<String>,

    /// Deliver this share of the packets twice, in percent
    #[arg(long, value_name = "PERCENT")]
    pub duplicate: Option<String>,

    /// Damage this share of the packets so that TCP's and UDP's checksum hold, in percent
    #[arg(long, value_name = "PERCENT")]
    pub corrupt: Option<String>,

    /// Size of the file [default: 12.5MB; to a HOST what takes seconds]
    #[arg(long, value_name = "SIZE")]
    pub size: Option<String>,

    /// Runs of each contestant on each link; they take turns
    #[arg(long, value_name = "N", default_value = defaults::RUNS)]
    pub runs: String,

    /// End a run after this long [default: 3 times what the link needs]
    #[arg(long, value_name = "TIME")]
    pub cap: Option<String>,

    /// Names the packets that are lost: the n-th of a direction meets the same fate each time
    #[arg(long, value_name = "N", default_value = defaults::SEED)]
    pub seed: String,

    /// Contestants: ufx, ufx:KIND (as in ufx send --cc), what this kernel has of reno, cubic,
    /// bbr, ..., and at the end or alone NAME='RECV ;; SEND' for any other program
    #[arg(long, value_name = "LIST", default_value = defaults::AGAINST)]
    pub against: Vec<String>,

    /// No emulated link, all offloads on
    #[arg(long, value_name = "DEVICE", value_enum, num_args = 0..=1,
        default_missing_value = "loopback",
        conflicts_with_all = ["loss", "burst", "rtt", "rate", "queue", "jitter", "reorder",
            "duplicate", "corrupt"])]
    pub native: Option<NativeKind>,

    /// Print one JSON object instead of the table
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,

    /// Print comma-separated values instead of the table
    #[arg(long)]
    pub csv: bool,

    /// Draw goodput over loss into this file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,

    /// No progress
    #[arg(short, long)]
    pub quiet: bool,
}

/// `--native`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NativeKind {
    /// One host that talks to itself.
    Loopback,
    /// Two hosts with a pair of Ethernet devices.
    Veth,
}

/// One end of a plain TCP copy: what the bench runs as reno, cubic, bbr.
#[derive(Debug, Args)]
pub struct TcpCopyArguments {
    /// Which end.
    #[command(subcommand)]
    pub end: TcpEnd,
}

/// The ends of a plain TCP copy.
#[derive(Debug, Subcommand)]
pub enum TcpEnd {
    /// Sends FILE to HOST.
    Send {
        /// Congestion control.
        congestion: String,
        /// What to send.
        file: PathBuf,
        /// The receiver's address.
        host: IpAddr,
        /// Its port.
        #[arg(default_value_t = defaults::TCP_PORT)]
        port: u16,
    },
    /// Receives one file into DIR as NAME.
    Recv {
        /// Congestion control.
        congestion: String,
        /// Where to.
        dir: PathBuf,
        /// The file's name.
        name: String,
        /// The port to listen on.
        #[arg(default_value_t = defaults::TCP_PORT)]
        port: u16,
    },
}
