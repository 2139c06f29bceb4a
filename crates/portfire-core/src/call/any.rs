//! A call whose job's type is forgotten: [`AnyCall`], and what a client can store at once: [`Enqueue`].

use std::fmt;

use crate::call::template::Args;
use crate::call::{Call, JobFn, Limit, Unique};
use crate::continuation::{After, Dependency};
use crate::job::{InvalidJob, JobId, JobOptions, Json, KindName, NewJob, QueueName, When};
use crate::ties::Ties;

/// A call of some job: what [`Call::any`] makes, for lists of calls of different jobs.
///
/// ```
/// # use portfire_core::{Call, Client, ClientError, JobFn};
/// # enum invoice {} enum receipt {}
/// # impl JobFn for invoice { const KIND: &'static str = "invoice"; type Output = (); }
/// # impl JobFn for receipt { const KIND: &'static str = "receipt"; type Output = (); }
/// # async fn f(client: Client, invoice: fn(u64) -> Call<invoice>, receipt: fn(u64) -> Call<receipt>) -> Result<(), ClientError> {
/// client.enqueue_many([invoice(7).any(), receipt(7).any()]).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "a call does nothing until it is enqueued (`client.enqueue(call).await?`)"]
pub struct AnyCall {
    pub(crate) kind: KindName,
    pub(crate) id: Option<JobId>,
    /// The arguments, or the first mistake that was made in building the call.
    pub(crate) args: Result<Json, InvalidJob>,
    pub(crate) queue: QueueName,
    pub(crate) priority: i16,
    pub(crate) when: When,
    pub(crate) options: JobOptions,
    pub(crate) after: Vec<Dependency>,
    /// Which end of the call before it in its chain it waits for.
    pub(crate) previous: Option<After>,
    pub(crate) unique: Option<Unique>,
    pub(crate) limits: Vec<Limit>,
    /// As [`JobFn::PARENTS`].
    pub(crate) parents: Option<usize>,
}

impl AnyCall {
    pub(crate) fn of<J: JobFn>(args: Result<Json, InvalidJob>) -> AnyCall {
        AnyCall {
            kind: KindName::stored(J::KIND),
            id: None,
            args,
            queue: QueueName::stored(J::QUEUE),
            priority: J::PRIORITY,
            when: When::Now,
            options: JobOptions {
                retention: J::retention(),
                start_deadline: J::start_within(),
                ..JobOptions::default()
            },
            after: Vec::new(),
            previous: None,
            unique: J::unique(),
            limits: J::limits(),
            parents: J::PARENTS,
        }
    }

    /// The kind of its job.
    pub fn kind(&self) -> &KindName {
        &self.kind
    }

    /// The serialised arguments.
    ///
    /// # Errors
    /// The first mistake that was made in building the call.
    pub fn args(&self) -> Result<&Json, &InvalidJob> {
        self.args.as_ref()
    }

    /// Keeps the first mistake, for when the call is enqueued.
    pub(crate) fn mistake(&mut self, mistake: InvalidJob) {
        if self.args.is_ok() {
            self.args = Err(mistake);
        }
    }

    /// The job to store, which waits for `previous` when it is not the first of its chain.
    pub(crate) fn into_new_job(
        self,
        make_id: impl FnOnce() -> JobId,
        previous: Option<JobId>,
    ) -> Result<NewJob, InvalidJob> {
        let args = self.args?;
        let mut when = self.when;
        let mut ties = Ties { after: self.after, ..Ties::default() };
        if let (Some(after), Some(previous)) = (self.previous, previous) {
            ties.after.insert(0, Dependency::on(previous).after(after));
        }
        if let Some(needed) = self.parents {
            if ties.after.len() < needed {
                let given = ties.after.len();
                return Err(InvalidJob::NoParent { kind: self.kind, needed, given });
            }
            ties.after.iter_mut().for_each(|parent| *parent = parent.passing());
        }
        if self.unique.is_some() || !self.limits.is_empty() {
            let named = Args::new(&self.kind, &args);
            if let Some(unique) = &self.unique {
                when = unique.delayed(when)?;
            }
            ties.unique = self.unique.map(|unique| unique.into_key(&named)).transpose()?;
            let limits = self.limits.into_iter().map(|limit| limit.into_use(&named));
            ties.limits = limits.collect::<Result<_, _>>()?;
        }
        let id = self.id.unwrap_or_else(make_id);
        Ok(NewJob {
            queue: self.queue,
            priority: self.priority,
            when,
            options: self.options,
            ties,
            ..NewJob::new(id, self.kind, args)
        })
    }
}

impl<J: JobFn> From<Call<J>> for AnyCall {
    fn from(call: Call<J>) -> AnyCall {
        call.call
    }
}

impl fmt::Debug for AnyCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The arguments may hold secrets; they are not for logs.
        f.debug_struct("Call").field("kind", &self.kind).field("queue", &self.queue).finish()
    }
}

/// What a client can store at once: a [`Call`], a [`Chain`](crate::Chain), an [`AnyCall`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a call of a job",
    label = "cannot be enqueued",
    note = "put `#[job]` on the function, and pass what calling it returns: `client.enqueue(send_welcome(42, \"en\"))`"
)]
pub trait Enqueue: Sized {
    /// Hands out the calls, in the order in which they are to be stored.
    #[doc(hidden)]
    fn for_each_call(self, take: &mut dyn FnMut(AnyCall));

    /// The first call; the others wait for it.
    #[doc(hidden)]
    fn head(&mut self) -> &mut AnyCall;
}

impl<J: JobFn> Enqueue for Call<J> {
    fn for_each_call(self, take: &mut dyn FnMut(AnyCall)) {
        take(self.call);
    }

    fn head(&mut self) -> &mut AnyCall {
        &mut self.call
    }
}

impl Enqueue for AnyCall {
    fn for_each_call(self, take: &mut dyn FnMut(AnyCall)) {
        take(self);
    }

    fn head(&mut self) -> &mut AnyCall {
        self
    }
}
