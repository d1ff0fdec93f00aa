//! A network and a disk in virtual time, driven by a seed.
