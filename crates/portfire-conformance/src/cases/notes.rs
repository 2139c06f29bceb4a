//! What running jobs say: log lines, bars, metadata and tags, fenced like a finish.

use std::collections::BTreeMap;

use portfire_core::notes::{
    BARS_MAX, LINE_BYTES_MAX, LOG_BYTES_MAX, NOTED_KEYS_MAX, NOTED_VALUE_BYTES_MAX,
};
use portfire_core::{
    Annotation, Claim, CycleRequest, JobId, Level, LogLine, Notes, NotesRecord, Outcome, Progress,
    Timestamp,
};

use crate::odd;
use crate::server::{Server, failure, finish, retry, success};
use crate::stage::{DAY, Stage, json, secs};

fn line(claim: Claim, text: &str) -> LogLine {
    let at = Timestamp::from_micros(1_893_456_000_000_000);
    LogLine { attempt: claim.attempt, at, level: Level::Info, text: text.to_owned() }
}

fn says(claim: Claim, piece: u32, texts: &[&str]) -> Notes {
    let lines = texts.iter().map(|text| line(claim, text)).collect();
    Notes { piece, lines, ..Notes::default() }
}

fn bar(name: &str, done: u64, total: u64) -> Progress {
    Progress { bar: name.to_owned(), done, total }
}

async fn noted(s: &Stage, job: JobId) -> NotesRecord {
    s.storage().notes(job).await.expect("the notes are read")
}

/// The whole log of a job, page by page.
async fn log(s: &Stage, job: JobId) -> Vec<LogLine> {
    let (mut found, mut after) = (Vec::new(), None);
    for _ in 0..1_000 {
        let page = s.storage().log(job, after, 500).await.expect("the log is read");
        if page.lines.is_empty() {
            return found;
        }
        found.extend(page.lines);
        after = page.next;
    }
    panic!("the log has no end")
}

async fn texts(s: &Stage, job: JobId) -> Vec<String> {
    log(s, job).await.into_iter().map(|line| line.text).collect()
}

async fn running(s: &Stage) -> (Server, JobId, Claim) {
    let server = s.server_with_lease("a", 9 * DAY).await;
    let job = s.enqueue_one().await;
    let claim = server.claim_job(job).await.claim;
    (server, job, claim)
}

/// What a job says can be read while it runs, and comes out as it went in.
pub async fn notes_are_kept(s: Stage) {
    let (server, job, claim) = running(&s).await;
    assert_eq!(noted(&s, job).await, NotesRecord::default());
    let mut lines: Vec<LogLine> = odd::TEXTS.iter().map(|text| line(claim, text)).collect();
    for (n, level) in [Level::Debug, Level::Info, Level::Warn, Level::Error].iter().enumerate() {
        lines[n].level = *level;
        lines[n].at = s.now().await.saturating_add(secs(n as u64));
    }
    let metadata = BTreeMap::from([("rows".to_owned(), json("[ 1, 2 ]"))]);
    let progress = vec![bar("rows", 17, 10_000), bar("é", 0, 0)];
    let tags = vec!["eu".to_owned(), "vip".to_owned()];
    let said = Notes { piece: 0, lines: lines.clone(), progress, metadata, tags };
    server.note(claim, said.clone()).await;
    let record = noted(&s, job).await;
    assert_eq!(record.progress, said.progress);
    assert_eq!((record.metadata, record.tags), (said.metadata, said.tags));
    assert_eq!(log(&s, job).await, lines);
    assert_eq!(s.record(job).await.revision, 2, "to say something is no transition");
    assert_eq!(noted(&s, s.id()).await, NotesRecord::default());
    assert_eq!(log(&s, s.id()).await, []);
}

/// What comes with the finish is taken down before it.
pub async fn notes_come_before_the_finish(s: Stage) {
    let (server, job, claim) = running(&s).await;
    let notes = vec![Annotation::new(claim, says(claim, 0, &["last words"]))];
    let finished = vec![finish(claim, success())];
    let cycle = server.cycle(CycleRequest { notes, finished, ..server.request() }).await;
    assert_eq!(cycle.verdicts, [portfire_core::Verdict::Applied]);
    assert_eq!(texts(&s, job).await, ["last words"]);
}

