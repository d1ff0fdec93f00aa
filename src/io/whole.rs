//! Reads and writes whole ranges of files: what the kernel does in part, or breaks off for a
//! signal, is repeated.

use std::io::IoSliceMut;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

/// Fills all of `buffers` from byte `offset` on; false if the file ends before that.
pub fn read_full(
    file: &OwnedFd,
    mut buffers: &mut [IoSliceMut<'_>],
    mut offset: u64,
) -> rustix::io::Result<bool> {
    // Empty slices in front would make a read of 0 bytes look like the end of the file.
    IoSliceMut::advance_slices(&mut buffers, 0);
    while !buffers.is_empty() {
        match rustix::io::preadv(file, buffers, offset) {
            Ok(0) => return Ok(false),
            Ok(read) => {
                IoSliceMut::advance_slices(&mut buffers, read);
                offset += read as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(true)
}

/// Fills as much of `buffer` as there is from `offset` on. None on an error.
pub fn read_some(file: &OwnedFd, buffer: &mut [u8], offset: u64) -> Option<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pread(file, rest, offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
    Some(filled)
}

/// Writes all of `bytes` from `offset` on.
pub fn write_all(file: &OwnedFd, mut bytes: &[u8], mut offset: u64) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, offset) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => {
                bytes = bytes.get(written..).unwrap_or_default();
                offset += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
