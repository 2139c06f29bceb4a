//! The simulator as a program: runs seeds, replays one, or looks for a planted fault.

#![allow(clippy::print_stdout)]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use portfire_sim::{Mark, Marks, Mutant, Options, Report, Violation, simulate, torn_seeds};
use serde_json::{Map, Value, json};

/// Seeds from which on every coverage mark must have been hit.
const MARKED_SEEDS_MIN: u64 = 5_000;

/// Lines of the trace that are shown for a seed that fails.
const TAIL_LINES: usize = 40;

/// Failing seeds after which no further ones are begun.
const FAILURES_MAX: usize = 10;

/// Deterministic simulation: the shipped server under faults, in virtual time, from seeds.
#[derive(Debug, Parser)]
#[command(name = "portfire-sim")]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 5_000, conflicts_with = "seed")]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1, conflicts_with = "seed")]
    from: u64,
    /// Replays one seed and prints its whole trace.
    #[arg(long)]
    seed: Option<u64>,
    /// Plants a fault; the run succeeds when it is found.
    #[arg(long, value_name = "NAME")]
    mutant: Option<Mutant>,
    /// Runs the engine over torn rows instead: loads and commits of several calls in any order.
    #[arg(long, conflicts_with_all = ["mutant", "json", "threads"])]
    torn: bool,
    /// Prints one JSON object instead of text.
    #[arg(long)]
    json: bool,
    /// Threads to run seeds on; each seed runs on one. Default: one for each core.
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let succeeded = match arguments.seed {
        _ if arguments.torn => run_torn(&arguments),
        Some(seed) => replay(seed, &arguments),
        None => run(&arguments),
    };
    if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs seeds over torn rows.
fn run_torn(arguments: &Arguments) -> bool {
    let began = Instant::now();
    let (from, seeds) = match arguments.seed {
        Some(seed) => (seed, 1),
        None => (arguments.from, arguments.seeds),
    };
    let report = torn_seeds(from, seeds, None);
    println!("{seeds} seeds over torn rows in {:.1?}: {report}", began.elapsed());
    match &report.wrong {
        Some(wrong) => println!("wrong: {wrong}"),
        None => println!("every row is as if the calls had come one after the other"),
    }
    report.wrong.is_none()
}

/// Runs one seed with its trace.
fn replay(seed: u64, arguments: &Arguments) -> bool {
    let report = simulate(seed, Options { mutant: arguments.mutant, traced: true });
    if arguments.json {
        println!("{}", replay_json(&report));
    } else {
        report.lines.iter().for_each(|line| println!("{line}"));
        println!(
            "seed {seed}: {} steps, {:?} of virtual time, trace {:016x}",
            report.steps, report.virtual_time, report.hash
        );
        match &report.violation {
            Some(violation) => println!("seed {seed} breaks {violation}"),
            None => println!("seed {seed} passes"),
        }
    }
    report.violation.is_some() == arguments.mutant.is_some()
}

fn replay_json(report: &Report) -> Value {
    json!({
        "seed": report.seed,
        "steps": report.steps,
        "virtual_seconds": report.virtual_time.as_secs_f64(),
        "trace": format!("{:016x}", report.hash),
        "violation": report.violation.as_ref().map(violation_json),
        "marks": marks_json(&report.marks),
    })
}

/// Runs many seeds.
fn run(arguments: &Arguments) -> bool {
    let began = Instant::now();
    let totals = Totals::default();
    let options = Options { mutant: arguments.mutant, traced: false };
    let threads =
        arguments.threads.or_else(|| std::thread::available_parallelism().ok().map(Into::into));
    std::thread::scope(|scope| {
        for _ in 0..threads.unwrap_or(1).max(1) {
            scope.spawn(|| totals.run_seeds(arguments.from, arguments.seeds, options));
        }
    });
    let took = began.elapsed();
    let mut failures = totals.failures.into_inner().unwrap_or_default();
    failures.sort_by_key(|(seed, _)| *seed);
    let seeds = totals.done.load(Ordering::Relaxed);
    let steps = totals.steps.load(Ordering::Relaxed);
    let complete = seeds >= MARKED_SEEDS_MIN && arguments.mutant.is_none();
    let missing = if complete { totals.marks.missing() } else { Vec::new() };
    let summary = Summary { seeds, steps, took, failures, missing, marks: &totals.marks };
    if arguments.json {
        println!("{}", summary.json(arguments));
    } else {
        summary.print(arguments);
    }
    match arguments.mutant {
        Some(_) => !summary.failures.is_empty(),
        None => summary.failures.is_empty() && summary.missing.is_empty(),
    }
}

