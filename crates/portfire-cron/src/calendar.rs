//! The Gregorian calendar in whole days since 1970-01-01.

/// The number of a day.
pub(crate) const fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    // Years begin in March here, so that the leap day is the last of its year.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let months = (month as i64 + 9) % 12;
    let of_year = (153 * months + 2) / 5 + day as i64 - 1;
    let days = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    era * 146_097 + days - 719_468
}

/// The year, month and day of a day's number.
pub(crate) const fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days - era * 146_097;
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let months = (5 * of_year + 2) / 153;
    let day = (of_year - (153 * months + 2) / 5 + 1) as u32;
    let month = if months < 10 { months + 3 } else { months - 9 } as u32;
    (era * 400 + year + if month <= 2 { 1 } else { 0 }, month, day)
}

/// The day of the week of a day's number; Sunday is 0.
pub(crate) const fn weekday(days: i64) -> u32 {
    (days + 4).rem_euclid(7) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::days_in_month;

    #[test]
    fn days_and_dates_are_each_others_inverse_over_four_centuries() {
        let mut day = days_from_civil(1899, 12, 31);
        for year in 1900..2301 {
            for month in 1..=12 {
                for of_month in 1..=days_in_month(year, month) {
                    day += 1;
                    assert_eq!(days_from_civil(year, month, of_month), day);
                    assert_eq!(civil_from_days(day), (year, month, of_month));
                }
            }
        }
    }

    #[test]
    fn known_days_have_their_weekday() {
        assert_eq!(days_from_civil(1970, 1, 1), 0);
        assert_eq!(weekday(0), 4);
        assert_eq!(weekday(days_from_civil(2026, 11, 21)), 6);
        assert_eq!(weekday(days_from_civil(1, 1, 1)), 1);
        assert_eq!(civil_from_days(days_from_civil(1, 1, 1)), (1, 1, 1));
    }
}