/// An attempt that no longer holds its job is not heard, whatever took the job from it.
pub async fn notes_fenced(s: Stage) {
    let (server, job, claim) = running(&s).await;
    let other = s.server_with_lease("b", 9 * DAY).await;
    other.note(claim, says(claim, 0, &["another server"])).await;
    let ahead = Claim::new(job, claim.attempt + 1);
    server.note(ahead, says(ahead, 0, &["an attempt to come"])).await;
    let missing = Claim::new(s.id(), 1);
    server.note(missing, says(missing, 0, &["nobody"])).await;
    assert_eq!(log(&s, job).await, []);
    server.end(claim, Outcome::Released).await;
    other.note(claim, says(claim, 0, &["given back by another"])).await;
    let next = other.claim_job(job).await.claim;
    server.note(claim, says(claim, 0, &["an attempt before"])).await;
    other.note(next, says(next, 0, &["the holder"])).await;
    let _ = s.delete(job).await;
    other.note(next, says(next, 1, &["deleted"])).await;
    assert_eq!(texts(&s, job).await, ["the holder"]);
    let gone = s.enqueue_one().await;
    let held = other.claim_job(gone).await.claim;
    let _ = s.delete(gone).await;
    other.note(held, says(held, 0, &["deleted before it spoke"])).await;
    assert_eq!(log(&s, gone).await, []);
    assert_eq!(noted(&s, gone).await, NotesRecord::default());
}

/// After its own finish an attempt is heard for as long as the job stands where that has put it: what a
/// handler says after it has completed its job in its own transaction.
pub async fn notes_after_its_own_finish(s: Stage) {
    let server = s.server_with_lease("a", 9 * DAY).await;
    let other = s.server_with_lease("b", 9 * DAY).await;
    for outcome in [success(), failure(), retry(60), Outcome::Released] {
        let job = s.enqueue_one().await;
        let claim = server.claim_job(job).await.claim;
        server.note(claim, says(claim, 0, &["first"])).await;
        server.end(claim, outcome).await;
        let mut after = says(claim, 1, &["after its end"]);
        after.progress = vec![bar("rows", 1, 2)];
        other.note(claim, says(claim, 1, &["another server"])).await;
        for _ in 0..2 {
            server.note(claim, after.clone()).await;
        }
        let ahead = Claim::new(job, claim.attempt + 1);
        server.note(ahead, says(ahead, 0, &["an attempt to come"])).await;
        assert_eq!(texts(&s, job).await, ["first", "after its end"]);
        assert_eq!(noted(&s, job).await.progress, [bar("rows", 1, 2)]);
        let _ = s.delete(job).await;
        server.note(claim, says(claim, 2, &["the job has moved on"])).await;
        let _ = s.requeue(job).await;
        other.claim_job(job).await;
        server.note(claim, says(claim, 3, &["it runs again"])).await;
        assert_eq!(texts(&s, job).await, ["first", "after its end"]);
    }
}

/// Stale notes in a cycle hold up neither the others nor the finishes.
pub async fn notes_fenced_each_on_its_own(s: Stage) {
    let (server, job, claim) = running(&s).await;
    let other = s.enqueue_one().await;
    let held = server.claim_job(other).await.claim;
    let stale = Claim::new(job, claim.attempt + 7);
    let notes = [stale, held, claim].map(|claim| {
        let notes = says(claim, 0, &["heard"]);
        Annotation::new(claim, notes)
    });
    let finished = vec![finish(held, success())];
    let request = CycleRequest { notes: notes.to_vec(), finished, ..server.request() };
    server.cycle(request).await;
    assert_eq!((texts(&s, job).await, texts(&s, other).await), {
        (vec!["heard".to_owned()], vec!["heard".to_owned()])
    });
}

