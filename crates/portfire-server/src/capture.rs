//! What handlers say through `tracing`, in the logs of their jobs: [`Capture`].

use std::cell::RefCell;
use std::fmt::{self, Write as _};

use portfire_core::Level;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::context::JobContext;

/// A layer that puts each event of a handler into the log of its job, at `DEBUG` and above unless the
/// layer is [filtered](Layer::with_filter) otherwise.
///
/// An event belongs to the job in whose span it happens, also in a task that was
/// [instrumented](tracing::Instrument) with that span and on another thread. Events of Portfire itself
/// are left out: what they say is in the job's history. A line is the event's message followed by its
/// fields; [the bounds](JobContext::log) are those of the log.
///
/// ```
/// use portfire_server::Capture;
/// use tracing_subscriber::layer::SubscriberExt;
///
/// let subscriber = tracing_subscriber::registry().with(Capture::new());
/// # let _ = subscriber;
/// ```
///
/// The jobs' span is of level `INFO`: a filter of the whole subscriber that drops it drops the events too.
#[derive(Clone, Copy, Debug, Default)]
pub struct Capture {
    _private: (),
}

impl Capture {
    /// The layer.
    pub fn new() -> Capture {
        Capture::default()
    }
}

thread_local! {
    /// The job whose span is being made on this thread.
    static BEGINNING: RefCell<Option<JobContext>> = const { RefCell::new(None) };
}

/// Makes the span of a job, so that a layer that hears of it knows the job.
pub(crate) fn spanned(job: &JobContext, make: impl FnOnce() -> tracing::Span) -> tracing::Span {
    BEGINNING.with(|beginning| beginning.replace(Some(job.clone())));
    let span = make();
    BEGINNING.with(|beginning| beginning.take());
    span
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Capture {
    fn on_new_span(&self, _: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let job = BEGINNING.with(|beginning| beginning.borrow().clone());
        if let (Some(job), Some(span)) = (job, context.span(id)) {
            span.extensions_mut().insert(Speaker(job));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        if is_own(metadata.target()) || *metadata.level() == tracing::Level::TRACE {
            return;
        }
        let Some(mut scope) = context.event_scope(event) else { return };
        let job = scope.find_map(|span| Some(span.extensions().get::<Speaker>()?.0.clone()));
        let Some(job) = job else { return };
        let mut text = Text::default();
        event.record(&mut text);
        job.log_at(level(*metadata.level()), text.finish());
    }
}

/// The job that speaks in a span.
struct Speaker(JobContext);

/// Whether Portfire itself speaks.
fn is_own(target: &str) -> bool {
    let module = target.split("::").next().unwrap_or(target);
    OWN.contains(&module)
}

/// The crates that speak while a job runs.
const OWN: [&str; 4] = ["portfire", "portfire_core", "portfire_server", "portfire_sqlite"];

fn level(level: tracing::Level) -> Level {
    match level {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::INFO => Level::Info,
        tracing::Level::DEBUG | tracing::Level::TRACE => Level::Debug,
    }
}

/// An event in words: its message, then its fields.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Text {
    fn finish(mut self) -> String {
        if self.message.is_empty() {
            return self.fields.trim_start().to_owned();
        }
        self.message.push_str(&self.fields);
        self.message
    }
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            name if is_bridged(name) => {}
            name => _ = write!(self.fields, " {name}={value}"),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => _ = write!(self.message, "{value:?}"),
            name if is_bridged(name) => {}
            name => _ = write!(self.fields, " {name}={value:?}"),
        }
    }
}

/// Whether a field is one of those (`log.target`, `log.file`, …) in which events of the `log` crate carry
/// where they come from.
fn is_bridged(field: &str) -> bool {
    field.starts_with("log.")
}
