//! The shape of a set of values: all of them, one, every so many, a run, or a list.

use crate::field::Field;

/// The values of a field that match.
pub(crate) struct Values {
    field: Field,
    bits: u64,
}

/// How the values lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Every value.
    All,
    /// A single one.
    One(u8),
    /// Every `step` from `first` on, evenly, around the whole clock.
    Steps { first: u8, step: u8 },
    /// Every `step` from `first` to `last`; five values at least, four of hours.
    Progression { first: u8, last: u8, step: u8 },
    /// All from `first` to `last`, three at least; it wraps around when `last` is below `first`.
    Run { first: u8, last: u8 },
    /// Others.
    List,
}

impl Values {
    pub(crate) fn of(field: Field, bits: u64) -> Values {
        Values { field, bits }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u8> + Clone + use<> {
        let bits = self.bits;
        (0..64).filter(move |value| bits & (1 << value) != 0)
    }

    pub(crate) fn field(&self) -> Field {
        self.field
    }

    pub(crate) fn count(&self) -> u32 {
        self.bits.count_ones()
    }

    pub(crate) fn least(&self) -> u8 {
        self.bits.trailing_zeros() as u8
    }

    pub(crate) fn most(&self) -> u8 {
        63 - self.bits.leading_zeros().min(63) as u8
    }

    pub(crate) fn is_all(&self) -> bool {
        self.count() == u32::from(self.size())
    }

    /// How many values the field has.
    fn size(&self) -> u8 {
        self.field.last_distinct() - self.field.first() + 1
    }

    pub(crate) fn shape(&self) -> Shape {
        match self.count() {
            0 => return Shape::List,
            1 => return Shape::One(self.least()),
            _ if self.is_all() => return Shape::All,
            _ => {}
        }
        if let Some((first, last)) = self.circular_run() {
            return Shape::Run { first, last };
        }
        let Some(step) = self.step() else {
            return Shape::List;
        };
        let (first, last) = (self.least(), self.most());
        let enough = if self.field == Field::Hour { 4 } else { 5 };
        if self.field.is_of_time()
            && self.size().is_multiple_of(step)
            && self.count() == u32::from(self.size() / step)
        {
            Shape::Steps { first, step }
        } else if self.count() >= enough {
            Shape::Progression { first, last, step }
        } else {
            Shape::List
        }
    }

    /// The one distance between neighbours.
    fn step(&self) -> Option<u8> {
        let mut gaps = self.iter().zip(self.iter().skip(1)).map(|(low, high)| high - low);
        let step = gaps.next()?;
        gaps.all(|gap| gap == step).then_some(step)
    }

    /// The single run of three values or more, around the end of the field if need be.
    fn circular_run(&self) -> Option<(u8, u8)> {
        if self.count() < 3 {
            return None;
        }
        let runs = self.all_runs();
        match runs[..] {
            [(first, last)] => Some((first, last)),
            [(low, last), (first, high)]
                if low == self.field.first() && high == self.field.last_distinct() =>
            {
                Some((first, last))
            }
            _ => None,
        }
    }

    fn all_runs(&self) -> Vec<(u8, u8)> {
        let mut runs: Vec<(u8, u8)> = Vec::new();
        for value in self.iter() {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == value => *last = value,
                _ => runs.push((value, value)),
            }
        }
        runs
    }

    /// The values as runs of three or more, and single ones.
    pub(crate) fn runs(&self) -> Vec<(u8, u8)> {
        let split = |(first, last): (u8, u8)| {
            if last - first == 1 { vec![(first, first), (last, last)] } else { vec![(first, last)] }
        };
        self.all_runs().into_iter().flat_map(split).collect()
    }

    /// `3, 5 and 7 to 9`.
    pub(crate) fn words(&self, and: &str) -> String {
        let run = |(first, last): (u8, u8)| {
            if first == last { first.to_string() } else { format!("{first} to {last}") }
        };
        list(&self.runs().into_iter().map(run).collect::<Vec<_>>(), and)
    }
}

/// `a, b and c`.
pub(crate) fn list(items: &[String], and: &str) -> String {
    match items {
        [] => String::new(),
        [only] => only.clone(),
        [most @ .., last] => format!("{} {and} {last}", most.join(", ")),
    }
}
