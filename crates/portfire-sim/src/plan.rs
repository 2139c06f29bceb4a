//! What a seed decides before the run: how many of what, how often which fault (a "swarm": every
//! seed draws its own rates, so that some runs have a fault all the time and others never).

use std::time::Duration;

use portfire_core::Retention;

use crate::handlers::Kind;
use crate::rng::Rng;

const MILLI: Duration = Duration::from_millis(1);

/// The circumstances of one run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Nothing goes wrong: every job runs exactly as often as it asks for.
    pub(crate) calm: bool,
    pub(crate) servers: usize,
    pub(crate) workers: u32,
    pub(crate) blocking_workers: u32,
    pub(crate) queues: usize,
    pub(crate) clients: usize,
    /// Jobs that all clients together create.
    pub(crate) jobs: usize,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) lease: Duration,
    pub(crate) heartbeat: Duration,
    pub(crate) rescue: Duration,
    pub(crate) poll: Duration,
    pub(crate) clean: Duration,
    pub(crate) retention: Retention,
    /// How long the faults go on.
    pub(crate) trouble: Duration,
    pub(crate) network: Network,
    pub(crate) nemesis: NemesisPlan,
    /// How often a client steers a job: deletes, requeues, reschedules.
    pub(crate) steering: f64,
    /// Things with ties that clients make.
    pub(crate) tied: usize,
    /// What clients do about recurring jobs.
    pub(crate) recurring: usize,
    /// Most that a process's clock runs too fast or too slow, as a share.
    pub(crate) skew: f64,
    /// How often a task is held up before it runs.
    pub(crate) stall: f64,
}

/// How the way to the storage behaves. Rates are per call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Network {
    /// Usual time of each half of a call; the tail is heavy.
    pub(crate) usual: Duration,
    /// How often a half takes no time at all.
    pub(crate) instant: f64,
    /// Longest time of each half.
    pub(crate) slowest: Duration,
    /// The call fails and was not applied.
    pub(crate) error_before: f64,
    /// The call was applied and fails.
    pub(crate) error_after: f64,
    /// The call was applied and its answer is lost, which is noticed late.
    pub(crate) answer_lost: f64,
    /// The call of a server is never answered; it is applied or not.
    pub(crate) never_answered: f64,
    /// The storage has no room: the call fails, and that nothing was applied is certain.
    pub(crate) full: f64,
    /// The call travels by itself: it arrives even when its caller is paused, has given up or crashed.
    pub(crate) detached: f64,
    /// A wake-up is lost.
    pub(crate) hint_lost: f64,
    /// Longest delay of a wake-up.
    pub(crate) hint_late: Duration,
    /// Steps of a wrong design have time between them.
    pub(crate) gap: f64,
}

impl Network {
    /// A network in which nothing goes wrong.
    pub(crate) fn calm() -> Network {
        Network { usual: MILLI, instant: 0.5, slowest: 5 * MILLI, ..Network::default() }
    }
}

/// Mean number of each disaster in the time of trouble.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NemesisPlan {
    pub(crate) crashes: f64,
    pub(crate) fuses: f64,
    pub(crate) pauses: f64,
    pub(crate) stops: f64,
    pub(crate) outages: f64,
    pub(crate) client_crashes: f64,
    pub(crate) clock_steps: f64,
    pub(crate) queue_pauses: f64,
}

impl Plan {
    /// Draws the circumstances of a seed.
    pub(crate) fn draw(rng: &mut Rng) -> Plan {
        let calm = rng.chance(0.08);
        let lease = rng.time(2_000 * MILLI, 9_000 * MILLI);
        let trouble = lease.mul_f64(1.5 + 3.0 * rng.fraction());
        let mut plan = Plan {
            calm,
            servers: rng.between(1, 3) as usize,
            workers: rng.between(1, 4) as u32,
            blocking_workers: rng.between(1, 2) as u32,
            queues: rng.between(1, 3) as usize,
            clients: rng.between(1, 2) as usize,
            jobs: rng.between(3, 16) as usize,
            kinds: Vec::new(),
            lease,
            heartbeat: lease / 3,
            rescue: lease / 6,
            poll: rng.time(200 * MILLI, 2_000 * MILLI),
            clean: rng.time(500 * MILLI, 4_000 * MILLI),
            retention: Retention::default(),
            trouble,
            network: Network::calm(),
            nemesis: NemesisPlan::default(),
            steering: 0.0,
            tied: 0,
            recurring: 0,
            skew: 0.0,
            stall: 0.0,
        };
        let harmless = |kind: &Kind| !calm || !kind.kills();
        plan.kinds =
            Kind::ALL.iter().copied().filter(harmless).filter(|_| rng.chance(0.6)).collect();
        plan.kinds.push(if rng.chance(0.5) { Kind::Quick } else { Kind::Long });
        if rng.chance(0.5) {
            let kept = |rng: &mut Rng| Some(rng.time(100 * MILLI, 4_000 * MILLI));
            plan.retention =
                Retention { succeeded: kept(rng), failed: kept(rng), deleted: kept(rng) };
        }
        if rng.chance(0.6) {
            plan.steering = 0.1 + rng.fraction();
        }
        if !calm {
            plan.draw_faults(rng);
        }
        if rng.chance(0.6) {
            plan.tied = rng.between(1, 6) as usize;
        }
        if rng.chance(0.25) {
            plan.recurring = rng.between(1, 6) as usize;
        }
        plan
    }

    fn draw_faults(&mut self, rng: &mut Rng) {
        // Each fault is absent in a share of all seeds, so that it cannot hide another.
        let rate = |rng: &mut Rng, often: f64, most: f64| {
            if rng.chance(often) { most * rng.fraction() } else { 0.0 }
        };
        let slowest = rng.time(10 * MILLI, self.lease.mul_f64(1.5));
        self.network = Network {
            usual: rng.time(MILLI / 10, 8 * MILLI),
            instant: rng.fraction(),
            slowest: if rng.chance(0.7) { slowest } else { 20 * MILLI },
            error_before: rate(rng, 0.5, 0.15),
            error_after: rate(rng, 0.5, 0.15),
            answer_lost: rate(rng, 0.4, 0.06),
            never_answered: rate(rng, 0.3, 0.02),
            full: rate(rng, 0.3, 0.1),
            detached: rate(rng, 0.6, 1.0),
            hint_lost: rate(rng, 0.5, 1.0),
            hint_late: if rng.chance(0.5) { self.lease / 4 } else { 2 * MILLI },
            gap: 0.5,
        };
        self.nemesis = NemesisPlan {
            crashes: rate(rng, 0.6, 5.0),
            fuses: rate(rng, 0.5, 5.0),
            pauses: rate(rng, 0.6, 4.0),
            stops: rate(rng, 0.5, 3.0),
            outages: rate(rng, 0.3, 2.0),
            client_crashes: rate(rng, 0.5, 2.0),
            clock_steps: rate(rng, 0.2, 2.0),
            queue_pauses: rate(rng, 0.3, 2.0),
        };
        self.skew = rate(rng, 0.5, 0.05);
        self.stall = rate(rng, 0.4, 0.02);
    }
}
