//! Streams that are closed, full or no terminal, and terminals that can do little. None of them
//! may cost a transfer anything.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::content::{names, room, same_bytes, write_random};
use crate::support::process::{Finished, Program};
use crate::support::root::{is_installed, skip};
use crate::support::transfer::{Receiver, recv_words, send_words};

/// A shell that runs the words behind `line` as "$@".
fn shell(line: &str, words: Vec<OsString>) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", line, "sh", env!("CARGO_BIN_EXE_ufx")]).args(words);
    command
}

/// A file, and where it goes.
struct Stage {
    room: TempDir,
    source: PathBuf,
}

impl Stage {
    fn new(bytes: u64) -> Stage {
        let room = room();
        let source = write_random(&room.path().join("a.bin"), bytes, bytes);
        Stage { room, source }
    }

    fn dir(&self) -> PathBuf {
        self.room.path().join("to")
    }

    /// Sends by a shell's `line`; the receiver must be well.
    #[track_caller]
    fn send(&self, line: &str, options: &[&str]) -> Finished {
        let receiver = Receiver::start(&self.dir(), &["--once"]);
        let words = send_words(&[&self.source], options, "127.0.0.1", receiver.port);
        let sender = Program::start(&mut shell(line, words)).wait();
        receiver.program.wait().expect_code(0);
        self.check();
        sender
    }

    #[track_caller]
    fn check(&self) {
        assert_eq!(names(&self.dir()), ["a.bin"]);
        assert!(same_bytes(&self.source, &self.dir().join("a.bin")));
        std::fs::remove_dir_all(self.dir()).unwrap();
    }
}

#[test]
fn a_sender_whose_streams_are_closed_sends_all_the_same() {
    let stage = Stage::new(3_000_000);
    let closed = [">&-", "2>&-", "<&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full"];
    for streams in closed {
        let sender = stage.send(&format!("exec \"$@\" {streams}"), &[]);
        // Its object is lost: whoever asked for it must hear of that.
        let code = if streams == ">/dev/full" { 1 } else { 0 };
        let sender = sender.expect_code(code);
        let is_told = sender.stderr.contains("standard output: No space left on device");
        assert_eq!(is_told, code == 1, "{streams}: {sender:#?}");
    }
    // What is written to a closed stream must not land in a file that was opened in its place.
    assert_eq!(stage.source.metadata().unwrap().size(), 3_000_000);
}

#[test]
fn a_receiver_whose_streams_are_closed_receives_all_the_same() {
    let stage = Stage::new(3_000_000);
    for streams in [">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"] {
        let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let words = recv_words(port, &stage.dir(), &["--once"]);
        let line = format!("exec \"$@\" {streams}");
        let receiver = Program::start(&mut shell(&line, words));
        let words = send_words(&[&stage.source], &[], "127.0.0.1", port);
        Program::start(&mut shell("exec \"$@\"", words)).wait().expect_code(0);
        receiver.wait().expect_code(0);
        stage.check();
    }
}

#[test]
fn nobody_who_stops_reading_stops_a_transfer() {
    let stage = Stage::new(3_000_000);
    let sender = stage.send("exec 3>&1; { \"$@\"; echo $? >&3; } 2>&1 >&- | true", &["-v"]);
    assert_eq!(sender.stdout, "0\n");
}

/// Sends on a terminal of that kind and width; returns what the terminal was sent.
fn on_terminal(stage: &Stage, terminal: &str, columns: u32) -> String {
    let line = format!(
        "export TERM={terminal} WORDS; exec script -q -e -c \
         'stty cols {columns} rows 24; eval \"$WORDS\"' /dev/null"
    );
    let receiver = Receiver::start(&stage.dir(), &["--once"]);
    let words = send_words(&[&stage.source], &["--rate", "40M"], "127.0.0.1", receiver.port);
    let words: Vec<_> = words.iter().filter(|word| *word != "--json").collect();
    let mut command = shell(&line, Vec::new());
    let quoted = |word: &OsString| format!("'{}'", word.to_str().unwrap());
    let words: Vec<String> = words.into_iter().map(quoted).collect();
    command.env("WORDS", format!("{} {}", env!("CARGO_BIN_EXE_ufx"), words.join(" ")));
    let sender = Program::start(&mut command).wait().expect_code(0);
    receiver.program.wait().expect_code(0);
    stage.check();
    sender.stdout
}

/// What a terminal shows of it, line by line: without what moves the cursor.
fn shown(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\u{1b}' => {
                // ESC [ parameters letter
                letters.find(|letter| letter.is_ascii_alphabetic());
            }
            '\r' | '\n' => lines.push(String::new()),
            _ => lines.last_mut().unwrap().push(letter),
        }
    }
    lines.retain(|line| !line.trim().is_empty());
    lines
}

#[test]
fn the_live_line_fits_a_terminal_of_any_width_and_is_left_out_where_it_cannot_move() {
    if !is_installed("script") || !Path::new("/dev/ptmx").exists() {
        return skip("needs the program script");
    }
    let stage = Stage::new(3_000_000);
    for columns in [10, 1, 200] {
        let text = on_terminal(&stage, "xterm", columns);
        let lines = shown(&text);
        let (last, live) = lines.split_last().unwrap();
        assert!(last.contains("sent 1 file, 3 MB in "), "{text:?}");
        assert!(!live.is_empty(), "{text:?}");
        for line in live {
            assert!(line.chars().count() <= columns as usize, "{line:?} of {text:?}");
        }
    }
    let text = on_terminal(&stage, "dumb", 80);
    assert!(!text.contains('\u{1b}'), "{text:?}");
    assert_eq!(shown(&text).len(), 1, "{text:?}");
}
