//! Plain TCP file copies, the kernel's congestion controls as contestants: `sendfile` on one
//! side, `read` and `pwrite` on the other, into the same kind of file that ufx writes.
//!
//! The wire: 8 bytes of length, the file, and one byte back when all of it is written.
//! Buffers are the kernel's defaults with its autotuning, as every program gets them.

use std::fs::File;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use rustix::fs::sendfile;
use rustix::io::Errno;

use crate::io::confine::{FileError, Root};
use crate::io::files::TempFile;
use crate::io::journal::Subject;
use crate::io::metadata::Timestamp;
use crate::io::name::RelativePath;

/// Read and written at once: larger ones are no faster (measured), and fall out of the cache.
const COPY_BYTES: usize = 256 << 10;

/// Asked of `sendfile` at once; it returns when the socket's buffer is full anyway.
const SENDFILE_BYTES_MAX: usize = 1 << 30;

/// Says that all is written.
const DONE: [u8; 1] = [1];

/// Why a copy failed.
#[derive(Debug, thiserror::Error)]
pub enum TcpError {
    /// A socket or the source.
    #[error("cannot {step}: {error}")]
    Io {
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
    /// The kernel has no such congestion control, or does not allow it.
    #[error("no congestion control {name} here: {errno}")]
    Congestion {
        /// Its name.
        name: String,
        /// What the kernel said.
        errno: Errno,
    },
    /// The destination.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Sends a file and waits until the receiver has written it.
pub fn send(file: &Path, to: SocketAddr, congestion: &str) -> Result<(), TcpError> {
    let source = File::open(file).map_err(|error| io_error("open the file", error))?;
    let size = source.metadata().map_err(|error| io_error("look at the file", error))?.len();
    let mut stream = TcpStream::connect(to).map_err(|error| io_error("connect", error))?;
    set_congestion(&stream, congestion)?;
    stream.write_all(&size.to_be_bytes()).map_err(|error| io_error("send", error))?;
    let mut left = size;
    while left > 0 {
        let wanted = SENDFILE_BYTES_MAX.min(usize::try_from(left).unwrap_or(usize::MAX));
        match sendfile(&stream, &source, None, wanted) {
            Ok(0) => return Err(io_error("send", io::ErrorKind::UnexpectedEof.into())),
            Ok(sent) => left -= sent as u64,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(io_error("send", errno.into())),
        }
    }
    stream.read_exact(&mut [0; DONE.len()]).map_err(|error| io_error("end", error))
}

/// Takes one file and puts it into a directory under the name given.
pub fn receive(
    dir: &Path,
    name: &RelativePath,
    port: u16,
    congestion: &str,
) -> Result<(), TcpError> {
    let root = Root::open(dir)?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
        .map_err(|error| io_error("listen", error))?;
    let (mut stream, _) = listener.accept().map_err(|error| io_error("accept", error))?;
    set_congestion(&stream, congestion)?;
    let mut size = [0; 8];
    stream.read_exact(&mut size).map_err(|error| io_error("receive", error))?;
    let size = u64::from_be_bytes(size);
    let file = TempFile::create(&root, name, &Subject::not_kept(size), 0o600, false)?;
    let mut buffer = vec![0; COPY_BYTES];
    let mut offset = 0;
    while offset < size {
        let wanted = COPY_BYTES.min(usize::try_from(size - offset).unwrap_or(COPY_BYTES));
        let length = match stream.read(&mut buffer[..wanted]) {
            Ok(0) => return Err(io_error("receive", io::ErrorKind::UnexpectedEof.into())),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(io_error("receive", error)),
        };
        file.write_at(&mut [IoSlice::new(&buffer[..length])], offset)?;
        offset += length as u64;
    }
    file.commit(FILE_MODE, Timestamp::default(), false)?;
    stream.write_all(&DONE).map_err(|error| io_error("end", error))
}

/// The mode of received files: nobody but the user who runs the bench.
const FILE_MODE: u32 = 0o600;

fn set_congestion(stream: &TcpStream, name: &str) -> Result<(), TcpError> {
    rustix::net::sockopt::set_tcp_congestion(stream, name)
        .map_err(|errno| TcpError::Congestion { name: name.to_owned(), errno })
}

fn io_error(step: &'static str, error: io::Error) -> TcpError {
    TcpError::Io { step, error }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_file_is_copied_whole_over_loopback() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("source");
        let content: Vec<u8> = (0..1_000_003_u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&source, &content).unwrap();
        // A free port: bound, then given up again.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let name = RelativePath::parse(b"copy").unwrap();
        thread::scope(|scope| {
            let receiver = scope.spawn(|| receive(directory.path(), &name, port, "reno"));
            while let Err(error) = send(&source, to, "reno") {
                assert!(matches!(error, TcpError::Io { step: "connect", .. }), "{error}");
                assert!(!receiver.is_finished(), "the receiver ended early");
                thread::yield_now();
            }
            receiver.join().unwrap().unwrap();
        });
        assert_eq!(std::fs::read(directory.path().join("copy")).unwrap(), content);
    }

    #[test]
    fn an_unknown_congestion_control_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let error = set_congestion(&stream, "nosuch").unwrap_err();
        assert!(error.to_string().contains("nosuch"), "{error}");
    }
}
