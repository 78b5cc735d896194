//! Test data: written, read back from the server, compared by hash.

use std::fs::File;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use sha2::Digest;
use sha2::Sha256;

use crate::failure::During;
use crate::failure::Result;

/// The size of one write call.
pub const BLOCK: usize = 1 << 20;
/// Stands at the start of every block: what a capture is searched for.
pub const MARKER: &[u8] = b"alinas-csi secret of the customer";

/// What a write was like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// SHA-256 of all that was written.
    pub hash: [u8; 32],
    /// The longest that one write-and-sync of a block took.
    pub longest_pause: Duration,
}

/// Writes `blocks` blocks of bytes that no compressor shrinks, each synced to the server.
///
/// `before` is called before each block, with its number.
///
/// # Errors
/// When the file cannot be written, or what `before` answers.
pub fn write(
    path: &Path,
    blocks: usize,
    mut before: impl FnMut(usize) -> Result<()>,
) -> Result<Written> {
    let what = format!("failed to write {}", path.display());
    let mut file = File::create(path).during(&what)?;
    let mut hash = Sha256::new();
    let mut longest_pause = Duration::ZERO;
    for number in 0..blocks {
        before(number)?;
        let block = block(number);
        hash.update(&block);
        let start = Instant::now();
        file.write_all(&block).during(&what)?;
        file.sync_data().during(&what)?;
        longest_pause = longest_pause.max(start.elapsed());
    }
    drop(file);
    Ok(Written { hash: hash.finalize().into(), longest_pause })
}

/// The hash of a file as the server has it: this node's cached pages of it are dropped first.
///
/// # Errors
/// When the file cannot be read.
pub fn hash_on_server(path: &Path) -> Result<[u8; 32]> {
    let what = format!("failed to read {}", path.display());
    let mut file = File::open(path).during(&what)?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).during(&what)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BLOCK];
    loop {
        let read = file.read(&mut buffer).during(&what)?;
        if read == 0 {
            return Ok(hash.finalize().into());
        }
        hash.update(&buffer[..read]);
    }
}

/// 32 bytes from the middle of each of some blocks.
#[must_use]
pub fn samples(blocks: usize) -> Vec<[u8; 32]> {
    let numbers = (0..blocks).step_by(blocks.div_ceil(8).max(1));
    let middle = |block: Vec<u8>| block[BLOCK / 2..].first_chunk().copied().unwrap_or_default();
    numbers.map(|number| middle(block(number))).collect()
}

/// A block: the marker, then the output of a small generator (xorshift64*) seeded by the number.
fn block(number: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ (number as u64 + 1);
    let mut bytes = MARKER.to_vec();
    while bytes.len() < BLOCK {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend(state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(BLOCK);
    bytes
}

/// The first 16 digits of a hash, for people.
#[must_use]
pub fn short(hash: &[u8; 32]) -> String {
    hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_back_has_the_hash_of_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("data");
        let written = write(&file, 3, |_| Ok(())).unwrap();
        assert_eq!(hash_on_server(&file).unwrap(), written.hash);
        std::fs::write(&file, "other").unwrap();
        assert_ne!(hash_on_server(&file).unwrap(), written.hash);
    }

    #[test]
    fn samples_are_part_of_the_data_and_differ() {
        let samples = samples(16);
        assert_eq!(samples.len(), 8);
        assert!(samples.windows(2).all(|pair| pair[0] != pair[1]));
        assert!(block(2).windows(32).any(|window| window == samples[1]));
    }
}
