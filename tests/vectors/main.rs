//! The golden packets and records of this folder, which an independent peer made from proto.md:
//! they must decode to the fields they list, and those fields must encode to their bytes.
//!
//! - `vector`: one file, its comments and its bytes
//! - `packets`, `records`: fields to values of `ufx::wire`

mod packets;
mod records;
mod vector;

use ufx::wire::{AnswerRecord, DigestRecord, Flags, ManifestRecord, Packet, PacketNumber};

use vector::{Vector, vectors};

#[test]
fn every_golden_packet_opens_to_its_fields_and_is_sealed_from_them() {
    let packets = vectors(|kind| !is_record(kind) && kind != "invalid");
    assert_kinds(&packets, &["ack", "close", "data", "hello", "probe", "start", "welcome"]);
    for vector in packets {
        let (text, bitmap) = (vector.text(), vector.bytes_of("field.bitmap"));
        let payload = vector.bytes_of("field.payload");
        let frame = vector.frame(&text, &bitmap, &payload);
        let number = PacketNumber(vector.number("number"));
        let flags = Flags { ack_now: vector.hex("flags") & 1 != 0 };
        let connection = vector.hex("connection");
        let datagram_bytes = vector.bytes.len();
        let packet = Packet { connection, number, flags, frame, datagram_bytes };
        assert_eq!(vector.open(), Ok(packet), "{}", vector.name);
        vector.assert_sealed(number, flags, &frame);
    }
}

#[test]
fn every_golden_record_decodes_to_its_fields_and_is_encoded_from_them() {
    let records = vectors(is_record);
    assert_kinds(
        &records,
        &[
            "answer_again",
            "answer_committed",
            "answer_end",
            "answer_failed",
            "answer_have",
            "answer_kept",
            "answer_present",
            "answer_refused",
            "answer_take",
            "record_attribute",
            "record_digest",
            "record_end",
            "record_entry",
            "record_hole",
            "record_more",
            "record_owner",
            "record_void",
        ],
    );
    for vector in records {
        let text = vector.text();
        let (path, target) = match vector.kind() {
            "record_attribute" => ("field.label", "field.value"),
            _ => ("field.path", "field.target"),
        };
        let (path, target) = (vector.bytes_of(path), vector.bytes_of(target));
        let mut encoded = Vec::new();
        if vector.kind() == "record_digest" {
            let record = vector.digest_record();
            let decoded = DigestRecord::decode(&vector.bytes, vector.algorithm());
            assert_eq!(decoded, Ok(Some((record, vector.bytes.len()))), "{}", vector.name);
            record.encode(&mut encoded);
        } else if vector.kind().starts_with("record_") {
            let record = vector.manifest_record(&path, &target);
            let decoded = ManifestRecord::decode(&vector.bytes);
            assert_eq!(decoded, Ok(Some((record, vector.bytes.len()))), "{}", vector.name);
            record.encode(&mut encoded);
        } else {
            let record = vector.answer_record(&text);
            let decoded = AnswerRecord::decode(&vector.bytes);
            assert_eq!(decoded, Ok(Some((record, vector.bytes.len()))), "{}", vector.name);
            record.encode(&mut encoded);
        }
        assert_eq!(encoded, vector.bytes, "{}", vector.name);
    }
}

#[test]
fn every_invalid_packet_and_record_is_refused() {
    let invalid = vectors(|kind| kind == "invalid");
    assert!(!invalid.is_empty());
    for vector in invalid {
        let refused = match vector.get("as") {
            "record_digest" => DigestRecord::decode(&vector.bytes, vector.algorithm()).is_err(),
            kind if kind.starts_with("record_") => match ManifestRecord::decode(&vector.bytes) {
                // The record alone does not tell the algorithm of its transfer.
                Ok(Some((ManifestRecord::End { digest, .. }, _))) => {
                    digest.as_slice().len() != vector.algorithm().digest_bytes()
                }
                decoded => decoded.is_err(),
            },
            kind if kind.starts_with("answer_") => AnswerRecord::decode(&vector.bytes).is_err(),
            _ => vector.open().map_or(true, |packet| vector.goes_the_wrong_way(&packet.frame)),
        };
        assert!(refused, "{}: {}", vector.name, vector.get("why"));
    }
}

fn is_record(kind: &str) -> bool {
    kind.starts_with("record_") || kind.starts_with("answer_")
}

/// Asserts that every kind has a vector, and no other has.
fn assert_kinds(vectors: &[Vector], kinds: &[&str]) {
    let mut found: Vec<_> = vectors.iter().map(Vector::kind).collect();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, kinds);
}
