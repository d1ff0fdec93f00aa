//! Bytes to values and back: every packet of proto.md. No state, no time, no peer.
