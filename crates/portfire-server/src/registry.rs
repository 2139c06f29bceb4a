//! Which handler runs which kind: [`Registry`], made of the job functions of a program.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use portfire_core::{KindName, QueueName};

use crate::filter::KindFilters;
use crate::handler::{Handler, HandlerDefaults, JobDescriptor};
use crate::problem::Problem;
use crate::services::Services;

/// The job functions of a server, by kind and by their former kinds.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    entries: Vec<Registered>,
    /// Only ever looked up, so that nothing depends on its order.
    by_kind: HashMap<&'static str, usize>,
}

/// A job function in a [`Registry`].
#[derive(Clone, Debug)]
pub struct Registered {
    /// The function.
    pub descriptor: &'static JobDescriptor,
    /// What its attribute says.
    pub defaults: HandlerDefaults,
    /// The filters of its attribute.
    pub filters: KindFilters,
}

impl Registry {
    /// A registry of these job functions. One that is given twice counts once.
    ///
    /// # Errors
    /// All kinds that are claimed by two functions, and all illegal names.
    pub fn new(
        jobs: impl IntoIterator<Item = &'static JobDescriptor>,
    ) -> Result<Registry, Vec<Problem>> {
        let (registry, problems) = Registry::collect(jobs);
        if problems.is_empty() { Ok(registry) } else { Err(problems) }
    }

    /// A registry of what can be registered, and what cannot.
    pub(crate) fn collect(
        jobs: impl IntoIterator<Item = &'static JobDescriptor>,
    ) -> (Registry, Vec<Problem>) {
        let mut registry = Registry::default();
        let mut problems = Vec::new();
        for job in jobs {
            registry.add(job, &mut problems);
        }
        (registry, problems)
    }

    /// The handler of a kind.
    pub fn find(&self, kind: &str) -> Option<&Registered> {
        self.by_kind.get(kind).map(|&at| &self.entries[at])
    }

    /// All handlers, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = &Registered> {
        self.entries.iter()
    }

    /// All kinds that have a handler, former ones included, in the order in which they were given.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = &'static str> {
        self.entries.iter().flat_map(|entry| {
            std::iter::once(entry.descriptor.kind).chain(entry.descriptor.aliases.iter().copied())
        })
    }

    /// Whether there is no handler.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The number of a kind's handler, from 0 in the order of [`iter`](Self::iter), and the handler.
    pub(crate) fn numbered(&self, kind: &str) -> Option<(usize, &Registered)> {
        self.by_kind.get(kind).map(|&at| (at, &self.entries[at]))
    }

    /// The services that handlers need and that are not there.
    pub(crate) fn missing_services(&self, services: &Services) -> Vec<Problem> {
        let mut missing: Vec<(&'static str, Vec<&'static str>)> = Vec::new();
        for entry in &self.entries {
            for need in (entry.descriptor.needs)() {
                if services.has(&need) {
                    continue;
                }
                let kind = entry.descriptor.kind;
                match missing.iter_mut().find(|(name, _)| *name == need.name()) {
                    Some((_, kinds)) if kinds.contains(&kind) => {}
                    Some((_, kinds)) => kinds.push(kind),
                    None => missing.push((need.name(), vec![kind])),
                }
            }
        }
        let problem = |(service, kinds)| Problem::MissingService { service, kinds };
        missing.into_iter().map(problem).collect()
    }

    fn add(&mut self, descriptor: &'static JobDescriptor, problems: &mut Vec<Problem>) {
        // A job may be linked and listed, or listed twice: that is the same function, though not
        // always the same static.
        let same = |entry: &Registered| {
            let job = entry.descriptor;
            (job.kind, job.location) == (descriptor.kind, descriptor.location)
        };
        if self.entries.iter().any(same) {
            return;
        }
        let defaults = (descriptor.defaults)();
        check_names(descriptor, &defaults, problems);
        let at = self.entries.len();
        let filters = (descriptor.filters)();
        self.entries.push(Registered { descriptor, defaults, filters });
        for kind in std::iter::once(&descriptor.kind).chain(descriptor.aliases) {
            match self.by_kind.entry(kind) {
                Slot::Vacant(slot) => _ = slot.insert(at),
                // An alias that repeats the job's own kind is harmless.
                Slot::Occupied(slot) if *slot.get() == at => {}
                Slot::Occupied(slot) => {
                    let first = self.entries[*slot.get()].descriptor.location;
                    let second = descriptor.location;
                    problems.push(Problem::DuplicateKind { kind, first, second });
                }
            }
        }
    }
}

impl Registered {
    /// Whether its handler runs on a thread that may block.
    pub(crate) fn is_blocking(&self) -> bool {
        matches!(self.descriptor.handler, Handler::Blocking(_))
    }
}

fn check_names(job: &'static JobDescriptor, defaults: &HandlerDefaults, to: &mut Vec<Problem>) {
    let mut refuse = |reason: String| {
        to.push(Problem::BadJob { kind: job.kind, location: job.location, reason });
    };
    for kind in std::iter::once(&job.kind).chain(job.aliases) {
        if let Err(error) = KindName::new(*kind) {
            refuse(error.to_string());
        }
    }
    if let Err(error) = QueueName::new(job.queue) {
        refuse(error.to_string());
    }
    if let Some(Err(error)) = defaults.retry.as_ref().map(portfire_core::RetryPolicy::validate) {
        refuse(error.to_string());
    }
}
