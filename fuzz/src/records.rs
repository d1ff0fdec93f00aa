//! Any stream of records: no panic, and each record that is decoded encodes to the same bytes.

use ufx::wire::{AnswerRecord, DigestAlgorithm, DigestRecord, ManifestRecord, limits};

use crate::input::Input;

/// Runs one input.
pub fn run(bytes: &[u8]) -> u64 {
    let mut input = Input::new(bytes);
    let kind = input.byte() % 5;
    let mut stream = input.rest();
    let mut signature = u64::from(kind);
    loop {
        let mut encoded = Vec::new();
        let taken = match kind {
            0 => ManifestRecord::decode(stream).map(|found| {
                found.map(|(record, taken)| {
                    record.encode(&mut encoded);
                    taken
                })
            }),
            1 => AnswerRecord::decode(stream).map(|found| {
                found.map(|(record, taken)| {
                    record.encode(&mut encoded);
                    taken
                })
            }),
            _ => {
                let algorithms =
                    [DigestAlgorithm::None, DigestAlgorithm::Xxh3, DigestAlgorithm::Blake3];
                DigestRecord::decode(stream, algorithms[usize::from(kind) - 2]).map(|found| {
                    found.map(|(record, taken)| {
                        record.encode(&mut encoded);
                        taken
                    })
                })
            }
        };
        match taken {
            Ok(Some(taken)) => {
                assert!(taken > 0, "a record without bytes would never end");
                assert_eq!(&stream[..taken], encoded, "encoded differently");
                signature = signature << 8 | u64::from(encoded[0]);
                stream = &stream[taken..];
            }
            Ok(None) => {
                assert!(stream.len() < limits::RECORD_BYTES_MAX, "a record is complete by now");
                return signature << 1;
            }
            Err(error) => {
                let text = error.to_string();
                return signature << 33 | u64::from(crc32fast::hash(text.as_bytes()));
            }
        }
    }
}
