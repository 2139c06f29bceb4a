//! Signals of the process, sent to a child: the first ends the server in good order, the second at once.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use portfire_core::{Client, Json, KindName, MemoryStorage, NewJob, Storage};
use portfire_server::{Handler, JobDescriptor, Server, shutdown_signal};

use crate::stage::describe;

const CHILD: &str = "PORTFIRE_TEST_SIGNALLED_CHILD";
const BOUND: Duration = Duration::from_secs(30);

/// Not a test by itself: the process that the tests below signal. It runs one job that hears nothing.
#[test]
fn the_child_that_is_signalled() {
    let Ok(handler) = std::env::var(CHILD) else { return };
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    tokio.unwrap().block_on(async {
        let deaf: [&'static JobDescriptor; 2] = [
            Box::leak(Box::new(describe(
                "async",
                Handler::Async(|_| {
                    say("running");
                    Box::pin(std::future::pending())
                }),
            ))),
            Box::leak(Box::new(describe(
                "blocking",
                Handler::Blocking(|_| {
                    say("running");
                    loop {
                        std::thread::park();
                    }
                }),
            ))),
        ];
        // Listens from here on: the job may run before the server is waited for.
        let signal = shutdown_signal();
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let client = Client::new(Arc::clone(&storage));
        let kind = KindName::new(handler).unwrap();
        client.create(vec![NewJob::new(client.next_id(), kind, Json::empty())]).await.unwrap();
        let server = Server::builder(storage).register(deaf).shutdown_timeout(4 * BOUND);
        let server = server.stop_timeout(Duration::ZERO).start().await.unwrap();
        let stop = async {
            signal.await;
            say("stopping");
        };
        let report = server.run_until(stop).await.unwrap();
        say(&format!("overdue {} retired {}", report.overdue, report.retired));
    });
    // What follows is the end of a `#[tokio::main]`: the runtime is dropped, and must not hang.
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "child: {line}").unwrap();
    out.flush().unwrap();
}

struct Signalled {
    child: Child,
    lines: Receiver<String>,
}

impl Signalled {
    fn start(handler: &str) -> Signalled {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["signals::the_child_that_is_signalled", "--exact", "--nocapture"])
            .env(CHILD, handler)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (to, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if let Some((_, said)) = line.split_once("child: ") {
                    let _ = to.send(said.to_owned());
                }
            }
        });
        Signalled { child, lines }
    }

    fn says(&self) -> String {
        self.lines.recv_timeout(BOUND).expect("the child says nothing")
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Signalled {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn a_second_signal_ends_it(handler: &str, first: &str, second: &str) {
    let mut process = Signalled::start(handler);
    assert_eq!(process.says(), "running");
    process.signal(first);
    assert_eq!(process.says(), "stopping");
    // The listener to the second signal is there a moment after the first was heard; a signal that
    // comes too soon is the first one again, so it is sent until it is heard.
    let begun = Instant::now();
    let said = loop {
        process.signal(second);
        match process.lines.recv_timeout(Duration::from_millis(100)) {
            Ok(said) => break said,
            Err(_) => assert!(begun.elapsed() < BOUND, "the second signal is not heard"),
        }
    };
    assert_eq!(said, "overdue 1 retired true");
    let ended = loop {
        if let Some(status) = process.child.try_wait().unwrap() {
            break status;
        }
        assert!(begun.elapsed() < BOUND, "the process does not end");
        std::thread::yield_now();
    };
    assert!(ended.success(), "{ended:?}");
}

#[test]
fn a_second_signal_ends_a_server_at_once() {
    a_second_signal_ends_it("async", "-TERM", "-INT");
}

#[test]
fn a_thread_that_ignores_everything_does_not_keep_the_process() {
    a_second_signal_ends_it("blocking", "-INT", "-TERM");
}