/// A piece that is there already is passed over: a repeat after a lost answer says nothing twice.
pub async fn notes_piece_once(s: Stage) {
    let (server, job, claim) = running(&s).await;
    let mut first = says(claim, 0, &["one"]);
    first.progress = vec![bar("rows", 1, 10)];
    let mut second = says(claim, 1, &["two"]);
    second.progress = vec![bar("rows", 2, 10)];
    for notes in [&first, &second, &first, &second] {
        server.note(claim, notes.clone()).await;
    }
    assert_eq!(texts(&s, job).await, ["one", "two"]);
    assert_eq!(noted(&s, job).await.progress, [bar("rows", 2, 10)]);
    // Each attempt numbers its own pieces.
    server.end(claim, retry(0)).await;
    s.promote().await;
    let again = server.claim_job(job).await.claim;
    server.note(again, says(again, 0, &["three"])).await;
    assert_eq!(texts(&s, job).await, ["one", "two", "three"]);
}

/// A cycle that is repeated as a whole says nothing twice, with and without a finish in it.
pub async fn notes_of_a_repeated_cycle(s: Stage) {
    let (server, job, claim) = running(&s).await;
    for (piece, ends) in [(0, false), (1, true)] {
        let notes = vec![Annotation::new(claim, says(claim, piece, &["said"]))];
        let finished = ends.then(|| finish(claim, success())).into_iter().collect();
        let request = CycleRequest { notes, finished, ..server.request() };
        for repeated in [false, true] {
            server.cycle(CycleRequest { repeated, ..request.clone() }).await;
            assert_eq!(texts(&s, job).await.len(), piece as usize + 1);
        }
    }
}

/// Several pieces in one cycle are taken down in their order.
pub async fn notes_of_several_pieces(s: Stage) {
    let (server, job, claim) = running(&s).await;
    let piece = |n: u32| {
        let mut notes = says(claim, n, &[&format!("line {n}")]);
        notes.progress = vec![bar("rows", u64::from(n), 9)];
        Annotation::new(claim, notes)
    };
    let notes = (0..4).map(piece).collect();
    server.cycle(CycleRequest { notes, ..server.request() }).await;
    assert_eq!(texts(&s, job).await, ["line 0", "line 1", "line 2", "line 3"]);
    assert_eq!(noted(&s, job).await.progress, [bar("rows", 3, 9)]);
}

/// Bars keep the order of their first appearance, show what was said last, and no more than their total.
pub async fn notes_bars(s: Stage) {
    let (server, job, claim) = running(&s).await;
    let said = [
        vec![bar("b", 1, 10), bar("a", 5, 5)],
        vec![bar("c", 99, 10), bar("b", 7, 20)],
        vec![bar("a", 6, 5)],
    ];
    for (piece, progress) in said.into_iter().enumerate() {
        let piece = piece as u32;
        server.note(claim, Notes { piece, progress, ..Notes::default() }).await;
    }
    assert_eq!(noted(&s, job).await.progress, [bar("b", 7, 20), bar("a", 5, 5), bar("c", 10, 10)]);
}

