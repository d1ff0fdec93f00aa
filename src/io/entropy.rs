//! Chance that nobody can predict: the machines draw their ids, seeds and keys from it.

use rand::TryRng;
use rand::rngs::SysRng;

/// Unpredictable bytes from the operating system.
///
/// # Errors
/// It gives none.
pub fn unpredictable() -> std::io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    SysRng.try_fill_bytes(&mut seed).map_err(std::io::Error::other)?;
    Ok(seed)
}
