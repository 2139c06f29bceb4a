//! Names derived from what a thing is about: job ids and file names that are the same every time.
//!
//! A job id made here makes enqueueing idempotent: the second `enqueue` of the same thing finds the
//! first job and changes nothing. That is how an import can be repeated, and a handler that was
//! killed half-way can enqueue its follow-up again.

use std::fmt::Write as _;

use portfire::JobId;
use sha2::{Digest, Sha256};

/// Longest file name that is made, in bytes, without its extension. File systems take 255.
const STEM_MAX: usize = 120;

/// The id of the job that does this to that: `job_id(["welcome", "C-00017"])`.
pub fn job_id<const N: usize>(parts: [&str; N]) -> JobId {
    let mut hash = Sha256::new();
    for part in parts {
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    let mut id: [u8; 16] = std::array::from_fn(|at| digest[at]);
    // Version 8 of RFC 9562: an id with a meaning of its own.
    id[6] = 0x80 | (id[6] & 0x0F);
    id[8] = 0x80 | (id[8] & 0x3F);
    JobId::from_bytes(id)
}

/// The SHA-256 of a file's content, as hexadecimal text.
pub fn digest(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

/// A file name for a key from outside: letters, digits and `-_.` stay, the rest is written as `%XX`,
/// so that no key leaves its folder and no two keys share a file (but on a file system that ignores
/// case, keys that differ in nothing else do).
pub fn file_stem(key: &str) -> String {
    let mut stem = String::new();
    for byte in key.bytes() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let inner_dot = byte == b'.' && !stem.is_empty();
        if plain || inner_dot {
            stem.push(char::from(byte));
        } else {
            let _ = write!(stem, "%{byte:02X}");
        }
    }
    if stem.len() > STEM_MAX {
        stem.truncate(STEM_MAX - 17);
        stem.push('~');
        stem.push_str(&digest(key.as_bytes())[..16]);
    }
    stem
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_id_depends_on_every_part_and_its_borders() {
        assert_eq!(job_id(["welcome", "C-1"]), job_id(["welcome", "C-1"]));
        assert_ne!(job_id(["welcome", "C-1"]), job_id(["coupon", "C-1"]));
        assert_ne!(job_id(["ab", "c"]), job_id(["a", "bc"]));
    }

    #[test]
    fn file_names_stay_in_their_folder_and_apart() {
        assert_eq!(file_stem("A-00001"), "A-00001");
        assert_eq!(file_stem("../etc/passwd"), "%2E.%2Fetc%2Fpasswd");
        assert_eq!(file_stem("2026/17 ü"), "2026%2F17%20%C3%BC");
        let (long, other) = ("x".repeat(500), "x".repeat(501));
        assert_ne!(file_stem(&long), file_stem(&other));
        assert!(file_stem(&long).len() <= STEM_MAX);
    }
}
