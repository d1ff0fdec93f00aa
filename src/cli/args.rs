//! What was typed: the grammar of the command line and its help. Leaves the meaning of every
//! value, and errors about it, to `options`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use super::bench::args::{BenchArguments, TcpCopyArguments};
use super::exit::EXIT_CODES_HELP;
use super::output;
use crate::io::defaults;

const EXAMPLES_HELP: &str = "\
Examples:
  ufx recv --dir incoming             receive from this network until Ctrl-C
  ufx send photos notes.txt nas       send a directory and a file to the host nas";

const SEND_USAGE: &str = "\
ufx send [OPTIONS] PATH... HOST

  PATH  a file or directory; lands under its last component; \"-\" alone is standard input
  HOST  name or address of the machine where \"ufx recv\" runs";

const SEND_EXAMPLES_HELP: &str = "\
Examples:
  ufx send photos notes.txt nas       both land in the receiver's directory
  ufx send --rate 200M photos nas     leave room for others
  ufx send --json disk.img 10.0.0.7   one JSON object at the end, on stdout
  ufx send -n photos nas              only list what would move
  tar c . | ufx send - nas            what a program writes, as one file";

const RECV_EXAMPLES_HELP: &str = "\
Examples:
  ufx recv                            into the current directory, until Ctrl-C
  ufx recv --dir incoming --once      one transfer; its result is the exit code
  ufx recv --allow 203.0.113.0/24     let that network send as well
  ufx recv -o - | tar x               one file, to a program instead of into a directory";

/// What makes no sense where nothing is stored.
const OUTPUT_CONFLICTS: [&str; 5] = ["dir", "existing", "fsync", "archive", "json"];

/// Copy files and directories to another machine over UDP, fast and verified
#[derive(Debug, Parser)]
#[command(name = "ufx", version, disable_help_subcommand = true, disable_help_flag = true)]
#[command(after_help = format!("{EXAMPLES_HELP}\n\n{EXIT_CODES_HELP}"))]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// Print help
    // One form for -h and --help: clap's long form triples the length and says no more.
    #[arg(short, long, global = true, display_order = 1_000, action = ArgAction::HelpShort)]
    pub help: Option<bool>,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send files and directories to a waiting "ufx recv"
    Send(SendArguments),
    /// Receive files into a directory
    Recv(RecvArguments),
    /// Compare ufx with TCP on this machine under loss
    Bench(Box<BenchArguments>),
    /// What the bench runs as its TCP contestants.
    #[command(hide = true)]
    TcpCopy(TcpCopyArguments),
}

/// `ufx send` as typed.
#[derive(Debug, Args)]
#[command(override_usage = SEND_USAGE)]
#[command(after_help = format!("{SEND_EXAMPLES_HELP}\n\n{EXIT_CODES_HELP}"))]
pub struct SendArguments {
    /// PATH... and, last, HOST: one list, so that options may stand anywhere among them.
    #[arg(value_name = "PATH... HOST", hide = true)]
    pub operands: Vec<OsString>,

    /// Leave out what matches: "*.tmp" by name, "photos/raw" by path, "cache/" directories only;
    /// repeatable
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<OsString>,

    /// Send what this file ("-": standard input) lists, a name a line, instead of PATHs;
    /// directories without what is in them
    #[arg(long, value_name = "FILE")]
    pub files_from: Option<PathBuf>,

    /// What "-" (standard input) lands under [default: stdin]
    #[arg(long, value_name = "NAME")]
    pub name: Option<OsString>,

    /// The names of --files-from end with a zero byte, as from "find -print0"
    #[arg(short = '0', long, requires = "files_from")]
    pub null: bool,

    /// UDP port of the receiver
    #[arg(long, value_name = "N", default_value_t = defaults::PORT.to_string())]
    pub port: String,

    /// Send no faster than this: 200M, 950Mbit/s or, in bytes, 25MB/s [default: no limit]
    #[arg(long, value_name = "RATE")]
    pub rate: Option<String>,

    /// Largest IP packet in bytes [default: found out on the way]
    #[arg(long, value_name = "N")]
    pub mtu: Option<String>,

    /// What each block is verified by, besides the CRC of its packets
    #[arg(long, value_name = "KIND", value_enum, default_value_t)]
    pub digest: DigestKind,

    /// How the rate is found; fixed keeps to --rate whatever gets lost
    #[arg(long, value_name = "KIND", value_enum, default_value_t)]
    pub cc: ControllerKind,

