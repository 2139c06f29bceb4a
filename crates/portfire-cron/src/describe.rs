//! Expressions in words.
//!
//! The words come from the sets and not from the text, so that `*/15` and `0,15,30,45`, which mean the
//! same, read the same.

use crate::expression::CronExpression;
use crate::field::Field;
use crate::schedule::{LAST_DAY, LAST_WEEKDAY, NEAREST_WEEKDAY, NTH_WEEKDAY, Schedule};
use crate::shape::{Shape, Values, list};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
/// Monday to Friday.
const WORKDAYS: u8 = 0b011_1110;
/// The most times of day that are listed one by one.
const MOST_TIMES: u32 = 8;

/// The expression in words.
pub(crate) fn describe(expression: &CronExpression) -> String {
    let schedule = &expression.schedule;
    let words = join(&time_of(schedule), &date_of(schedule));
    if schedule.is_reachable() { words } else { format!("never ({words})") }
}

/// The values of one field in words.
pub(crate) fn describe_field(schedule: &Schedule, field: Field) -> String {
    let every = || format!("every {}", if field == Field::DayOfWeek { "day" } else { unit(field) });
    match field {
        Field::Second => numbers(&Values::of(field, schedule.seconds)),
        Field::Minute => numbers(&Values::of(field, schedule.minutes)),
        Field::Hour => numbers(&Values::of(field, u64::from(schedule.hours))),
        Field::DayOfMonth if schedule.has(LAST_DAY | NEAREST_WEEKDAY) => {
            let days = Values::of(field, u64::from(schedule.days));
            let words = day_of_month(schedule, &days, "of the month");
            words.trim_start_matches("on ").to_owned()
        }
        Field::DayOfMonth => numbers(&Values::of(field, u64::from(schedule.days))),
        Field::Month => {
            let months = Values::of(field, u64::from(schedule.months));
            if months.is_all() { every() } else { month_names(&months) }
        }
        Field::DayOfWeek => match weekday_rule(schedule) {
            Some(rule) => format!("{rule} of the month"),
            None if schedule.weekdays == 0x7F => every(),
            None if schedule.weekdays == WORKDAYS => "Monday to Friday".to_owned(),
            None => list(&weekday_names(schedule.weekdays, ""), "and"),
        },
    }
}

/// What one value of a field is.
fn unit(field: Field) -> &'static str {
    match field {
        Field::DayOfMonth => "day",
        field => field.name(),
    }
}

fn numbers(values: &Values) -> String {
    let unit = unit(values.field());
    match values.shape() {
        Shape::All => format!("every {unit}"),
        Shape::Steps { step, .. } | Shape::Progression { step, .. } if values.count() > 6 => {
            format!("every {} {unit} from {} to {}", ordinal(step), values.least(), values.most())
        }
        Shape::Steps { .. } | Shape::Progression { .. } => {
            list(&values.iter().map(|value| value.to_string()).collect::<Vec<_>>(), "and")
        }
        _ => values.words("and"),
    }
}

/// When in a day.
enum Time {
    /// At some times: `at 08:00 and 12:00`.
    Clock(String),
    /// Again and again: `every 15 minutes`.
    Often(String),
}

/// On which days.
enum Date {
    /// Every day, perhaps of some months only: `in March`.
    Daily { months: String },
    /// On days of the week: what comes after `every`, after `on`, and the months.
    Weekly { every: String, on: String, months: String },
    /// On days of the month: `on the last day of the month`.
    Monthly(String),
}

fn join(time: &Time, date: &Date) -> String {
    match (time, date) {
        (Time::Clock(at), Date::Daily { months }) => format!("every day {at}{months}"),
        (Time::Clock(at), Date::Weekly { every, months, .. }) => format!("{every} {at}{months}"),
        (Time::Often(often), Date::Daily { months }) => format!("{often}{months}"),
        (Time::Often(often), Date::Weekly { on, months, .. }) => format!("{often} {on}{months}"),
        (Time::Clock(time) | Time::Often(time), Date::Monthly(on)) => format!("{time} {on}"),
    }
}