/// Metadata and tags that are set again replace what was set, through all attempts.
pub async fn notes_metadata_and_tags(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    let mut job = s.new_job();
    job.options.tags = vec!["call".into()];
    job.options.metadata.insert("k".into(), "of the call".into());
    let job = s.create_one(job).await;
    let set = |piece, pairs: &[(&str, &str)], tags: &[&str]| Notes {
        piece,
        metadata: pairs.iter().map(|(k, v)| ((*k).to_owned(), json(v))).collect(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        ..Notes::default()
    };
    let claim = server.claim_job(job).await.claim;
    server.note(claim, set(0, &[("a", "1"), ("b", "1")], &["one"])).await;
    server.end(claim, retry(0)).await;
    s.promote().await;
    let claim = server.claim_job(job).await.claim;
    server.note(claim, set(0, &[("b", "2"), ("c", "2")], &["two"])).await;
    let record = noted(&s, job).await;
    let expected = [("a", "1"), ("b", "2"), ("c", "2")].map(|(k, v)| (k.to_owned(), json(v)));
    assert_eq!(record.metadata, BTreeMap::from(expected), "only what the job itself set");
    assert_eq!(record.tags, ["one", "two"]);
    assert_eq!(s.record(job).await.options.tags, ["call"], "the call's own stay as they were");
}

/// More bars than 32, keys than 64 and tags than 16 with those of the call are dropped, and a value over 64 KiB
/// is: the first come first.
pub async fn notes_caps(s: Stage) {
    let server = s.server_with_lease("a", DAY).await;
    let mut job = s.new_job();
    job.options.tags = (0..10).map(|n| format!("call{n}")).collect();
    let job = s.create_one(job).await;
    let claim = server.claim_job(job).await.claim;
    let flood = |piece: u32| Notes {
        piece,
        progress: (0..20).map(|n| bar(&format!("bar{piece}-{n}"), 1, 2)).collect(),
        metadata: (0..40).map(|n| (format!("key{piece}-{n:02}"), json("1"))).collect(),
        tags: (0..4).map(|n| format!("tag{piece}-{n}")).collect(),
        ..Notes::default()
    };
    server.note(claim, flood(0)).await;
    server.note(claim, flood(1)).await;
    let record = noted(&s, job).await;
    assert_eq!(record.progress.len(), BARS_MAX);
    assert_eq!(record.progress[31].bar, "bar1-11");
    assert_eq!(record.metadata.len(), NOTED_KEYS_MAX);
    assert!(record.metadata.contains_key("key1-23") && !record.metadata.contains_key("key1-24"));
    assert_eq!(record.tags, ["tag0-0", "tag0-1", "tag0-2", "tag0-3", "tag1-0", "tag1-1"]);
    // What is there is changed all the same.
    let mut last = Notes { piece: 2, ..Notes::default() };
    last.progress = vec![bar("bar0-3", 2, 2), bar("late", 1, 2)];
    let large = |bytes: usize| json(&format!("\"{}\"", "x".repeat(bytes - 2)));
    last.metadata.insert("key0-00".into(), large(NOTED_VALUE_BYTES_MAX));
    last.metadata.insert("key0-01".into(), large(NOTED_VALUE_BYTES_MAX + 1));
    server.note(claim, last).await;
    let record = noted(&s, job).await;
    assert_eq!((record.progress[3].clone(), record.progress.len()), (bar("bar0-3", 2, 2), 32));
    assert_eq!(record.metadata["key0-00"].as_str().len(), NOTED_VALUE_BYTES_MAX);
    assert_eq!(record.metadata["key0-01"], json("1"), "too large a value is dropped");
}

/// The log of an attempt is kept up to 256 KiB of text; the next attempt has as much again.
pub async fn notes_log_is_bounded(s: Stage) {
    let (server, job, first) = running(&s).await;
    let long = "x".repeat(8_000);
    let flood = async |claim: Claim| {
        for piece in 0..10 {
            server.note(claim, says(claim, piece, &[&*long; 10])).await;
        }
    };
    flood(first).await;
    let kept: usize = log(&s, job).await.iter().map(|line| line.text.len()).sum();
    assert!(kept <= LOG_BYTES_MAX + 1_000, "{kept} bytes of an attempt are kept");
    assert!(kept > LOG_BYTES_MAX - 9_000, "only {kept} bytes of an attempt are kept");
    server.end(first, retry(0)).await;
    s.promote().await;
    let second = server.claim_job(job).await.claim;
    flood(second).await;
    let lines = log(&s, job).await;
    let of = |attempt| lines.iter().filter(move |line| line.attempt == attempt);
    assert!(of(2).count() >= 32 && of(1).count() == of(2).count());
}

/// A line over 8 KiB is cut, between two characters.
pub async fn notes_long_lines_are_cut(s: Stage) {
    let (server, job, claim) = running(&s).await;
    for (piece, text) in ["x".repeat(20_000), format!("x{}", "é".repeat(10_000))].iter().enumerate()
    {
        server.note(claim, says(claim, piece as u32, &[&**text])).await;
        let kept = texts(&s, job).await.pop().expect("a line");
        assert!((LINE_BYTES_MAX - 8..=LINE_BYTES_MAX).contains(&kept.len()), "{}", kept.len());
        assert!(text.starts_with(kept.trim_end_matches('…')));
    }
    let whole = "x".repeat(LINE_BYTES_MAX);
    server.note(claim, says(claim, 2, &[&*whole])).await;
    assert!(texts(&s, job).await[2] == whole, "a line of 8 KiB is kept whole");
}

/// Lines come in the order of attempts, and in an attempt in the order in which they were said.
pub async fn notes_log_in_order(s: Stage) {
    let (server, job, first) = running(&s).await;
    server.note(first, says(first, 0, &["1a", "1b"])).await;
    server.note(first, says(first, 1, &["1c"])).await;
    server.end(first, retry(0)).await;
    s.promote().await;
    let second = server.claim_job(job).await.claim;
    server.note(second, says(second, 0, &["2a"])).await;
    let _ = s.delete(job).await;
    let _ = s.requeue(job).await;
    let third = server.claim_job(job).await.claim;
    server.note(third, says(third, 0, &["3a"])).await;
    assert_eq!(texts(&s, job).await, ["1a", "1b", "1c", "2a", "3a"]);
    let attempts: Vec<_> = log(&s, job).await.iter().map(|line| line.attempt).collect();
    assert_eq!(attempts, [1, 1, 1, 2, 3]);
}

/// The log is read in pages, and a reader that has read all of it can go on later.
pub async fn notes_log_pages(s: Stage) {
    let (server, job, claim) = running(&s).await;
    let nothing = s.storage().log(job, None, 10).await.expect("read");
    assert_eq!((nothing.lines.len(), nothing.next), (0, None));
    let said: Vec<String> = (0..25).map(|n| format!("line {n}")).collect();
    for (piece, lines) in said.chunks(4).enumerate() {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        server.note(claim, says(claim, piece as u32, &lines)).await;
    }
    let (mut read, mut after) = (Vec::new(), None);
    for expected in [10, 10, 5, 0] {
        let page = s.storage().log(job, after.clone(), 10).await.expect("read");
        assert_eq!(page.lines.len(), expected);
        read.extend(page.lines.into_iter().map(|line| line.text));
        after = page.next.or(after);
    }
    assert_eq!(read, said);
    server.note(claim, says(claim, 100, &["more", "and more"])).await;
    let page = s.storage().log(job, after, 10).await.expect("read");
    assert_eq!(page.lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), {
        ["more", "and more"]
    });
    assert!(page.next.is_some());
}

