//! The clock on the wall: a file over loopback with ufx's program, and with plain TCP between
//! sendfile and pwrite. Both write a fresh file in memory; processes are started for both.
//!
//! `cargo bench --bench loopback`; medians with CPU time: `ufx bench --native --size 1GB`

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ufx");

/// A file, and a place to receive it.
struct Sample {
    directory: tempfile::TempDir,
    source: PathBuf,
}

impl Sample {
    fn new(bytes: u64) -> io::Result<Sample> {
        let memory = Path::new("/dev/shm");
        let directory = match memory.is_dir() {
            true => tempfile::tempdir_in(memory)?,
            false => tempfile::tempdir()?,
        };
        let source = directory.path().join("source");
        io::copy(&mut io::repeat(0xa5).take(bytes), &mut File::create(&source)?)?;
        Ok(Sample { directory, source })
    }

    /// Copies it once; the time from the sender's start to its end. `words` are those of the
    /// receiver and of the sender.
    fn time(&self, port: u16, words: [&[&str]; 2]) -> io::Result<Duration> {
        let target = self.directory.path().join("target");
        fs::create_dir(&target)?;
        let [mut receive, mut send] = words.map(|words| {
            let mut command = Command::new(PROGRAM);
            command.args(words).current_dir(&target).stdin(Stdio::null()).stdout(Stdio::null());
            command
        });
        let mut receiver = receive.spawn()?;
        while !listens(port) && receiver.try_wait()?.is_none() {
            std::thread::yield_now();
        }
        let began = Instant::now();
        let sent = send.status();
        let took = began.elapsed();
        end(&mut receiver)?;
        let arrived = target.join("source").metadata().map(|metadata| metadata.len());
        fs::remove_dir_all(&target)?;
        assert!(sent?.success(), "the sender failed");
        assert_eq!(arrived?, self.source.metadata()?.len());
        Ok(took)
    }

    fn time_ufx(&self) -> io::Result<Duration> {
        let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let (number, source) = (port.to_string(), self.source.to_string_lossy());
        let receive = ["recv", "-q", "--once", "--bind", "127.0.0.1", "--port", &number];
        self.time(port, [&receive, &["send", "-q", "--port", &number, &source, "127.0.0.1"]])
    }

    fn time_tcp(&self) -> io::Result<Duration> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let (number, source) = (port.to_string(), self.source.to_string_lossy());
        let receive = ["tcp-copy", "recv", "reno", ".", "source", &number];
        self.time(port, [&receive, &["tcp-copy", "send", "reno", &source, "127.0.0.1", &number]])
    }
}

/// Whether a socket of this machine is bound to the port.
fn listens(port: u16) -> bool {
    let local = format!(":{port:04X} ");
    ["tcp", "udp", "udp6"].into_iter().any(|protocol| {
        let table = fs::read_to_string(format!("/proc/net/{protocol}")).unwrap_or_default();
        table.contains(&local)
    })
}

/// A receiver ends with its transfer; one whose sender failed does not.
fn end(receiver: &mut Child) -> io::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while receiver.try_wait()?.is_none() {
        if Instant::now() > deadline {
            receiver.kill()?;
        }
        std::thread::yield_now();
    }
    Ok(())
}

fn copies(criterion: &mut Criterion) {
    // `cargo bench` says so to its benches; `cargo test` runs them once, to see that they do.
    let is_bench = std::env::args().any(|word| word == "--bench");
    let bytes = if is_bench { 1 << 30 } else { 1 << 20 };
    let sample = Sample::new(bytes).expect("there is room for the file");
    let mut group = criterion.benchmark_group("loopback");
    group.sample_size(10).throughput(Throughput::Bytes(bytes));
    let mut compare = |name, time: fn(&Sample) -> io::Result<Duration>| {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                (0..times).map(|_| time(&sample).expect("a copy over loopback")).sum()
            });
        });
    };
    compare("ufx", Sample::time_ufx);
    compare("tcp", Sample::time_tcp);
    group.finish();
}

criterion_group!(benches, copies);
criterion_main!(benches);
