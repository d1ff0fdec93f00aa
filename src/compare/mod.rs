//! What `ufx bench` runs: contestants, the emulated link, the report.
