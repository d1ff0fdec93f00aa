//! ufx copies files between machines over UDP with its own reliability layer.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "ufx is built for Linux only: its data path needs UDP_SEGMENT, openat2 and renameat2"
);

pub mod cli;
pub mod compare;
pub mod io;
pub mod proto;
pub mod sim;
pub mod wire;
