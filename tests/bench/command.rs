//! `ufx bench` as a user runs it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::has_rights;
use super::lab::{processes_with, until};

fn bench(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ufx"));
    command.arg("bench").args(words).stdin(Stdio::null());
    command
}

fn run(words: &[&str]) -> Output {
    bench(words).output().unwrap()
}

#[test]
fn a_wrong_value_is_refused_with_its_range_before_anything_is_built() {
    let table = [
        ("--loss=60", "--loss 60: must be a share from 0 to 50 percent"),
        ("--rate=1k", "--rate 1k: a rate is from 100 kbit/s to 2 Gbit/s"),
        ("--runs=0", "--runs 0: must be a number from 1 to 1000"),
        ("--queue=1kB", "--queue 1kB: a size here is from 3 kB to 250 MB"),
        ("--seed=x", "--seed x: must be a number from 0 to 18446744073709551615"),
    ];
    for (word, message) in table {
        let output = run(&[word]);
        assert_eq!(String::from_utf8_lossy(&output.stderr), format!("ufx: {message}\n"));
        assert_eq!(output.status.code(), Some(2));
    }
}

#[test]
fn ufx_arrives_at_5_percent_loss_where_reno_does_not_and_the_report_says_so() {
    if !has_rights() {
        return;
    }
    // reno moves about 4 Mbit/s here, whatever the machine: it needs 8 s.
    let words = ["--loss=5", "--size=4MB", "--runs=1", "--cap=4s", "--against=ufx,reno", "--json"];
    let output = run(&words);
    assert!(output.status.success(), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let [ufx, reno] = report["cells"].as_array().unwrap().as_slice() else {
        panic!("{report}");
    };
    assert_eq!((ufx["finished"].as_u64(), ufx["verified"].as_bool()), (Some(1), Some(true)));
    assert_eq!((reno["timed_out"].as_u64(), &reno["goodput"]), (Some(1), &serde_json::Value::Null));
    assert!(reno["arrived"]["median"].as_f64().unwrap() > 0.0);
    assert_eq!(report["packets_one_by_one"].as_bool(), Some(true));
}

#[test]
fn a_tool_that_leaves_no_file_is_marked_and_one_that_fails_is_quoted() {
    if !has_rights() {
        return;
    }
    let tool = |definition: &str| format!("--against={definition}");
    let words = ["--native", "--size=1kB", "--runs=1"];
    let output = run(&[&words[..], &[&tool("void=ufx-no-such ;; true")]].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("void at 0 % loss failed: the receiver said: sh"), "{text}");
    let ufx = env!("CARGO_BIN_EXE_ufx");
    let listener = format!("void={ufx} recv -q --dir {{dir}} ;; true");
    let output = run(&[&words[..], &[&tool(&listener)]].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("*: left no file that could be verified"), "{text}");
}

/// A bench that would run for minutes, in the middle of its first run.
struct Started {
    child: Child,
    scratch: PathBuf,
}

impl Started {
    fn new() -> Started {
        let child = bench(&["--runs=1000", "--loss=0", "--size=100MB", "--against=reno", "-q"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let name = format!("ufx-bench-{}", child.id());
        let scratch = match PathBuf::from("/dev/shm") {
            memory if memory.is_dir() => memory.join(name),
            _ => std::env::temp_dir().join(name),
        };
        let started = Started { child, scratch };
        until("the start of both contestants", || started.contestants() == 2);
        started
    }

    fn contestants(&self) -> usize {
        // Their words name the scratch directory; the bench's own do not.
        processes_with(&self.scratch.to_string_lossy()).len()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.scratch);
    }
}

#[test]
fn ctrl_c_ends_it_and_leaves_no_process_and_no_file() {
    if !has_rights() {
        return;
    }
    let mut started = Started::new();
    started.signal(Signal::INT);
    assert_eq!(started.child.wait().unwrap().code(), Some(130));
    until("the end of the contestants", || started.contestants() == 0);
    assert!(!started.scratch.exists());
}

#[test]
fn its_contestants_die_with_it_even_when_it_is_killed() {
    if !has_rights() {
        return;
    }
    let mut started = Started::new();
    started.signal(Signal::KILL);
    started.child.wait().unwrap();
    until("the end of the contestants", || started.contestants() == 0);
}

/// The program where every user can run it.
fn public_program(directory: &tempfile::TempDir) -> PathBuf {
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let program = directory.path().join("ufx");
    fs::copy(env!("CARGO_BIN_EXE_ufx"), &program).unwrap();
    program
}

#[test]
fn a_user_without_rights_gets_a_result_or_the_reason_why_not() {
    if !has_rights() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let program = public_program(&directory);
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["bench", "--loss=0", "--size=100kB", "--runs=1", "--against=ufx", "--json"])
        .current_dir("/")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["cells"][0]["finished"].as_u64(), Some(1), "{report}");
    } else {
        assert!(errors.contains("namespace") && errors.contains("sudo"), "{errors}");
    }
}

#[test]
fn where_user_namespaces_are_closed_it_says_what_to_run() {
    if !has_rights() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let program = public_program(&directory);
    // In a user namespace of its own the limit can be set without closing anybody else's.
    let script = format!(
        "echo 0 > /proc/sys/user/max_user_namespaces && \
         exec setpriv --bounding-set=-all --inh-caps=-all {} bench --runs=1",
        program.display()
    );
    let output =
        Command::new("unshare").args(["--user", "--map-root-user", "sh", "-c", &script]).output();
    let output = output.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("cannot make a user namespace"), "{errors}");
    assert!(errors.contains("sysctl user.max_user_namespaces"), "{errors}");
}
