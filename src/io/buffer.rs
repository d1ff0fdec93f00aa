//! Slabs that datagrams are received into, and the pool they come from and return to. A buffer is
//! owned, so that the receiving thread can hand payloads to a writer without copying them, and a
//! fixed number of them bounds the memory between network and disk. Filling is for `batch`.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The room that one receive needs: the kernel merges datagrams up to 65,535 bytes, and silently
/// drops what does not fit into the buffer (measured).
pub const RECEIVE_BYTES: usize = 65_536;

/// At most so many arrivals stand in one buffer, so that tiny datagrams cannot make it grow. More
/// than a 256 KiB slab holds in slots of 2 KiB.
const ARRIVALS_MAX: usize = 256;

/// One receive: a datagram, or several of equal size that the kernel merged (the last may be
/// shorter).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Where the first byte stands in [`Buffer::bytes`].
    pub start: usize,
    /// All bytes of the arrival.
    pub length: usize,
    /// The size of each datagram but the last; never zero.
    pub segment_bytes: usize,
    /// Who sent it. An IPv4 address is never written as an IPv6 one.
    pub from: SocketAddr,
    /// The address of ours it was sent to, with the scope of a link-local one: what
    /// `Socket::accept_from` binds to. Only a listening socket knows.
    pub to: Option<SocketAddr>,
}

/// One datagram in a [`Buffer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// What the peer sent.
    pub bytes: &'a [u8],
    /// Where `bytes` stands in [`Buffer::bytes`], for whoever holds the buffer later.
    pub range: Range<usize>,
    /// The receive it came with: addresses and marks.
    pub arrival: &'a Arrival,
}

/// A slab of received datagrams; returns to its pool when dropped.
#[derive(Debug)]
pub struct Buffer {
    storage: Storage,
    filled: usize,
    home: Arc<Mutex<Stock>>,
}

/// Buffers that were made or may still be made. Clones share one stock.
#[derive(Clone, Debug)]
pub struct BufferPool {
    stock: Arc<Mutex<Stock>>,
    slab_bytes: usize,
}

/// What a buffer owns; kept for reuse with its capacity.
#[derive(Debug, Default)]
struct Storage {
    slab: Box<[u8]>,
    arrivals: Vec<Arrival>,
}

#[derive(Debug)]
struct Stock {
    free: Vec<Storage>,
    /// How many buffers may still be allocated.
    unmade: usize,
}

impl BufferPool {
    /// A pool of at most `buffers_max` buffers of `slab_bytes` each, raised to the room that one
    /// receive needs. Memory is allocated when a buffer is first taken.
    pub fn new(buffers_max: usize, slab_bytes: usize) -> BufferPool {
        let stock = Stock { free: Vec::with_capacity(buffers_max), unmade: buffers_max };
        BufferPool { stock: Arc::new(Mutex::new(stock)), slab_bytes: slab_bytes.max(RECEIVE_BYTES) }
    }

    /// An empty buffer, or `None` when all are in use: then the writers are behind.
    pub fn take(&self) -> Option<Buffer> {
        let mut stock = lock(&self.stock);
        let storage = match stock.free.pop() {
            Some(storage) => storage,
            None if stock.unmade > 0 => {
                stock.unmade -= 1;
                // Zeroed memory costs nothing until it is touched.
                Storage {
                    slab: vec![0; self.slab_bytes].into_boxed_slice(),
                    arrivals: Vec::with_capacity(ARRIVALS_MAX),
                }
            }
            None => return None,
        };
        drop(stock);
        Some(Buffer { storage, filled: 0, home: Arc::clone(&self.stock) })
    }

    /// How many buffers can be taken now.
    pub fn available(&self) -> usize {
        let stock = lock(&self.stock);
        stock.free.len() + stock.unmade
    }

    /// Gives the memory of buffers that nobody uses back; as many as before can be taken.
    pub fn release(&self) {
        let mut stock = lock(&self.stock);
        let free = std::mem::take(&mut stock.free);
        stock.unmade += free.len();
        // Whoever needs a buffer meanwhile does not wait for the kernel to unmap those.
        drop(stock);
        drop(free);
    }

    /// The bytes that one buffer holds.
    pub fn slab_bytes(&self) -> usize {
        self.slab_bytes
    }
}

impl Buffer {
    /// Whether another receive fits.
    pub fn has_room(&self) -> bool {
        self.storage.slab.len() - self.filled >= RECEIVE_BYTES
            && self.storage.arrivals.len() < ARRIVALS_MAX
    }

    /// Whether nothing was received into it.
    pub fn is_empty(&self) -> bool {
        self.storage.arrivals.is_empty()
    }

    /// Forgets the datagrams, keeps the memory.
    pub fn clear(&mut self) {
        self.storage.arrivals.clear();
        self.filled = 0;
    }

    /// Everything received, and the gaps between arrivals; `Datagram::range` points into it.
    pub fn bytes(&self) -> &[u8] {
        &self.storage.slab[..self.filled]
    }

    /// The receives in the order in which the kernel delivered them.
    pub fn arrivals(&self) -> &[Arrival] {
        &self.storage.arrivals
    }