fn time_of(schedule: &Schedule) -> Time {
    let seconds = Values::of(Field::Second, schedule.seconds);
    let minutes = Values::of(Field::Minute, schedule.minutes);
    let hours = Values::of(Field::Hour, u64::from(schedule.hours));
    let Shape::One(second) = seconds.shape() else {
        return Time::Often(many_seconds(&seconds, &minutes, &hours));
    };
    let few = minutes.count() * hours.count() <= MOST_TIMES;
    let some_hours = matches!(hours.shape(), Shape::One(_) | Shape::List) || hours.count() <= 2;
    let some_minutes = match minutes.shape() {
        Shape::One(_) | Shape::List => true,
        Shape::Steps { .. } => minutes.count() <= 2,
        _ => false,
    };
    if few && some_hours && some_minutes {
        return Time::Clock(clock_times(&hours, &minutes, second));
    }
    let words = match minutes.shape() {
        Shape::One(minute) => hourly(&hours, minute),
        _ => many_minutes(&minutes, &hours),
    };
    Time::Often(match second {
        0 => words,
        second if words == "every minute" => format!("every minute at second {second}"),
        second => format!("{words}, at second {second}"),
    })
}

/// `at 08:00 and 12:00`.
fn clock_times(hours: &Values, minutes: &Values, second: u8) -> String {
    let times: Vec<String> = hours
        .iter()
        .flat_map(|hour| minutes.iter().map(move |minute| (hour, minute)))
        .map(|(hour, minute)| match second {
            0 => clock(hour, minute),
            second => format!("{hour:02}:{minute:02}:{second:02}"),
        })
        .collect();
    format!("at {}", list(&times, "and"))
}

fn clock(hour: u8, minute: u8) -> String {
    format!("{hour:02}:{minute:02}")
}

/// One minute of several hours.
fn hourly(hours: &Values, minute: u8) -> String {
    let past = if minute == 0 { String::new() } else { format!(" at minute {minute}") };
    match hours.shape() {
        Shape::All => format!("every hour{past}"),
        Shape::Steps { first: 0, step } => format!("every {step} hours{past}"),
        Shape::Steps { first, step } => {
            format!("every {step} hours from {}", clock(first, minute))
        }
        Shape::Run { first, last } => {
            format!("every hour from {} to {}", clock(first, minute), clock(last, minute))
        }
        Shape::Progression { first, last, step } => {
            format!("every {step} hours from {} to {}", clock(first, minute), clock(last, minute))
        }
        Shape::One(_) | Shape::List => format!("at minute {minute} of {}", of_hours(hours)),
    }
}

/// Several minutes of an hour, in some hours.
fn many_minutes(minutes: &Values, hours: &Values) -> String {
    let often = match minutes.shape() {
        Shape::All => "every minute".to_owned(),
        Shape::Steps { first: 0, step } => format!("every {step} minutes"),
        Shape::Steps { first, step } => format!("every {step} minutes from minute {first}"),
        Shape::Progression { first, last, step } => {
            format!("every {step} minutes from minute {first} to {last}")
        }
        Shape::Run { first, last } => format!("every minute from minute {first} to {last}"),
        Shape::One(_) | Shape::List => {
            let at = format!("at minutes {}", minutes.words("and"));
            return match hours.shape() {
                Shape::All => format!("every hour {at}"),
                _ => format!("{at} of {}", of_hours(hours)),
            };
        }
    };
    let from_hour = matches!(minutes.shape(), Shape::All | Shape::Steps { .. });
    match hours.shape() {
        Shape::All if from_hour => often,
        Shape::All => format!("{often} of every hour"),
        Shape::One(hour) if from_hour => between(minutes, hour, hour),
        Shape::Run { first, last } if from_hour => between(minutes, first, last),
        _ => format!("{often} of {}", of_hours(hours)),
    }
}

/// `every 15 minutes from 09:00 to 17:45`.
fn between(minutes: &Values, first: u8, last: u8) -> String {
    let often = match minutes.shape() {
        Shape::Steps { step, .. } => format!("every {step} minutes"),
        _ => "every minute".to_owned(),
    };
    let (begin, end) = (clock(first, minutes.least()), clock(last, minutes.most()));
    format!("{often} from {begin} to {end}")
}

