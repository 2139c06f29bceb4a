//! The way of one process to the storage: calls are late, fail before or after they are applied, lose
//! their answers, or arrive when their caller has given up or crashed; wake-ups are late or lost.
//!
//! A call is a journey, one application, and a journey back. Usually both journeys are part of the
//! caller, and end where the caller is crashed or dropped; a *detached* call travels by itself.
//! Mutants that need time between two steps take them here.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portfire_core::{
    Answer, BatchChange, BatchChanged, BatchId, Capabilities, Change, Changed, Claim, Cleaned,
    Created, Cycle, CycleRequest, DueRecurring, Finish, Fire, FireAction, Fired, JobId, LimitRule,
    LimitTarget, LockAnswer, LockRequest, Lost, Monitor, NewBatch, NewJob, NewServer, Outcome,
    Promoted, QueueName, RecurringChange, RecurringChanged, RescueRequest, Rescued, ServerId,
    Storage, StorageError, StorageInfo, Timestamp, Verdict, Wakeup, WakeupHub, Wakeups,
};
use tokio::sync::oneshot;

use crate::executor::DomainId;
use crate::marks::Mark;
use crate::mutants::Mutant;
use crate::rng::Rng;
use crate::sync::lock;
use crate::truth::Truth;
use crate::world::World;

/// The storage as one process sees it.
pub(crate) struct FaultyStorage {
    world: Arc<World>,
    domain: DomainId,
    hub: Arc<WakeupHub>,
    rng: Mutex<Rng>,
    /// How far ahead the clock is that mutants of this process look at.
    ahead: Duration,
    /// Whether a call may be left without an answer: servers must bear it, of clients nothing is said.
    waits_for_ever: bool,
}

/// What happens to one call.
#[derive(Clone, Copy)]
struct Weather {
    there: Duration,
    back: Duration,
    error_before: bool,
    error_after: bool,
    answer_lost: bool,
    never_answered: bool,
    full: bool,
    detached: bool,
    /// How long the caller of a detached call waits.
    patience: Option<Duration>,
}

impl FaultyStorage {
    /// The storage for the process of a server.
    pub(crate) fn for_server(world: &Arc<World>, domain: DomainId) -> Arc<FaultyStorage> {
        FaultyStorage::new(world, domain, true)
    }

    /// The storage for the process of a client.
    pub(crate) fn for_client(world: &Arc<World>, domain: DomainId) -> Arc<FaultyStorage> {
        FaultyStorage::new(world, domain, false)
    }

    fn new(world: &Arc<World>, domain: DomainId, waits_for_ever: bool) -> Arc<FaultyStorage> {
        let mut rng = world.fork_rng();
        let hub = Arc::new(WakeupHub::default());
        let ahead = rng.time(Duration::ZERO, 2 * world.plan.lease);
        let hints = forward_hints(Arc::clone(world), domain, Arc::clone(&hub), rng.fork());
        world.executor.spawn(DomainId::WORLD, "wake-ups", Box::pin(hints));
        Arc::new(FaultyStorage {
            world: Arc::clone(world),
            domain,
            hub,
            rng: Mutex::new(rng),
            ahead,
            waits_for_ever,
        })
    }

    fn forecast(&self) -> Weather {
        let network = self.world.network();
        let mut rng = lock(&self.rng);
        let detached = rng.chance(network.detached);
        let impatient = detached && rng.chance(0.1);
        let half = |rng: &mut Rng| match rng.chance(network.instant) {
            true => Duration::ZERO,
            false => rng.heavy_tail(network.usual, network.slowest),
        };
        Weather {
            there: half(&mut rng),
            back: half(&mut rng),
            error_before: rng.chance(network.error_before),
            error_after: rng.chance(network.error_after),
            answer_lost: rng.chance(network.answer_lost),
            never_answered: self.waits_for_ever && rng.chance(network.never_answered),
            full: rng.chance(network.full),
            detached,
            patience: impatient.then(|| rng.heavy_tail(8 * network.usual, network.slowest)),
        }
    }

