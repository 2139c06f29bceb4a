//! The nemesis: crashes, fuses, pauses, orderly stops, outages, clock steps and paused queues, at
//! moments that the seed draws.

use std::sync::Arc;
use std::time::Duration;

use portfire_core::QueueName;

use crate::hosts::Host;
use crate::marks::Mark;
use crate::rng::Rng;
use crate::workload::Workload;
use crate::world::World;

const MILLI: Duration = Duration::from_millis(1);

/// One disaster.
#[derive(Clone, Copy, Debug)]
enum Disaster {
    Crash,
    Fuse,
    Pause,
    Stop,
    Outage,
    ClientCrash,
    ClockStep,
    QueuePause,
}

/// Lets disasters happen until the faults stop.
pub(crate) async fn run(world: Arc<World>, hosts: Vec<Arc<Host>>, workload: Arc<Workload>) {
    let mut rng = world.fork_rng();
    for (at, disaster) in draw(&world, &mut rng) {
        world.sleep(at.saturating_sub(world.executor.now())).await;
        if world.is_healed() {
            return;
        }
        strike(&world, &hosts, &workload, disaster, &mut rng);
    }
}

/// The disasters of a run, by their moments.
fn draw(world: &World, rng: &mut Rng) -> Vec<(Duration, Disaster)> {
    let plan = &world.plan.nemesis;
    let means = [
        (plan.crashes, Disaster::Crash),
        (plan.fuses, Disaster::Fuse),
        (plan.pauses, Disaster::Pause),
        (plan.stops, Disaster::Stop),
        (plan.outages, Disaster::Outage),
        (plan.client_crashes, Disaster::ClientCrash),
        (plan.clock_steps, Disaster::ClockStep),
        (plan.queue_pauses, Disaster::QueuePause),
    ];
    let mut drawn = Vec::new();
    for (mean, disaster) in means {
        let whole = mean.floor();
        let count = whole as u32 + u32::from(rng.chance(mean - whole));
        drawn.extend((0..count).map(|_| (rng.time(Duration::ZERO, world.plan.trouble), disaster)));
    }
    drawn.sort_by_key(|&(at, _)| at);
    drawn
}

fn strike(
    world: &Arc<World>,
    hosts: &[Arc<Host>],
    workload: &Workload,
    disaster: Disaster,
    rng: &mut Rng,
) {
    let domain = rng.pick(hosts).domain();
    world.note(crate::executor::DomainId::WORLD, || format!("{disaster:?} of {domain:?}"));
    match (disaster, domain) {
        (Disaster::Crash, Some(domain)) => world.executor.crash(domain),
        (Disaster::Fuse, Some(domain)) => {
            world.executor.light_fuse(domain, rng.between(1, 60) as u32);
        }
        (Disaster::Pause, Some(domain)) => {
            world.executor.pause(domain);
            let long = world.plan.lease.mul_f64(0.2 + 2.5 * rng.fraction());
            let world = Arc::clone(world);
            let inner = Arc::clone(&world);
            let resume = async move {
                inner.sleep(long).await;
                if long > inner.plan.lease && inner.executor.is_alive(domain) {
                    inner.hit(Mark::PausedBeyondLease);
                }
                inner.note(domain, || "resumed".to_owned());
                inner.executor.resume(domain);
            };
            let outside = crate::executor::DomainId::WORLD;
            world.executor.spawn(outside, "resume", Box::pin(resume));
        }
        (Disaster::Stop, _) => rng.pick(hosts).stop(),
        (Disaster::Outage, _) => {
            let long = rng.heavy_tail(300 * MILLI, 2 * world.plan.lease);
            later(world, "outage", long, |world| {
                world.set_outage(false);
                world.hit(Mark::Outage);
            });
            world.set_outage(true);
        }
        (Disaster::ClientCrash, _) => {
            let processes = workload.processes();
            if !processes.is_empty() {
                world.executor.light_fuse(*rng.pick(&processes), rng.between(1, 4) as u32);
            }
        }
        (Disaster::ClockStep, _) => {
            world.truth.now();
            world.truth.clock.step_back(rng.time(MILLI, world.plan.lease));
            world.hit(Mark::ClockBack);
        }
        (Disaster::QueuePause, _) => {
            let queue = QueueName::stored(format!("q{}", rng.below(world.plan.queues as u64)));
            let long = rng.time(100 * MILLI, 2 * world.plan.lease);
            world.truth.set_queue_paused(queue.clone(), true);
            later(world, "resume of a queue", long, move |world| {
                world.truth.set_queue_paused(queue.clone(), false);
            });
        }
        _ => {}
    }
}

fn later(
    world: &Arc<World>,
    name: &'static str,
    after: Duration,
    act: impl FnOnce(&World) + Send + 'static,
) {
    let inner = Arc::clone(world);
    let task = async move {
        inner.sleep(after).await;
        act(&inner);
    };
    world.executor.spawn(crate::executor::DomainId::WORLD, name, Box::pin(task));
}
