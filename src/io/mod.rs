//! The only place with sockets, files, threads, the clock, entropy and `unsafe`.