/// `every 2nd hour`, `the hours 8, 12 and 14 to 18`.
fn of_hours(hours: &Values) -> String {
    match hours.shape() {
        Shape::All => "every hour".to_owned(),
        Shape::One(hour) => format!("the hour {hour}"),
        Shape::Steps { first: 0, step } => format!("every {} hour", ordinal(step)),
        Shape::Run { first, last } => format!("the hours {first} to {last}"),
        _ => format!("the hours {}", hours.words("and")),
    }
}

/// Several seconds of a minute.
fn many_seconds(seconds: &Values, minutes: &Values, hours: &Values) -> String {
    let always = minutes.is_all() && hours.is_all();
    let often = match seconds.shape() {
        Shape::All => "every second".to_owned(),
        Shape::Steps { first: 0, step } => format!("every {step} seconds"),
        Shape::Steps { first, step } => format!("every {step} seconds from second {first}"),
        Shape::Progression { first, last, step } => {
            format!("every {step} seconds from second {first} to {last}")
        }
        Shape::Run { first, last } => format!("every second from second {first} to {last}"),
        Shape::One(_) | Shape::List if always => {
            return format!("every minute at seconds {}", seconds.words("and"));
        }
        Shape::One(_) | Shape::List => format!("at seconds {}", seconds.words("and")),
    };
    let whole = matches!(seconds.shape(), Shape::All | Shape::Steps { .. });
    if always {
        return if whole { often } else { format!("{often} of every minute") };
    }
    let minute = match minutes.shape() {
        Shape::All => match hours.shape() {
            Shape::One(hour) => return format!("{often}, from {}", hour_long(hour, hour)),
            Shape::Run { first, last } => {
                return format!("{often}, from {}", hour_long(first, last));
            }
            _ => return format!("{often} of {}", of_hours(hours)),
        },
        Shape::One(minute) => format!("minute {minute}"),
        Shape::Run { first, last } => format!("the minutes {first} to {last}"),
        Shape::Steps { first: 0, step } => format!("every {} minute", ordinal(step)),
        _ => format!("the minutes {}", minutes.words("and")),
    };
    format!("{often} of {minute} of {}", of_hours(hours))
}

/// `08:00 to 09:59`.
fn hour_long(first: u8, last: u8) -> String {
    format!("{} to {}", clock(first, 0), clock(last, 59))
}

fn date_of(schedule: &Schedule) -> Date {
    let months = Values::of(Field::Month, u64::from(schedule.months));
    let in_months =
        if months.is_all() { String::new() } else { format!(" in {}", month_names(&months)) };
    let of_months = if months.is_all() {
        "of the month".to_owned()
    } else {
        format!("of {}", month_names(&months))
    };
    let days = Values::of(Field::DayOfMonth, u64::from(schedule.days));
    let every_day = days.is_all() && !schedule.has(LAST_DAY);
    let ruled = weekday_rule(schedule);
    match (every_day, schedule.weekdays == 0x7F, ruled) {
        (true, true, _) => Date::Daily { months: in_months },
        (true, _, Some(ruled)) => Date::Monthly(format!("on {ruled} {of_months}")),
        (true, false, None) => Date::Weekly {
            every: every_weekday(schedule.weekdays),
            on: on_weekdays(schedule.weekdays),
            months: in_months,
        },
        (false, true, _) => Date::Monthly(day_of_month(schedule, &days, &of_months)),
        (false, _, Some(ruled)) => {
            let day = day_of_month(schedule, &days, &of_months);
            Date::Monthly(format!("{day} when it is {ruled}"))
        }
        (false, false, None) => {
            let day = day_of_month(schedule, &days, &of_months);
            Date::Monthly(format!("{day} when it is {}", a_weekday(schedule.weekdays)))
        }
    }
}

/// `the last Friday`, `the second Friday`.
fn weekday_rule(schedule: &Schedule) -> Option<String> {
    let weekday = WEEKDAYS[schedule.weekdays.trailing_zeros() as usize % 7];
    if schedule.has(LAST_WEEKDAY) {
        Some(format!("the last {weekday}"))
    } else if schedule.has(NTH_WEEKDAY) {
        Some(format!("the {} {weekday}", word_ordinal(schedule.nth)))
    } else {
        None
    }
}

