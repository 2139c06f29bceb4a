//! A progress bar of a running job: [`Bar`].

use std::iter::FusedIterator;

use crate::context::JobContext;

/// A progress bar of a job. Made by [`JobContext::progress_bar`]; cheap to clone.
///
/// Moving it is a few bytes in memory; the server sends where it stands about once a second. It never
/// stands beyond its total: what moves it further leaves it there, and the job's log says so once.
///
/// ```
/// # fn job(cx: &portfire_server::JobContext, rows: Vec<u32>) {
/// let bar = cx.progress_bar("rows", rows.len() as u64);
/// for row in bar.wrap(rows) {
///     let _ = row; // each row counts once it is done
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Bar {
    job: JobContext,
    /// Its place among the job's bars; none when there were too many.
    index: Option<usize>,
}

impl Bar {
    pub(crate) fn new(job: JobContext, index: Option<usize>) -> Bar {
        Bar { job, index }
    }

    /// Puts it at `done` of its total.
    pub fn set(&self, done: u64) {
        self.move_to(|_| done);
    }

    /// Moves it on by so much.
    pub fn inc(&self, by: u64) {
        self.move_to(|done| done.saturating_add(by));
    }

    /// An iterator that moves the bar on by one for each item that was dealt with: when the next one is
    /// asked for.
    pub fn wrap<I: IntoIterator>(&self, items: I) -> Counted<I::IntoIter> {
        Counted { items: items.into_iter(), bar: self.clone(), in_hand: false }
    }

    fn move_to(&self, to: impl FnOnce(u64) -> u64) {
        if let Some(index) = self.index {
            self.job.note(|pages, at| pages.move_bar(index, at, to));
        }
    }
}

/// An iterator that moves a [`Bar`]. Made by [`Bar::wrap`].
#[derive(Clone, Debug)]
pub struct Counted<I> {
    items: I,
    bar: Bar,
    /// Whether an item was given out that does not count yet.
    in_hand: bool,
}

impl<I: Iterator> Iterator for Counted<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        let item = self.items.next();
        if std::mem::replace(&mut self.in_hand, item.is_some()) {
            self.bar.inc(1);
        }
        item
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.items.size_hint()
    }
}

impl<I: ExactSizeIterator> ExactSizeIterator for Counted<I> {}
impl<I: FusedIterator> FusedIterator for Counted<I> {}
