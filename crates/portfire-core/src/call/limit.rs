//! What a call says about the limits it is under: [`Limit`].

use crate::call::template::Args;
use crate::duration::IntoDuration;
use crate::job::InvalidJob;
use crate::limit::{LimitName, LimitRule, LimitUse, Rate, Window};

/// A limit that a job is under: `Limit::named("mail").partition("example.org").concurrency(2)`.
///
/// Jobs that name the same limit share its slots and its starts, whatever their kind and queue; each
/// partition is counted on its own. The rule that is declared here is stored with the first job that
/// names it and changes when the code does, unless someone has
/// [set it by hand](crate::Client::set_limit). A limit without a rule limits nothing.
///
/// ```
/// use portfire_core::{Limit, LimitRule};
/// use std::time::Duration;
///
/// let two_at_a_time = Limit::named("mail").partition("example.org").concurrency(2);
/// let slowly = Limit::named("rates-api").rate(10, "1s");
/// let by_tenant = Limit::by_template("tenant:{tenant_id}").concurrency(1).rate(100, Duration::from_secs(60));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it is for `call.limit(..)`"]
pub struct Limit {
    name: String,
    partition: Partition,
    rule: LimitRule,
    mistake: Option<InvalidJob>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Partition {
    Text(String),
    Template(String),
}

impl Limit {
    /// The limit of this name: 1 to 64 letters, digits and `_ . -`.
    pub fn named(name: impl Into<String>) -> Limit {
        let partition = Partition::Text(String::new());
        Limit { name: name.into(), partition, rule: LimitRule::default(), mistake: None }
    }

    /// A name, and after a colon a partition with arguments in the place of their names in braces:
    /// `tenant:{tenant_id}`. Double a brace that is meant as one.
    pub fn by_template(template: impl Into<String>) -> Limit {
        let template = template.into();
        let (name, partition) = template.split_once(':').unwrap_or((&template, ""));
        let partition = Partition::Template(partition.to_owned());
        Limit { partition, ..Limit::named(name) }
    }

    /// Which part of it: a text of at most 200 bytes, such as a tenant's name.
    pub fn partition(self, partition: impl ToString) -> Limit {
        Limit { partition: Partition::Text(partition.to_string()), ..self }
    }

    /// At most so many run at a time: 1 to 100,000. One makes a mutex.
    pub fn concurrency(mut self, jobs: u32) -> Limit {
        self.rule.concurrency = Some(jobs);
        self
    }

    /// At most so many start in any time of this length: a `Duration`, or a text such as `"1s"`.
    pub fn rate(self, count: u32, per: impl IntoDuration) -> Limit {
        self.rate_in(count, per, Window::Sliding)
    }

    /// At most so many start in each window of this length; windows follow one another, aligned to 1970.
    pub fn rate_per_window(self, count: u32, per: impl IntoDuration) -> Limit {
        self.rate_in(count, per, Window::Fixed)
    }

    fn rate_in(mut self, count: u32, per: impl IntoDuration, window: Window) -> Limit {
        match per.into_duration() {
            Ok(per) => self.rule.rate = Some(Rate { count, per, window }),
            Err(mistake) => self.mistake = self.mistake.or(Some(mistake)),
        }
        self
    }

    pub(super) fn has_name_of(&self, other: &Limit) -> bool {
        self.name == other.name
    }

    pub(super) fn into_use(self, args: &Args<'_>) -> Result<LimitUse, InvalidJob> {
        if let Some(mistake) = self.mistake {
            return Err(mistake);
        }
        let partition = match &self.partition {
            Partition::Text(text) => text.clone(),
            Partition::Template(template) => args.fill(template)?,
        };
        let declared = (self.rule != LimitRule::default()).then_some(self.rule);
        let limit = LimitUse { limit: LimitName::new(self.name)?, partition, declared };
        limit.validate()?;
        Ok(limit)
    }
}