    /// Makes a call that is applied in one step.
    fn call<T: fmt::Debug + Send + 'static>(
        &self,
        name: &'static str,
        apply: impl FnOnce(&Truth) -> Result<T, StorageError> + Send + 'static,
    ) -> Answer<'_, T> {
        let (world, domain) = (Arc::clone(&self.world), self.domain);
        let weather = self.forecast();
        if !weather.detached {
            return Box::pin(travel(world, domain, weather, name, apply, || false));
        }
        Box::pin(async move {
            let (tell, mut told) = oneshot::channel();
            let on_the_way = Arc::clone(&world);
            let patience = weather.patience;
            let task = async move {
                let gone = || tell.is_closed();
                let answer = travel(on_the_way, domain, weather, name, apply, gone).await;
                let _ = tell.send(answer);
            };
            world.executor.spawn(DomainId::WORLD, name, Box::pin(task));
            let unheard = || StorageError::unavailable("the connection broke");
            let Some(patience) = patience else {
                return told.await.unwrap_or_else(|_| Err(unheard()));
            };
            let mut waiting = std::pin::pin!(world.executor.sleep(domain, patience));
            tokio::select! {
                biased;
                answer = &mut told => answer.unwrap_or_else(|_| Err(unheard())),
                () = &mut waiting => {
                    world.note(domain, || format!("{name} times out"));
                    drop(told);
                    Err(StorageError::unavailable("timed out"))
                }
            }
        })
    }

    // What mutants do in several steps.

    /// Gets to the storage and back, with several steps at the storage.
    fn steps<'a, T: fmt::Debug + Send + 'a>(
        &'a self,
        name: &'static str,
        steps: impl Future<Output = Result<T, StorageError>> + Send + 'a,
    ) -> Answer<'a, T> {
        let weather = self.forecast();
        Box::pin(async move {
            self.world.sleep(weather.there).await;
            if weather.error_before || self.world.is_outage() {
                return Err(StorageError::unavailable("not reached"));
            }
            let answer = steps.await;
            self.world.note(self.domain, || format!("{name} → {answer:?}"));
            self.world.sleep(weather.back).await;
            if weather.error_after || weather.answer_lost || self.world.is_outage() {
                return Err(StorageError::unavailable("the answer was lost"));
            }
            answer
        })
    }

    /// The time between two steps that should be one, in which everything may happen.
    async fn gap(&self) -> Result<(), StorageError> {
        let network = self.world.network();
        let (time, breaks) = {
            let mut rng = lock(&self.rng);
            let long = rng.chance(network.gap);
            let most = if long { 2 * self.world.plan.lease } else { network.usual };
            let usual = if long { Duration::from_millis(100) } else { network.usual };
            (rng.heavy_tail(usual, most), rng.chance(network.error_after))
        };
        self.world.sleep(time).await;
        if breaks || self.world.is_outage() {
            return Err(StorageError::unavailable("the connection broke between two steps"));
        }
        Ok(())
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.world.mutant == Some(mutant)
    }

    async fn create_one_by_one(&self, jobs: Vec<NewJob>) -> Result<Vec<Created>, StorageError> {
        let mut created = Vec::new();
        for job in jobs {
            created.extend(self.world.truth.create(vec![job])?);
            self.gap().await?;
        }
        Ok(created)
    }

    async fn create_in_two_steps(&self, jobs: Vec<NewJob>) -> Result<Vec<Created>, StorageError> {
        let created = self.world.truth.draft(jobs);
        self.gap().await?;
        self.world.truth.publish(&created)?;
        Ok(created)
    }

    fn create_later(&self, jobs: Vec<NewJob>) -> Vec<Created> {
        let created = jobs.iter().map(|job| Created { id: job.id, existing: false }).collect();
        let world = Arc::clone(&self.world);
        let time = lock(&self.rng).heavy_tail(Duration::from_millis(50), world.plan.lease);
        let task = async move {
            world.sleep(time).await;
            if !world.is_outage() {
                let _ = world.truth.create(jobs);
            }
        };
        self.world.executor.spawn(DomainId::WORLD, "late create", Box::pin(task));
        created
    }

    async fn fire_in_two_steps(&self, plans: Vec<Fire>) -> Result<Vec<Fired>, StorageError> {
        let mut first = plans.clone();
        for plan in &mut first {
            if let FireAction::Run { planned, .. } = &mut plan.action {
                planned.clear();
            }
        }
        let mut fired = self.world.truth.fire(first)?;
        self.gap().await?;
        for (plan, fired) in plans.iter().zip(&mut fired) {
            let FireAction::Run { planned, .. } = &plan.action else { continue };
            if let (Fired::Applied { jobs }, Some(record)) =
                (fired, self.world.truth.recurring(&plan.id))
            {
                let ids = planned.iter().map(|&at| JobId::of_occurrence(&plan.id, at));
                jobs.extend(ids);
                let runs = jobs.iter().map(|&job| record.definition.job(job)).collect();
                self.world.truth.create(runs)?;
            }
        }
        Ok(fired)
    }

    /// A cycle that reports releases to nobody.
    fn cycle_without_releases(&self, mut request: CycleRequest) -> Answer<'_, Cycle> {
        let released = |finish: &Finish| finish.outcome == Outcome::Released;
        let dropped: Vec<bool> = request.finished.iter().map(released).collect();
        request.finished.retain(|finish| !released(finish));
        let sent = self.call("cycle", move |truth| truth.cycle(request));
        Box::pin(async move {
            let mut cycle = sent.await?;
            let mut verdicts = std::mem::take(&mut cycle.verdicts).into_iter();
            let verdict = |dropped| if dropped { Some(Verdict::Applied) } else { verdicts.next() };
            cycle.verdicts = dropped.into_iter().filter_map(verdict).collect();
            Ok(cycle)
        })
    }
}

