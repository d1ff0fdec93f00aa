//! Keeps every path below one directory, by held descriptors.
