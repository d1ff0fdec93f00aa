//! One file of the folder: what its comments say, and its bytes.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use ufx::wire::{Digest, DigestAlgorithm};

/// A packet or a record, and what it means.
pub struct Vector {
    pub name: String,
    meta: BTreeMap<String, String>,
    pub bytes: Vec<u8>,
}

/// All vectors of the wanted kinds, in the order of their names.
pub fn vectors(wanted: impl Fn(&str) -> bool) -> Vec<Vector> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut paths: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder of the vectors")
        .map(|entry| entry.expect("a file of the folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "hex"))
        .collect();
    paths.sort();
    let vectors = paths.iter().map(|path| Vector::read(path));
    vectors.filter(|vector| wanted(vector.kind())).collect()
}

fn bytes_of_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> =
        text.chars().map(|character| character.to_digit(16).expect("a digit")).collect();
    digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

impl Vector {
    fn read(path: &Path) -> Self {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let content = std::fs::read_to_string(path).expect("a readable vector");
        let mut vector = Self { name, meta: BTreeMap::new(), bytes: Vec::new() };
        for line in content.lines() {
            match line.strip_prefix('#') {
                Some(comment) => {
                    if let Some((key, value)) = comment.split_once(':') {
                        vector.meta.insert(key.trim().to_owned(), value.trim().to_owned());
                    }
                }
                None => vector.bytes.extend(bytes_of_hex(&line.replace(' ', ""))),
            }
        }
        vector
    }

    pub fn kind(&self) -> &str {
        self.get("frame")
    }

    pub fn get(&self, key: &str) -> &str {
        self.meta.get(key).unwrap_or_else(|| panic!("{} has no {key}", self.name))
    }

    /// A decimal number.
    pub fn number<T: FromStr>(&self, key: &str) -> T {
        let value = self.get(key);
        value.parse().unwrap_or_else(|_| panic!("{}: {key}: {value}", self.name))
    }

    /// A hexadecimal number.
    pub fn hex(&self, key: &str) -> u32 {
        u32::from_str_radix(self.get(key), 16).expect("a hexadecimal number")
    }

    /// Bytes; none if the vector has no such field.
    pub fn bytes_of(&self, key: &str) -> Vec<u8> {
        self.meta.get(key).map(|value| bytes_of_hex(value)).unwrap_or_default()
    }

    pub fn array<const N: usize>(&self, key: &str) -> [u8; N] {
        self.bytes_of(key).try_into().expect("as many bytes as the field has")
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.bytes_of("field.text")).expect("UTF-8")
    }

    pub fn digest(&self) -> Digest {
        Digest::from_slice(&self.bytes_of("field.digest")).expect("a length of an algorithm")
    }

    pub fn algorithm(&self) -> DigestAlgorithm {
        match self.get("algorithm") {
            "none" => DigestAlgorithm::None,
            "xxh3" => DigestAlgorithm::Xxh3,
            "blake3" => DigestAlgorithm::Blake3,
            other => panic!("{}: algorithm {other}", self.name),
        }
    }
}
