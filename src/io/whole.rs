//! Reads and writes whole ranges of files: what the kernel does in part, or breaks off for a
//! signal, is repeated.

use std::io::IoSliceMut;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

/// Fills all of `buffers` from byte `offset` on; false if the file ends before that. The buffers
/// stay as long as they are: callers go on with what was read.
pub fn read_full(
    file: &OwnedFd,
    buffers: &mut [IoSliceMut<'_>],
    mut offset: u64,
) -> rustix::io::Result<bool> {
    let mut full = 0;
    while let Some(unread) = buffers.get_mut(full..).filter(|unread| !unread.is_empty()) {
        // In front, an empty one would make a read of 0 bytes look like the end of the file.
        if unread.first().is_some_and(|first| first.is_empty()) {
            full += 1;
            continue;
        }
        let mut read = match rustix::io::preadv(file, unread, offset) {
            Ok(0) => return Ok(false),
            Ok(read) => read,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno),
        };
        offset += read as u64;
        for buffer in unread {
            if read < buffer.len() {
                // The read ended within this one: the rest of it by itself.
                if read > 0 {
                    let rest = buffer.get_mut(read..).unwrap_or_default();
                    if read_some(file, rest, offset)? < rest.len() {
                        return Ok(false);
                    }
                    offset += rest.len() as u64;
                    full += 1;
                }
                break;
            }
            read -= buffer.len();
            full += 1;
        }
    }
    Ok(true)
}

/// Fills as much of `buffer` as there is from `offset` on; says how much.
pub fn read_some(file: &OwnedFd, buffer: &mut [u8], offset: u64) -> rustix::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pread(file, rest, offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(filled)
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn reads_that_end_anywhere_fill_buffers_that_keep_their_lengths() {
        // The kernel gives what is in it in pieces of about a page.
        let path = "/proc/kallsyms";
        let Ok(expected) = fs::read(path) else { return };
        let file = OwnedFd::from(fs::File::open(path).unwrap());
        let bytes = expected.len().min(100_000);
        let mut storage = vec![0; bytes];
        let mut slots: Vec<IoSliceMut<'_>> =
            storage.chunks_mut(1_452).map(IoSliceMut::new).collect();
        let lengths: Vec<usize> = slots.iter().map(|slot| slot.len()).collect();
        assert_eq!(read_full(&file, &mut slots, 0), Ok(true));
        assert!(slots.iter().map(|slot| slot.len()).eq(lengths));
        assert!(storage == expected[..bytes]);

        let mut beyond = vec![0; 100];
        let mut slot = [IoSliceMut::new(&mut beyond)];
        assert_eq!(read_full(&file, &mut slot, expected.len() as u64 - 50), Ok(false));
    }
}
