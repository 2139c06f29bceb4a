//! Calls that run one after another: [`Chain`].

use std::fmt;
use std::marker::PhantomData;

use crate::call::{AnyCall, Call, Enqueue, JobFn, Takes};
use crate::continuation::After;

/// Calls that run one after another, stored in one commit. The type names the job of the last one.
///
/// ```
/// # use portfire_core::{After, Call, Client, ClientError, JobFn};
/// # struct step;
/// # impl JobFn for step { const KIND: &'static str = "step"; type Output = (); }
/// # async fn f(client: Client, extract: fn(u64) -> Call<step>, load: fn(&str) -> Call<step>, alert: fn(&str) -> Call<step>) -> Result<(), ClientError> {
/// let last = client.enqueue(extract(7).then(load("t1")).then_on(After::End, alert("ops"))).await?;
/// # Ok(()) }
/// ```
///
/// A call whose turn cannot come, because the one before it ended otherwise, is deleted, and so are
/// those after it. Every call keeps its own options: a [delay](Call::delay) counts from the end of the
/// call before.
#[must_use = "a chain does nothing until it is enqueued (`client.enqueue(chain).await?`)"]
pub struct Chain<J: JobFn> {
    /// At least one.
    calls: Vec<AnyCall>,
    last: PhantomData<fn() -> J>,
}

impl<J: JobFn> Chain<J> {
    /// Adds what runs after the success of the last call.
    pub fn then<N: IntoChain>(self, next: N) -> Chain<N::Last> {
        self.then_on(After::Success, next)
    }

    /// Adds what runs after this end of the last call.
    pub fn then_on<N: IntoChain>(mut self, after: After, next: N) -> Chain<N::Last> {
        let mut next = next.into_chain();
        if let Some(head) = next.calls.first_mut() {
            head.previous = Some(after);
        }
        self.calls.append(&mut next.calls);
        Chain { calls: self.calls, last: PhantomData }
    }

    /// Adds a call that runs after the success of the last one and takes what that returned, in its
    /// `#[parent]` parameter. It compiles only when the types are equal.
    ///
    /// ```text
    /// #[job]
    /// async fn extract(order: u64) -> Result<Rows, JobError> { … }
    /// #[job]
    /// async fn load(table: &str, #[parent] rows: Rows) -> Result<(), JobError> { … }
    ///
    /// client.enqueue(extract(7).pipe(load("t1"))).await?;
    /// ```
    pub fn pipe<K: Takes<J::Output>>(self, next: Call<K>) -> Chain<K> {
        self.then(next)
    }

    /// How many calls it has.
    #[expect(clippy::len_without_is_empty, reason = "a chain is never empty")]
    pub fn len(&self) -> usize {
        self.calls.len()
    }
}

/// What can follow in a chain: a call, or another chain.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a call of a job",
    label = "cannot follow in a chain",
    note = "put `#[job]` on the function, and pass what calling it returns: `extract(7).then(load(\"t1\"))`"
)]
pub trait IntoChain {
    /// The job of the last call.
    type Last: JobFn;

    /// The chain.
    fn into_chain(self) -> Chain<Self::Last>;
}

impl<J: JobFn> IntoChain for Call<J> {
    type Last = J;

    fn into_chain(self) -> Chain<J> {
        Chain { calls: vec![self.any()], last: PhantomData }
    }
}

impl<J: JobFn> IntoChain for Chain<J> {
    type Last = J;

    fn into_chain(self) -> Chain<J> {
        self
    }
}

impl<J: JobFn> Enqueue for Chain<J> {
    fn for_each_call(self, take: &mut dyn FnMut(AnyCall)) {
        self.calls.into_iter().for_each(take);
    }

    fn head(&mut self) -> &mut AnyCall {
        // Chains are made of calls, and only grow.
        &mut self.calls[0]
    }
}

impl<J: JobFn> Clone for Chain<J> {
    fn clone(&self) -> Chain<J> {
        Chain { calls: self.calls.clone(), last: PhantomData }
    }
}

impl<J: JobFn> fmt::Debug for Chain<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = self.calls.iter().map(|call| call.kind().as_str());
        f.write_str("Chain ")?;
        f.debug_list().entries(kinds).finish()
    }
}
