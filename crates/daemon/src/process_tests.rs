//! What concerns a whole process, each tried in a process of its own: the test starts its own
//! program again, for itself alone.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{
    DumpableBehavior, Pid, Resource, Rlimit, Signal, dumpable_behavior, getrlimit, kill_process,
    setrlimit, umask,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::serve::{Listener, ListenerLimits};
use crate::shutdown;
use crate::telemetry::{FILTER_VARIABLE, LogFormat, init};

const CHILD: &str = "COUNTERSIGN_TEST_CHILD";

/// Whether this is the process that a test started for itself.
fn in_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// This test in a process of its own.
fn command() -> Command {
    let test = std::thread::current().name().unwrap().to_owned();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", &test, "--nocapture"])
        .env(CHILD, "1")
        .env_remove(FILTER_VARIABLE);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What a child wrote to standard error, after it has ended as it should.
fn errors_of(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success(),
        "{}\n{errors}",
        String::from_utf8_lossy(&output.stdout)
    );
    errors
}

/// Waits until a child has said that it is ready, on standard error.
fn until_ready(child: &mut Child) {
    let mut line = String::new();
    while !line.contains("ready") {
        line.clear();
        let mut stderr = BufReader::with_capacity(1, child.stderr.as_mut().unwrap());
        assert_ne!(
            stderr.read_line(&mut line).unwrap(),
            0,
            "the child ended early"
        );
    }
}

/// Runs a future that says it is ready once it listens, in the child.
fn run_until(start: fn() -> std::pin::Pin<Box<dyn Future<Output = ()>>>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let ended = start();
        std::io::stderr().write_all(b"ready\n").unwrap();
        ended.await;
    });
}

#[test]
fn a_hardened_process_dumps_nothing_and_writes_for_itself() {
    if !in_child() {
        errors_of(command().spawn().unwrap());
        return;
    }
    init(LogFormat::Text).unwrap();
    crate::harden();
    let core = getrlimit(Resource::Core);
    assert_eq!((core.current, core.maximum), (Some(0), Some(0)));
    assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    assert_eq!(umask(rustix::fs::Mode::empty()).as_raw_mode(), 0o077);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let locked = status
        .lines()
        .find(|line| line.starts_with("VmLck:"))
        .unwrap();
    let unlimited = getrlimit(Resource::Memlock).current.is_none();
    assert_eq!(!locked.contains(" 0 kB"), unlimited, "{locked}");
}

#[test]
fn memory_that_may_not_be_locked_is_a_warning_that_says_how() {
    if in_child() {
        let little = Some(64 * 1024);
        setrlimit(
            Resource::Memlock,
            Rlimit {
                current: little,
                maximum: little,
            },
        )
        .unwrap();
        init(LogFormat::Text).unwrap();
        // Root may raise every limit, except where it has lost that right.
        crate::harden();
        return;
    }
    let errors = errors_of(command().spawn().unwrap());
    assert!(
        errors.is_empty() || errors.contains("LimitMEMLOCK=infinity"),
        "{errors}"
    );
}

#[test]
fn either_signal_ends_the_wait() {
    if in_child() {
        run_until(|| Box::pin(shutdown::signal()));
        return;
    }
    for signal in [Signal::INT, Signal::TERM] {
        let mut child = command().spawn().unwrap();
        until_ready(&mut child);
        kill_process(Pid::from_child(&child), signal).unwrap();
        errors_of(child);
    }
}

#[test]
fn the_end_of_standard_input_ends_the_wait_and_what_comes_before_does_not() {
    if in_child() {
        run_until(|| Box::pin(shutdown::when_stdin_closes()));
        return;
    }
    let mut child = command().spawn().unwrap();
    until_ready(&mut child);
    child
        .stdin
        .as_mut()
        .unwrap()
        .write_all(&[b'\n'; 1000])
        .unwrap();
    assert!(child.try_wait().unwrap().is_none());
    drop(child.stdin.take());
    errors_of(child);
}

#[test]
fn logs_are_json_where_asked_for_and_keep_the_level() {
    if in_child() {
        init(LogFormat::Json).unwrap();
        tracing::info!(slot = 7, "signed");
        tracing::debug!("not shown");
        return;
    }
    let errors = errors_of(command().spawn().unwrap());
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(
        errors.starts_with("{\"") && errors.contains("\"message\":\"signed\""),
        "{errors}"
    );
    assert!(errors.contains("\"slot\":7"), "{errors}");

    let errors = errors_of(command().env(FILTER_VARIABLE, "debug").spawn().unwrap());
    assert!(errors.contains("not shown"), "{errors}");
}

#[test]
fn a_wrong_log_filter_is_said_in_a_sentence() {
    if in_child() {
        let error = init(LogFormat::Text).unwrap_err().to_string();
        assert!(
            error.starts_with("correct the environment variable COUNTERSIGN_LOG"),
            "{error}"
        );
        return;
    }
    errors_of(command().env(FILTER_VARIABLE, "info,=;").spawn().unwrap());
}

#[test]
fn a_panic_is_logged_without_what_it_says() {
    if in_child() {
        init(LogFormat::Text).unwrap();
        let secret = std::env::var(CHILD).unwrap();
        let thread = std::thread::spawn(move || panic!("the password is hunter{secret}"));
        assert!(thread.join().is_err());
        return;
    }
    let errors = errors_of(command().spawn().unwrap());
    assert!(
        errors.contains("panic") && errors.contains("process_tests.rs"),
        "{errors}"
    );
    assert!(!errors.contains("hunter"), "{errors}");
}

#[test]
fn a_process_out_of_files_accepts_again_when_it_has_some() {
    if !in_child() {
        let errors = errors_of(command().spawn().unwrap());
        let warnings = errors.matches("no connection can be accepted").count();
        // It backs off: spinning would warn thousands of times.
        assert!((1..100).contains(&warnings), "{warnings} warnings");
        return;
    }
    init(LogFormat::Text).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let local = "127.0.0.1:0".parse().unwrap();
        let listener = Listener::bind(local, None, ListenerLimits::default())
            .await
            .unwrap();
        let address = listener.address();
        let mut early = TcpStream::connect(address).await.unwrap();
        let mut files = Vec::new();
        let few = Rlimit {
            current: Some(64),
            maximum: Some(64),
        };
        setrlimit(Resource::Nofile, few).unwrap();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            files.push(file);
        }
        let mut connections = listener.into_stream();
        let accepted = futures_util::StreamExt::next(&mut connections);
        let mut accepted = std::pin::pin!(accepted);
        let starved = tokio::time::timeout(Duration::from_millis(300), &mut accepted).await;
        assert!(starved.is_err());
        drop(files);
        let mut stream = accepted.await.unwrap().unwrap();
        stream.write_all(b"!").await.unwrap();
        early.read_exact(&mut [0; 1]).await.unwrap();
    });
}
