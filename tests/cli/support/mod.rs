//! What the end-to-end tests share: processes that cannot outlive their test, content made from
//! a seed, trees compared, reports checked, and what needs root.

pub mod content;
pub mod disk;
pub mod process;
pub mod relay;
pub mod report;
pub mod root;
pub mod transfer;
pub mod tree;