/// The way of a call: there, its application, and back.
async fn travel<T: fmt::Debug>(
    world: Arc<World>,
    domain: DomainId,
    weather: Weather,
    name: &'static str,
    apply: impl FnOnce(&Truth) -> Result<T, StorageError>,
    is_given_up: impl Fn() -> bool,
) -> Result<T, StorageError> {
    world.sleep(weather.there).await;
    if weather.error_before || world.is_outage() {
        world.note(domain, || format!("{name} is not reached"));
        return Err(StorageError::unavailable("not reached"));
    }
    if weather.full {
        world.hit(Mark::StorageFull);
        world.note(domain, || format!("{name}: the storage is full"));
        return Err(StorageError::Full("no room left".into()));
    }
    if is_given_up() || !world.executor.is_alive(domain) || world.executor.is_paused(domain) {
        world.hit(Mark::AppliedLate);
    }
    let answer = apply(&world.truth);
    world.trace.mix(u64::from(answer.is_ok()));
    world.note(domain, || format!("{name} → {answer:?}"));
    world.sleep(weather.back).await;
    // Handlers await what they create; for how long is their own affair.
    if weather.never_answered && !name.starts_with("create") {
        world.hit(Mark::NeverAnswered);
        world.note(domain, || format!("{name} is never answered"));
        std::future::pending::<()>().await;
    }
    if weather.answer_lost {
        world.sleep(world.plan.lease / 3).await;
    }
    if weather.error_after || weather.answer_lost || world.is_outage() {
        world.hit(Mark::OutcomeUnknown);
        world.note(domain, || format!("{name}: the answer is lost"));
        return Err(StorageError::unavailable("the answer was lost"));
    }
    answer
}

/// Hands the hints of the storage on to a process, late or not at all.
async fn forward_hints(world: Arc<World>, domain: DomainId, hub: Arc<WakeupHub>, mut rng: Rng) {
    let mut wakeups = world.truth.wakeups();
    loop {
        let wakeup = wakeups.next().await;
        let network = world.network();
        if rng.chance(network.hint_lost) {
            continue;
        }
        let late = rng.heavy_tail(Duration::from_micros(200), network.hint_late);
        world.sleep(late).await;
        if !world.executor.is_alive(domain) {
            return;
        }
        match wakeup {
            Wakeup::Work => hub.work(),
            Wakeup::Control => hub.control(),
        }
    }
}

