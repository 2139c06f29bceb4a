//! Random numbers that are the same in every run, and random expressions with what they mean.

use crate::oracle::{Day, Meaning, Weekdays};

/// SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        number ^ (number >> 31)
    }

    /// From `least` to `most`, both included.
    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least + 1)
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }

    pub(crate) fn pick<'t, T: ?Sized>(&mut self, items: &[&'t T]) -> &'t T {
        items[self.between(0, items.len() as u64 - 1) as usize]
    }
}

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// The bounds of a field, how its values are written, and where it wraps.
struct Plan {
    first: u64,
    last: u64,
    /// The last value before the field begins anew: 6 for days of the week, whose 7 is Sunday again.
    turn: u64,
    names: &'static [&'static str],
}

impl Plan {
    fn new(first: u64, last: u64) -> Plan {
        Plan { first, last, turn: last, names: &[] }
    }

    fn write(&self, random: &mut Random, value: u64) -> String {
        let name = self.names.get((value - self.first) as usize).filter(|_| random.one_in(2));
        match name {
            Some(name) if random.one_in(2) => name.to_lowercase(),
            Some(name) => (*name).to_owned(),
            None if value < 10 && random.one_in(4) => format!("0{value}"),
            None => value.to_string(),
        }
    }

    /// A field, its values, and whether it names an interval.
    fn field(&self, random: &mut Random, sparse: bool) -> (String, Vec<u64>, bool) {
        match random.between(0, if sparse { 9 } else { 4 }) {
            0 | 1 => {
                let step = if random.one_in(2) { random.between(1, self.last) } else { 1 };
                let star = random.pick(&["*", "?"]);
                let text = if step == 1 { star.into() } else { format!("{star}/{step}") };
                (text, (self.first..=self.last).step_by(step as usize).collect(), true)
            }
            _ => {
                let mut texts = Vec::new();
                let (mut values, mut interval) = (Vec::new(), false);
                for _ in 0..random.between(1, 3) {
                    let (text, more, is_interval) = self.part(random);
                    texts.push(text);
                    values.extend(more);
                    interval |= is_interval;
                }
                (texts.join(","), values, interval)
            }
        }
    }

    fn part(&self, random: &mut Random) -> (String, Vec<u64>, bool) {
        let low = random.between(self.first, self.last);
        let begin = self.write(random, low);
        let step = random.between(1, self.last.min(9));
        match random.between(0, 5) {
            0..=2 => (begin, vec![low], false),
            3 => {
                let values = (low..=self.last).step_by(step as usize).collect();
                (format!("{begin}/{step}"), values, true)
            }
            kind => {
                let high = random.between(self.first, self.last);
                let end = self.write(random, high);
                let step = if kind == 4 { 1 } else { step };
                let text = format!(
                    "{begin}-{end}{}",
                    match kind {
                        4 => String::new(),
                        _ => format!("/{step}"),
                    }
                );
                (text, self.walk(low, high, step), true)
            }
        }
    }

    /// One value after the other from `low` to `high`, over the end of the field if need be.
    fn walk(&self, low: u64, high: u64, step: u64) -> Vec<u64> {
        // A Sunday that a range begins with may be written 7.
        let low = if low > high && low > self.turn { self.first } else { low };
        let mut values = Vec::new();
        let (mut value, mut since) = (low, 0);
        loop {
            if since % step == 0 {
                values.push(value);
            }
            if value == high {
                return values;
            }
            value = if value == self.turn && high < low { self.first } else { value + 1 };
            since += 1;
        }
    }
}

/// A text and what it means.
pub(crate) fn expression(random: &mut Random) -> (String, Meaning) {
    let mut interval = false;
    let mut of_time = |random: &mut Random, plan: &Plan| {
        let (text, values, is_interval) = plan.field(random, true);
        interval |= is_interval;
        (text, values)
    };
    let second = random.one_in(3).then(|| of_time(random, &Plan::new(0, 59)));
    let (minute, minutes) = of_time(random, &Plan::new(0, 59));
    let (hour, hours) = of_time(random, &Plan::new(0, 23));
    let (day, day_rule) = day_of_month(random);
    let plan = Plan { names: &MONTHS, ..Plan::new(1, 12) };
    let listed = !random.one_in(3);
    let (month, months, _) = plan.field(random, listed);
    let (weekday, weekdays) = day_of_week(random);
    let blank = random.pick(&[" ", "  ", "\t"]);
    let mut words = vec![minute, hour, day, month, weekday];
    let seconds = match second {
        Some((text, values)) => {
            words.insert(0, text);
            values
        }
        None => vec![0],
    };
    let meaning = Meaning { seconds, minutes, hours, day: day_rule, months, weekdays, interval };
    (words.join(blank), meaning)
}

fn day_of_month(random: &mut Random) -> (String, Day) {
    let any = || (1..=31).collect();
    match random.between(0, 9) {
        0..=3 => ("*".into(), Day::Listed(any())),
        4 => {
            let before = random.between(0, 30);
            (format!("L-{before}"), Day::Last { before, nearest_weekday: false })
        }
        5 => {
            let (text, nearest_weekday) =
                if random.one_in(2) { ("LW", true) } else { ("l", false) };
            (text.into(), Day::Last { before: 0, nearest_weekday })
        }
        6 => {
            let before = random.between(0, 30);
            (format!("L-{before}w"), Day::Last { before, nearest_weekday: true })
        }
        7 => {
            let day = random.between(1, 31);
            (format!("{day}W"), Day::NearestWeekday(day))
        }
        _ => {
            let (text, days, _) = Plan::new(1, 31).field(random, false);
            (text, Day::Listed(days))
        }
    }
}

fn day_of_week(random: &mut Random) -> (String, Weekdays) {
    let plan = Plan { turn: 6, names: &WEEKDAYS, ..Plan::new(0, 7) };
    match random.between(0, 7) {
        0..=3 => ("*".into(), Weekdays::Listed((0..=6).collect())),
        4 => {
            let day = random.between(0, 7);
            (format!("{}L", plan.write(random, day)), Weekdays::Last(day % 7))
        }
        5 => {
            let (day, nth) = (random.between(0, 7), random.between(1, 5));
            (format!("{}#{nth}", plan.write(random, day)), Weekdays::Nth(day % 7, nth))
        }
        _ => {
            let (text, days, _) = plan.field(random, false);
            (text, Weekdays::Listed(days.into_iter().map(|day| day % 7).collect()))
        }
    }
}
