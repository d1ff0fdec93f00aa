//! Runs the targets on any compiler: mutates the corpus by a seed and keeps what reaches something
//! new. Same seed and iterations, same inputs. A failing input is written to `artifacts`.
//!
//! `ufx-fuzz [--seconds N | --iterations N] [--seed N] [TARGET...]`, or `ufx-fuzz TARGET FILE...`
//! to run single inputs. Without a bound each target runs for 5 seconds.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ufx_fuzz::{TARGETS, Target};

/// Longest input: enough for a few hundred steps of a machine.
const INPUT_BYTES_MAX: usize = 4_096;

/// Inputs kept to be mutated.
const POOL_MAX: usize = 2_048;

/// What was asked for.
struct Options {
    seed: u64,
    bound: Bound,
    targets: Vec<&'static Target>,
    files: Vec<PathBuf>,
}

#[derive(Clone, Copy)]
enum Bound {
    Time(Duration),
    Iterations(u64),
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("ufx-fuzz: {problem}");
            return ExitCode::from(2);
        }
    };
    for file in &options.files {
        let bytes = fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for target in &options.targets {
            println!("{} {}: {:#x}", target.name, file.display(), (target.run)(&bytes));
        }
    }
    if !options.files.is_empty() {
        return ExitCode::SUCCESS;
    }
    let mut failed = false;
    for target in &options.targets {
        failed |= !fuzz(target, &options);
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        seed: 1,
        bound: Bound::Time(Duration::from_secs(5)),
        targets: Vec::new(),
        files: Vec::new(),
    };
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().ok_or(format!("{word} needs a number"))?;
            value.parse::<u64>().map_err(|_| format!("{word} {value}: not a number"))
        };
        match word.as_str() {
            "--seed" => options.seed = number()?,
            "--seconds" => options.bound = Bound::Time(Duration::from_secs(number()?)),
            "--iterations" => options.bound = Bound::Iterations(number()?),
            name => match TARGETS.iter().find(|target| target.name == name) {
                Some(target) => options.targets.push(target),
                None if !options.targets.is_empty() => options.files.push(name.into()),
                None => return Err(format!("{name}: no such target")),
            },
        }
    }
    if options.targets.is_empty() {
        options.targets = TARGETS.iter().collect();
    }
    Ok(options)
}

/// Random numbers that stay the same with every version of every crate (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// Runs one target; false if an input failed.
fn fuzz(target: &Target, options: &Options) -> bool {
    // What fuzzing has found is not mutated: some of it takes as long as a thousand others.
    let (found, mut pool) = corpus(target.name);
    let seeds = found.len() + pool.len();
    let mut seen = BTreeSet::new();
    let mut random = Random(options.seed);
    let started = Instant::now();
    let mut iteration = 0;
    loop {
        let is_over = match options.bound {
            Bound::Time(time) => started.elapsed() >= time,
            Bound::Iterations(iterations) => iteration >= iterations,
        };
        // Every seed is run whatever the bound.
        if is_over && iteration >= seeds as u64 {
            break;
        }
        let index = iteration as usize;
        let input = match found.get(index) {
            Some(found) => found.clone(),
            None if index < seeds => pool[index - found.len()].clone(),
            None => mutated(&pool, &mut random),
        };
        iteration += 1;
        match catch_unwind(|| (target.run)(&input)) {
            Ok(signature) => {
                let is_new = seen.insert(signature) && index >= seeds;
                if is_new && pool.len() < POOL_MAX {
                    pool.push(input);
                }
            }
            Err(_) => {
                let path = keep(target.name, &input);
                eprintln!(
                    "{}: failed with seed {} at iteration {iteration}; again: \
                     cargo run --release --manifest-path fuzz/Cargo.toml -- {} {}",
                    target.name,
                    options.seed,
                    target.name,
                    path.display()
                );
                return false;
            }
        }
    }
    println!(
        "{}: seed {}, {iteration} inputs from {seeds}, {} signatures, {:.1} s, no failure",
        target.name,
        options.seed,
        seen.len(),
        started.elapsed().as_secs_f32()
    );
    true
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The committed inputs of a target in the order of their names: what fuzzing has found, and the
/// others, at least the empty one.
fn corpus(name: &str) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder("corpus").join(name))
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    paths.sort();
    let was_found = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"regression-"))
    };
    let (found, seeds): (Vec<PathBuf>, Vec<PathBuf>) = paths.into_iter().partition(was_found);
    let read = |paths: Vec<PathBuf>| paths.iter().filter_map(|path| fs::read(path).ok()).collect();
    let mut seeds: Vec<Vec<u8>> = read(seeds);
    seeds.push(Vec::new());
    (read(found), seeds)
}

fn keep(name: &str, input: &[u8]) -> PathBuf {
    let folder = folder("artifacts");
    let path = folder.join(format!("{name}-{:08x}", crc32fast::hash(input)));
    if let Err(error) = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, input)) {
        eprintln!("{}: {error}; the input: {input:?}", path.display());
    }
    path
}

/// A change or a few of one input of the pool, or something altogether new.
fn mutated(pool: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = pool[random.below(pool.len())].clone();
    for _ in 0..=random.below(6) {
        let at = random.below(input.len() + 1);
        match random.below(8) {
            0 => input.truncate(at),
            1 | 2 => {
                let more = random.below(64);
                input.extend((0..=more).map(|_| random.next() as u8));
            }
            3 => {
                // Cross over: the tail of another one.
                let other = &pool[random.below(pool.len())];
                let from = random.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            4 => {
                let repeated = input[at..].to_vec();
                input.extend_from_slice(&repeated);
            }
            5 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            6 => input.insert(at, [0, 1, 0x7f, 0x80, 0xff][random.below(5)]),
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = random.next() as u8;
                }
            }
        }
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}