impl Storage for FaultyStorage {
    fn create(&self, jobs: Vec<NewJob>) -> Answer<'_, Vec<Created>> {
        match self.world.mutant {
            Some(Mutant::CreateInTwoSteps) => self.steps("create", self.create_in_two_steps(jobs)),
            Some(Mutant::CreateOneByOne) => self.steps("create", self.create_one_by_one(jobs)),
            Some(Mutant::AckBeforeDurable) => {
                self.steps("create", async move { Ok(self.create_later(jobs)) })
            }
            _ => self.call("create", move |truth| truth.create(jobs)),
        }
    }

    fn create_batches(
        &self,
        batches: Vec<NewBatch>,
        jobs: Vec<NewJob>,
    ) -> Answer<'_, Vec<Created>> {
        if self.is(Mutant::ContinuationInTwoSteps) {
            return self.steps("create", async move {
                let open = self.world.truth.open_antecedents(&jobs);
                if !open.is_empty() {
                    self.gap().await?;
                }
                self.world.truth.create_linked(batches, jobs, &open)
            });
        }
        if batches.is_empty() {
            return self.create(jobs);
        }
        self.call("create", move |truth| truth.create_batches(batches, jobs))
    }

    fn change_batch(&self, batch: BatchId, change: BatchChange) -> Answer<'_, BatchChanged> {
        self.call("change_batch", move |truth| truth.change_batch(batch, change))
    }

    fn change_recurring(&self, change: RecurringChange) -> Answer<'_, RecurringChanged> {
        self.call("change_recurring", move |truth| truth.change_recurring(change))
    }

    fn due_recurring(&self, max: u32) -> Answer<'_, DueRecurring> {
        self.call("due_recurring", move |truth| truth.due_recurring(max))
    }

    fn fire(&self, plans: Vec<Fire>) -> Answer<'_, Vec<Fired>> {
        if self.is(Mutant::FireInTwoSteps) {
            return self.steps("fire", self.fire_in_two_steps(plans));
        }
        self.call("fire", move |truth| truth.fire(plans))
    }

    fn set_limit(&self, target: LimitTarget, rule: Option<LimitRule>) -> Answer<'_, ()> {
        self.call("set_limit", move |truth| truth.pass(|memory| memory.set_limit(target, rule)))
    }

    fn lock(&self, request: LockRequest) -> Answer<'_, LockAnswer> {
        self.call("lock", move |truth| truth.pass(|memory| memory.lock(request)))
    }

    fn announce(&self, server: NewServer) -> Answer<'_, ()> {
        let domain = self.domain;
        self.call("announce", move |truth| truth.announce(domain, server))
    }

    fn heartbeat(&self, server: ServerId, held: Vec<Claim>) -> Answer<'_, Vec<Lost>> {
        let silent = self.is(Mutant::LostClaimsUnreported);
        self.call("heartbeat", move |truth| {
            let lost = truth.heartbeat(&server, held)?;
            Ok(if silent { Vec::new() } else { lost })
        })
    }

    fn verify(&self, server: ServerId, held: Vec<Claim>) -> Answer<'_, Vec<Lost>> {
        let silent = self.is(Mutant::LostClaimsUnreported);
        self.call("verify", move |truth| {
            let lost = truth.verify(&server, held)?;
            Ok(if silent { Vec::new() } else { lost })
        })
    }

    fn retire(&self, server: ServerId) -> Answer<'_, ()> {
        if self.is(Mutant::ShutdownDropsPrefetched) {
            return self.call("retire", |_| Ok(()));
        }
        self.call("retire", move |truth| truth.retire(&server))
    }

    fn cycle(&self, request: CycleRequest) -> Answer<'_, Cycle> {
        self.world.note(self.domain, || {
            let CycleRequest { key, repeated, finished, claim, .. } = &request;
            let again = if *repeated { " again" } else { "" };
            format!("sends cycle {key}{again}: {finished:?}, wants {claim:?}")
        });
        match self.world.mutant {
            Some(Mutant::ShutdownDropsPrefetched) => self.cycle_without_releases(request),
            Some(Mutant::RetryCountedApart) => self.steps("cycle", async move {
                self.world.truth.count_ahead(&request);
                if !request.finished.is_empty() {
                    self.gap().await?;
                }
                self.world.truth.cycle(request)
            }),
            Some(Mutant::BatchReadThenFire) => self.steps("cycle", async move {
                let ends = !request.finished.is_empty();
                let cycle = self.world.truth.cycle(request)?;
                if ends {
                    self.gap().await?;
                    self.world.truth.fire_callbacks();
                }
                Ok(cycle)
            }),
            _ => self.call("cycle", move |truth| truth.cycle(request)),
        }
    }

    fn rescue(&self, request: RescueRequest) -> Answer<'_, Rescued> {
        let orphans = self.world.truth.orphans();
        match self.world.mutant {
            Some(Mutant::RescueInTwoSteps) => self.steps("rescue", async move {
                let lapsing = self.world.truth.lapsing(Duration::ZERO);
                self.gap().await?;
                self.world.truth.rescue_these(&lapsing, request)
            }),
            Some(Mutant::RescueByLocalClock) => {
                let ahead = self.ahead;
                self.call("rescue", move |truth| match truth.lapsing(ahead).is_empty() {
                    true => truth.rescue(request),
                    false => truth.ahead(ahead, || truth.rescue(request)),
                })
            }
            _ => self.call("rescue", move |truth| {
                let rescued = truth.rescue(request)?;
                truth.mark_race(
                    Mark::RescueRaceLost,
                    &orphans,
                    rescued.returned + rescued.poisoned,
                );
                Ok(rescued)
            }),
        }
    }

    fn promote(&self, max: u32) -> Answer<'_, Promoted> {
        if self.is(Mutant::PromoteByLocalClock) {
            let ahead = self.ahead;
            return self.call("promote", move |truth| match truth.is_due_within(ahead) {
                true => truth.ahead(ahead, || truth.promote(max)),
                false => truth.promote(max),
            });
        }
        let due = self.world.truth.due();
        self.call("promote", move |truth| {
            let promoted = truth.promote(max)?;
            truth.mark_race(Mark::PromoteRaceLost, &due, promoted.promoted);
            Ok(promoted)
        })
    }

    fn change(&self, changes: Vec<Change>) -> Answer<'_, Vec<Changed>> {
        self.call("change", move |truth| truth.change(changes))
    }

    fn clean(&self, max: u32) -> Answer<'_, Cleaned> {
        let expired = self.world.truth.expired_jobs();
        if self.is(Mutant::CleanWithoutRecheck) {
            return self.steps("clean", async move {
                let expired = self.world.truth.expired();
                if !expired.is_empty() {
                    self.gap().await?;
                }
                self.world.truth.remove(&expired)
            });
        }
        self.call("clean", move |truth| {
            let cleaned = truth.clean(max)?;
            truth.mark_wanted_again(&expired);
            Ok(cleaned)
        })
    }

    fn set_queue_paused(&self, queue: QueueName, paused: bool) -> Answer<'_, ()> {
        self.call("set_queue_paused", move |truth| {
            truth.set_queue_paused(queue, paused);
            Ok(())
        })
    }

    fn wakeups(&self) -> Wakeups {
        self.hub.subscribe()
    }

    fn info(&self) -> StorageInfo {
        StorageInfo {
            name: "simulated",
            location: "a simulated world".to_owned(),
            durability: "whatever the seed says",
            args_bytes_max: 1024 * 1024,
            capabilities: Capabilities::default(),
        }
    }
}

macro_rules! on_the_way {
    ($($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        $(
            fn $name(&self, $($argument: $type),*) -> Answer<'_, $answer> {
                self.call(stringify!($name), move |truth| {
                    truth.read(|monitor| monitor.$name($($argument),*))
                })
            }
        )*
    };
}

impl Monitor for FaultyStorage {
    portfire_core::each_call!(reads on_the_way);

    fn now(&self) -> Answer<'_, Timestamp> {
        self.call("now", |truth| Ok(truth.now()))
    }

    fn skew(&self) -> Answer<'_, Duration> {
        self.call("skew", |truth| Ok(truth.skew()))
    }
}

impl fmt::Debug for FaultyStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStorage of {}", self.domain)
    }
}