    /// Wait this long for the receiver's first answer
    #[arg(long, value_name = "TIME", default_value_t = output::duration_typed(defaults::WAIT))]
    pub wait: String,

    /// Ask the receiver and list what would move; send no file
    #[arg(short = 'n', long)]
    pub dry_run: bool,

    /// What both subcommands take.
    #[command(flatten)]
    pub common: CommonArguments,
}

/// `ufx recv` as typed.
#[derive(Debug, Args)]
#[command(after_help = format!("{RECV_EXAMPLES_HELP}\n\n{EXIT_CODES_HELP}"))]
pub struct RecvArguments {
    /// Where received files go; made if its parent exists
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,

    /// Hand one file on to standard output ("-"), in order, instead of storing it; implies --once
    #[arg(short, long, value_name = "-", conflicts_with_all = OUTPUT_CONFLICTS)]
    pub output: Option<OsString>,

    /// Listen on this address only [default: all, IPv4 and IPv6]
    #[arg(long, value_name = "ADDRESS")]
    pub bind: Option<String>,

    /// UDP port; 0 takes any free one and tells which
    #[arg(long, value_name = "N", default_value_t = defaults::PORT.to_string())]
    pub port: String,

    /// What to do where a different file has the name; "rename" stores as "name (1).ext"
    #[arg(long, value_name = "WHAT", value_enum, default_value_t)]
    pub existing: ExistingKind,

    /// End after one transfer, with its result as exit code
    #[arg(long)]
    pub once: bool,

    /// Let this network, address or "any" send too; repeatable [default: local networks only]
    #[arg(long, value_name = "CIDR")]
    pub allow: Vec<String>,

    /// Report a file as committed only once it would survive a power cut
    #[arg(long)]
    pub fsync: bool,

    /// Socket receive buffer to ask for, as in 4MiB [default: as much as helps]
    #[arg(long, value_name = "SIZE")]
    pub buffer: Option<String>,

    /// What both subcommands take.
    #[command(flatten)]
    pub common: CommonArguments,
}

/// Options of both subcommands.
#[derive(Debug, Args)]
pub struct CommonArguments {
    /// Keep owners (by number), extended attributes, and setuid, setgid and sticky bits; needed at
    /// both ends
    #[arg(short, long)]
    pub archive: bool,

    /// Symbolic links to send or take: those that stay inside their tree, or all
    #[arg(long, value_name = "WHICH", value_enum, default_value_t)]
    pub links: LinkKind,

    /// How datagrams pass the kernel: in one piece, many a call, or one a call
    #[arg(long, value_name = "KIND", value_enum, default_value_t)]
    pub offload: OffloadKind,

    /// Give a silent peer up after this long
    #[arg(long, value_name = "TIME", default_value_t = output::duration_typed(defaults::TIMEOUT))]
    pub timeout: String,

    /// Print the result as one JSON object per transfer on stdout
    #[arg(long)]
    pub json: bool,

    /// Say nothing but errors
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Say more
    #[arg(short, long)]
    pub verbose: bool,
}

/// `--digest`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DigestKind {
    /// xxh3-128: faster than any network.
    #[default]
    Xxh3,
    /// BLAKE3: cryptographic; for one file it equals `b3sum`.
    Blake3,
    /// The packets' CRC alone.
    None,
}

/// `--cc`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ControllerKind {
    /// Finds the rate and keeps finding it.
    #[default]
    Auto,
    /// BBR version 3: a model of rate and RTT that gives way at 2 % of loss.
    Bbr,
    /// CUBIC: gives way at each loss.
    Cubic,
    /// Keeps to `--rate`.
    Fixed,
}

/// `--offload`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OffloadKind {
    /// UDP_SEGMENT and UDP_GRO, falling back at run time.
    #[default]
    Gso,
    /// Many datagrams per system call.
    Batch,
    /// One datagram per system call.
    Single,
}

/// `--existing`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ExistingKind {
    /// The file is not stored, which is a failure.
    #[default]
    Refuse,
    /// The file is not stored, which is no failure.
    Skip,
    /// The file is stored under another name.
    Rename,
    /// The file takes its place, once it is complete.
    Replace,
    /// The same if the file is newer, else it is not stored.
    Update,
}

/// `--links`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LinkKind {
    /// Those whose target is inside what is sent; the others are skipped and named.
    #[default]
    Inside,
    /// All, wherever they point.
    All,
}