    /// The datagrams in the order in which the kernel delivered them.
    pub fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        self.datagrams_from(0)
    }

    /// The datagrams of all but the first `arrivals` receives.
    pub fn datagrams_from(&self, arrivals: usize) -> impl Iterator<Item = Datagram<'_>> {
        self.storage.arrivals.iter().skip(arrivals).flat_map(|arrival| {
            let bytes = &self.storage.slab[arrival.start..arrival.start + arrival.length];
            bytes.chunks(arrival.segment_bytes).enumerate().map(move |(position, bytes)| {
                let start = arrival.start + position * arrival.segment_bytes;
                Datagram { bytes, range: start..start + bytes.len(), arrival }
            })
        })
    }

    /// Appends a copy of a datagram, for which there must be room; returns where it stands.
    pub(super) fn copy(&mut self, datagram: &[u8], arrival: &Arrival) -> Option<usize> {
        let start = self.filled;
        let length = datagram.len();
        self.unused().get_mut(..length)?.copy_from_slice(datagram);
        self.push(Arrival { start, length, segment_bytes: length.max(1), ..*arrival });
        Some(start)
    }

    /// The unused rest of the slab, for a receive.
    pub(super) fn unused(&mut self) -> &mut [u8] {
        &mut self.storage.slab[self.filled..]
    }

    /// How many more arrivals the buffer may list.
    pub(super) fn arrivals_left(&self) -> usize {
        ARRIVALS_MAX - self.storage.arrivals.len()
    }

    /// Lists an arrival. Its start counts from the slab's beginning, and it stands in the unused
    /// rest, behind every arrival listed before.
    pub(super) fn push(&mut self, arrival: Arrival) {
        debug_assert!(arrival.start >= self.filled && arrival.segment_bytes > 0);
        debug_assert!(arrival.start + arrival.length <= self.storage.slab.len());
        self.filled = arrival.start + arrival.length;
        self.storage.arrivals.push(arrival);
    }

    /// Where the unused rest begins.
    pub(super) fn filled(&self) -> usize {
        self.filled
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut storage = std::mem::take(&mut self.storage);
        storage.arrivals.clear();
        lock(&self.home).free.push(storage);
    }
}

/// Locks the stock. A panic elsewhere cannot have left it half changed: every change is one step.
fn lock(stock: &Mutex<Stock>) -> MutexGuard<'_, Stock> {
    stock.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(start: usize, length: usize, segment_bytes: usize) -> Arrival {
        let from = "127.0.0.1:1".parse().unwrap();
        Arrival { start, length, segment_bytes, from, to: None }
    }

    #[test]
    fn merged_arrivals_are_read_as_single_datagrams() {
        let mut buffer = BufferPool::new(1, 0).take().unwrap();
        buffer.unused()[..7].copy_from_slice(b"aabbc.d");
        buffer.push(arrival(0, 5, 2));
        buffer.push(arrival(6, 1, 9));

        let datagrams: Vec<_> = buffer.datagrams().map(|datagram| datagram.bytes).collect();
        assert_eq!(datagrams, [&b"aa"[..], b"bb", b"c", b"d"]);
        for datagram in buffer.datagrams() {
            assert_eq!(datagram.bytes, &buffer.bytes()[datagram.range.clone()]);
        }
    }

    #[test]
    fn a_pool_hands_out_no_more_than_its_limit_and_takes_dropped_buffers_back() {
        let pool = BufferPool::new(2, 100_000);
        let mut first = pool.take().unwrap();
        first.push(arrival(0, 5, 5));
        let second = pool.take().unwrap();
        assert!(pool.take().is_none());
        assert_eq!(pool.available(), 0);

        std::thread::scope(|scope| {
            scope.spawn(move || drop(first));
        });
        assert_eq!(pool.available(), 1);
        assert!(pool.take().unwrap().is_empty());
        drop(second);
        assert_eq!(pool.available(), 2);
    }

    #[test]
    fn a_pool_that_was_released_hands_out_as_many_as_before() {
        let pool = BufferPool::new(2, 0);
        let kept = pool.take().unwrap();
        drop(pool.take());
        pool.release();
        assert!(lock(&pool.stock).free.is_empty());
        assert_eq!(pool.available(), 1);
        drop(kept);
        assert_eq!(pool.available(), 2);
    }

    #[test]
    fn a_buffer_is_full_when_a_whole_receive_no_longer_fits() {
        let mut buffer = BufferPool::new(1, 2 * RECEIVE_BYTES).take().unwrap();
        buffer.push(arrival(0, RECEIVE_BYTES, 1_472));
        assert!(buffer.has_room());
        buffer.push(arrival(RECEIVE_BYTES, 1, 1));
        assert!(!buffer.has_room());
        buffer.clear();
        assert!(buffer.has_room() && buffer.is_empty());
    }

    #[test]
    fn tiny_datagrams_fill_a_buffer_by_their_number() {
        let mut buffer = BufferPool::new(1, 2 * RECEIVE_BYTES).take().unwrap();
        let mut pushed = 0;
        while buffer.has_room() {
            buffer.push(arrival(pushed, 1, 1));
            pushed += 1;
        }
        assert_eq!(pushed, ARRIVALS_MAX);
    }
}