/// A page of a log has at most 500 lines.
pub async fn notes_log_page_is_bounded(s: Stage) {
    let (server, job, claim) = running(&s).await;
    server.note(claim, says(claim, 0, &["x"; 700])).await;
    let page = s.storage().log(job, None, u32::MAX).await.expect("read");
    assert_eq!(page.lines.len(), portfire_core::monitor::PAGE_MAX as usize);
    let rest = s.storage().log(job, page.next, u32::MAX).await.expect("read");
    assert_eq!(rest.lines.len(), 200);
}

/// What a job has said goes with it: another job of its id begins with nothing.
pub async fn notes_go_with_the_job(s: Stage) {
    let (server, job, claim) = running(&s).await;
    let mut said = says(claim, 0, &["x"]);
    said.progress = vec![bar("b", 1, 2)];
    said.tags = vec!["t".into()];
    server.note(claim, said).await;
    server.end(claim, success()).await;
    assert_eq!(texts(&s, job).await, ["x"], "its end alone removes nothing");
    s.advance(DAY).await;
    assert_eq!(s.clean(10).await.jobs, 1);
    assert_eq!((noted(&s, job).await, log(&s, job).await), (NotesRecord::default(), vec![]));
    let mut again = s.new_job();
    again.id = job;
    s.create_one(again).await;
    let claim = server.claim_job(job).await.claim;
    server.note(claim, says(claim, 0, &["anew"])).await;
    assert_eq!(texts(&s, job).await, ["anew"]);
    assert_eq!(noted(&s, job).await, NotesRecord::default());
}

/// A thousand jobs may speak in one cycle.
pub async fn notes_of_a_thousand(s: Stage) {
    let server = s.server("a").await;
    s.enqueue(1_000).await;
    let held = server.claim(1_000).await;
    let note = |claim: Claim| Annotation::new(claim, says(claim, 0, &["x"]));
    let notes = held.iter().map(|job| note(job.claim)).collect();
    let finished = held.iter().map(|job| finish(job.claim, success())).collect();
    server.cycle(CycleRequest { notes, finished, ..server.request() }).await;
    for job in held.iter().step_by(100) {
        assert_eq!(texts(&s, job.claim.job).await, ["x"]);
    }
}