/// `on the 1st and 15th of March`.
fn day_of_month(schedule: &Schedule, days: &Values, of_months: &str) -> String {
    let before = schedule.before_last;
    let nearest = schedule.has(NEAREST_WEEKDAY);
    if schedule.has(LAST_DAY) {
        return match (before, nearest) {
            (0, false) => format!("on the last day {of_months}"),
            (0, true) => format!("on the last weekday {of_months}"),
            (1, false) => format!("on the day before the last day {of_months}"),
            (_, false) => format!("on the day {before} days before the last day {of_months}"),
            (1, true) => {
                format!("on the weekday nearest to the day before the last day {of_months}")
            }
            (_, true) => {
                format!(
                    "on the weekday nearest to the day {before} days before the last day {of_months}"
                )
            }
        };
    }
    match days.shape() {
        Shape::One(day) if nearest => {
            format!("on the weekday nearest to the {} {of_months}", ordinal(day))
        }
        Shape::Progression { first: 1, last, step } if last + step > 31 => {
            format!("on every {} day {of_months}", ordinal(step))
        }
        Shape::Progression { first, last, step } => format!(
            "on every {} day from the {} to the {} {of_months}",
            ordinal(step),
            ordinal(first),
            ordinal(last)
        ),
        _ => {
            let days: Vec<String> = days
                .runs()
                .into_iter()
                .map(|(first, last)| {
                    if first == last {
                        ordinal(first)
                    } else {
                        format!("{} to {}", ordinal(first), ordinal(last))
                    }
                })
                .collect();
            format!("on the {} {of_months}", list(&days, "and"))
        }
    }
}

fn month_names(months: &Values) -> String {
    let name = |month: u8| MONTHS[usize::from(month - 1)];
    match months.shape() {
        Shape::Run { last, .. } if months.count() == 11 => {
            format!("every month except {}", name(last % 12 + 1))
        }
        Shape::Run { first, last } => format!("the months {} to {}", name(first), name(last)),
        _ => list(&months.iter().map(|month| name(month).to_owned()).collect::<Vec<_>>(), "and"),
    }
}

/// `every weekday`, `every Monday and Friday`.
fn every_weekday(weekdays: u8) -> String {
    match (weekdays, weekdays.count_ones()) {
        (WORKDAYS, _) => "every weekday".to_owned(),
        (_, 6) => format!("every day except {}", WEEKDAYS[missing_weekday(weekdays)]),
        _ => format!("every {}", list(&weekday_names(weekdays, ""), "and")),
    }
}

/// `on weekdays`, `on Mondays and Fridays`.
fn on_weekdays(weekdays: u8) -> String {
    match (weekdays, weekdays.count_ones()) {
        (WORKDAYS, _) => "on weekdays".to_owned(),
        (_, 6) => format!("on all days except {}s", WEEKDAYS[missing_weekday(weekdays)]),
        _ => format!("on {}", list(&weekday_names(weekdays, "s"), "and")),
    }
}

/// `a weekday`, `a Monday or Friday`.
fn a_weekday(weekdays: u8) -> String {
    match (weekdays, weekdays.count_ones()) {
        (WORKDAYS, _) => "a weekday".to_owned(),
        (_, 6) => format!("not a {}", WEEKDAYS[missing_weekday(weekdays)]),
        _ => format!("a {}", list(&weekday_names(weekdays, ""), "or")),
    }
}

fn missing_weekday(weekdays: u8) -> usize {
    weekdays.trailing_ones() as usize % 7
}

/// The week begins on Monday here, so that the weekend stays together.
fn weekday_names(weekdays: u8, plural: &str) -> Vec<String> {
    let days = (1..=7).map(|day| day % 7).filter(|day| weekdays & (1 << day) != 0);
    days.map(|day| format!("{}{plural}", WEEKDAYS[day])).collect()
}

/// `1st`.
fn ordinal(number: u8) -> String {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

fn word_ordinal(number: u8) -> &'static str {
    match number {
        1 => "first",
        2 => "second",
        3 => "third",
        4 => "fourth",
        _ => "fifth",
    }
}