/// What the threads add up.
#[derive(Default)]
struct Totals {
    next: AtomicU64,
    done: AtomicU64,
    steps: AtomicU64,
    enough: AtomicBool,
    marks: Marks,
    failures: Mutex<Vec<(u64, Violation)>>,
}

impl Totals {
    fn run_seeds(&self, from: u64, seeds: u64, options: Options) {
        while !self.enough.load(Ordering::Relaxed) {
            let nth = self.next.fetch_add(1, Ordering::Relaxed);
            if nth >= seeds {
                return;
            }
            let report = simulate(from.wrapping_add(nth), options);
            self.done.fetch_add(1, Ordering::Relaxed);
            self.steps.fetch_add(report.steps, Ordering::Relaxed);
            self.marks.add(&report.marks);
            let Some(violation) = report.violation else { continue };
            let Ok(mut failures) = self.failures.lock() else { return };
            failures.push((report.seed, violation));
            // One is enough to know that a planted fault is found.
            if options.mutant.is_some() || failures.len() >= FAILURES_MAX {
                self.enough.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// What came of many seeds.
struct Summary<'a> {
    seeds: u64,
    steps: u64,
    took: Duration,
    failures: Vec<(u64, Violation)>,
    missing: Vec<Mark>,
    marks: &'a Marks,
}

impl Summary<'_> {
    fn print(&self, arguments: &Arguments) {
        let Summary { seeds, steps, took, failures, missing, .. } = self;
        for &(seed, ref violation) in failures.iter().take(3) {
            print_tail(seed, arguments.mutant);
            println!(
                "seed {seed} breaks {violation}\n  replay: {}\n",
                command(seed, arguments.mutant)
            );
        }
        let per_second = self.per_second();
        println!("{seeds} seeds, {steps} steps in {took:.1?}: {per_second:.0} seeds/s");
        if let Some(mutant) = arguments.mutant {
            match failures.first() {
                Some((seed, violation)) => {
                    println!("{mutant} was found by seed {seed}: {}", violation.invariant);
                }
                None => println!("{mutant} was NOT found"),
            }
            return;
        }
        let met = Mark::ALL.iter().filter(|&&mark| self.marks.hits(mark) > 0).count();
        println!("{met} of {} rare situations were met", Mark::ALL.len());
        for mark in missing {
            println!("  never met: {mark}");
        }
        match failures.len() {
            0 if missing.is_empty() => println!("no rule was broken"),
            0 => println!("no rule was broken, but the seeds do not reach far enough"),
            broken => println!("{broken} seeds broke a rule: {:?}", self.failing_seeds()),
        }
    }

    fn json(&self, arguments: &Arguments) -> Value {
        let failure = |(seed, violation): &(u64, Violation)| {
            let mut failure = violation_json(violation);
            failure["seed"] = json!(seed);
            failure["replay"] = json!(command(*seed, arguments.mutant));
            failure
        };
        json!({
            "from": arguments.from,
            "seeds": self.seeds,
            "steps": self.steps,
            "seconds": self.took.as_secs_f64(),
            "seeds_per_second": self.per_second(),
            "mutant": arguments.mutant.map(Mutant::name),
            "violations": self.failures.iter().map(failure).collect::<Vec<_>>(),
            "marks": marks_json(self.marks),
            "missing": self.missing.iter().map(|mark| mark.name()).collect::<Vec<_>>(),
        })
    }

    fn per_second(&self) -> f64 {
        self.seeds as f64 / self.took.as_secs_f64().max(1e-9)
    }

    fn failing_seeds(&self) -> Vec<u64> {
        self.failures.iter().map(|&(seed, _)| seed).collect()
    }
}

/// Shows what led to a failure.
fn print_tail(seed: u64, mutant: Option<Mutant>) {
    let lines = simulate(seed, Options { mutant, traced: true }).lines;
    let skipped = lines.len().saturating_sub(TAIL_LINES);
    println!("seed {seed}, the last {} of {} lines:", lines.len() - skipped, lines.len());
    lines.iter().skip(skipped).for_each(|line| println!("  {line}"));
}

fn command(seed: u64, mutant: Option<Mutant>) -> String {
    let mutant = mutant.map(|mutant| format!(" --mutant {mutant}")).unwrap_or_default();
    format!("cargo xtask sim --seed {seed}{mutant}")
}

fn violation_json(violation: &Violation) -> Value {
    json!({ "invariant": violation.invariant.name(), "detail": violation.detail })
}

fn marks_json(marks: &Marks) -> Value {
    let hits = |&mark: &Mark| (mark.name().to_owned(), json!(marks.hits(mark)));
    Value::Object(Mark::ALL.iter().map(hits).collect::<Map<_, _>>())
}
