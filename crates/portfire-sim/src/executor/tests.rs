//! What the scheduler promises, one sentence each.

use super::*;

type Log = Arc<Mutex<Vec<(u64, &'static str)>>>;

fn world(seed: u64) -> (Arc<Executor>, Log) {
    (Executor::new(Rng::new(seed), Arc::default()), Log::default())
}

fn sleeper(
    executor: &Arc<Executor>,
    domain: DomainId,
    millis: &'static [u64],
    name: &'static str,
    log: &Log,
) -> Started {
    let (inner, log) = (Arc::clone(executor), Arc::clone(log));
    let task = async move {
        for &wait in millis {
            inner.sleep(domain, Duration::from_millis(wait)).await;
            lock(&log).push((inner.now().as_millis() as u64, name));
        }
    };
    executor.spawn(domain, name, Box::pin(task))
}

fn run(executor: &Arc<Executor>) {
    while executor.step() {}
    assert_eq!(executor.take_panics(), [] as [String; 0]);
}

#[test]
fn the_clock_jumps_from_timer_to_timer() {
    let (executor, log) = world(1);
    sleeper(&executor, DomainId::WORLD, &[10, 3_600_000], "a", &log);
    sleeper(&executor, DomainId::WORLD, &[500], "b", &log);
    run(&executor);
    assert_eq!(*lock(&log), [(10, "a"), (500, "b"), (3_600_010, "a")]);
    assert!(executor.steps() < 20);
}

#[test]
fn a_seed_decides_the_order_of_ready_tasks() {
    let order = |seed| {
        let (executor, log) = world(seed);
        for name in ["a", "b", "c", "d", "e"] {
            sleeper(&executor, DomainId::WORLD, &[0], name, &log);
        }
        run(&executor);
        let order: String = lock(&log).iter().map(|&(_, name)| name).collect();
        order
    };
    assert_eq!(order(7), order(7));
    let orders: std::collections::BTreeSet<String> = (0..50).map(order).collect();
    assert!(orders.len() > 20, "{}", orders.len());
}

#[test]
fn a_crashed_process_stops_where_it_stands_and_its_watchers_hear_of_it() {
    let (executor, log) = world(2);
    let process = executor.new_domain(DomainOptions::default());
    let task = sleeper(&executor, process, &[10, 10, 10], "process", &log);
    let (inner, heard) = (Arc::clone(&executor), Arc::clone(&log));
    let watcher = async move {
        inner.sleep(DomainId::WORLD, Duration::from_millis(15)).await;
        inner.crash(process);
        inner.crashed(process).await;
        task.ended().await;
        lock(&heard).push((inner.now().as_millis() as u64, "crashed"));
        let late = inner.spawn(process, "late", Box::pin(async { unreachable!() }));
        late.ended().await;
    };
    executor.spawn(DomainId::WORLD, "watcher", Box::pin(watcher));
    run(&executor);
    assert_eq!(*lock(&log), [(10, "process"), (15, "crashed")]);
}

#[test]
fn a_fuse_crashes_between_two_awaits() {
    let (executor, log) = world(3);
    let process = executor.new_domain(DomainOptions::default());
    sleeper(&executor, process, &[1, 1, 1, 1, 1, 1], "process", &log);
    executor.light_fuse(process, 4);
    run(&executor);
    assert_eq!(lock(&log).len(), 3, "the first of four polls only begins to wait");
    assert!(!executor.is_alive(process));
}

#[test]
fn a_paused_process_runs_on_when_it_is_resumed() {
    let (executor, log) = world(4);
    let process = executor.new_domain(DomainOptions::default());
    sleeper(&executor, process, &[10, 10], "process", &log);
    sleeper(&executor, DomainId::WORLD, &[100], "world", &log);
    executor.pause(process);
    let inner = Arc::clone(&executor);
    let nemesis = async move {
        inner.sleep(DomainId::WORLD, Duration::from_millis(200)).await;
        assert!(inner.is_paused(process));
        inner.resume(process);
    };
    executor.spawn(DomainId::WORLD, "nemesis", Box::pin(nemesis));
    run(&executor);
    assert_eq!(*lock(&log), [(100, "world"), (210, "process"), (220, "process")]);
}

#[test]
fn a_skewed_clock_runs_at_its_own_rate() {
    let (executor, log) = world(5);
    let fast = DomainOptions { clock_rate: 2.0, ..DomainOptions::default() };
    let process = executor.new_domain(fast);
    sleeper(&executor, process, &[100], "process", &log);
    run(&executor);
    assert_eq!(*lock(&log), [(50, "process")]);
    assert_eq!(executor.elapsed(process).as_millis(), 100);
}

#[test]
fn code_that_blocks_lets_the_others_run() {
    let (executor, log) = world(6);
    let process = executor.new_domain(DomainOptions::default());
    sleeper(&executor, process, &[10], "beside", &log);
    let (inner, heard) = (Arc::clone(&executor), Arc::clone(&log));
    let blocks = async move {
        inner.block(process, Duration::from_millis(50));
        lock(&heard).push((inner.now().as_millis() as u64, "blocked"));
    };
    executor.spawn(process, "blocks", Box::pin(blocks));
    run(&executor);
    assert_eq!(*lock(&log), [(10, "beside"), (50, "blocked")]);
}

#[test]
fn a_crash_unwinds_the_thread_that_blocks() {
    let (executor, log) = world(7);
    let process = executor.new_domain(DomainOptions::default());
    let (inner, heard) = (Arc::clone(&executor), Arc::clone(&log));
    let blocks = async move {
        inner.block(process, Duration::from_millis(50));
        lock(&heard).push((0, "never"));
    };
    executor.spawn(process, "blocks", Box::pin(blocks));
    let inner = Arc::clone(&executor);
    let nemesis = async move {
        inner.sleep(DomainId::WORLD, Duration::from_millis(20)).await;
        inner.crash(process);
    };
    executor.spawn(DomainId::WORLD, "nemesis", Box::pin(nemesis));
    run(&executor);
    assert!(lock(&log).is_empty());
}

#[test]
fn aborted_tasks_end_and_unplanned_panics_are_noted() {
    let (executor, log) = world(8);
    let doomed = sleeper(&executor, DomainId::WORLD, &[10], "doomed", &log);
    doomed.abort();
    for text in ["a bug", PLANNED_PANIC] {
        let task = async move { resume_unwind(Box::new(text)) };
        executor.spawn(DomainId::WORLD, "panics", Box::pin(task));
    }
    while executor.step() {}
    assert!(lock(&log).is_empty());
    assert_eq!(executor.take_panics(), ["panics: a bug"]);
}
