//! Expressions in words.

use portfire_cron::{CronExpression, Field};

const WORDS: &[(&str, &str)] = &[
    ("* * * * * *", "every second"),
    ("*/20 * * * * *", "every 20 seconds"),
    ("10-30 * * * * *", "every second from second 10 to 30 of every minute"),
    ("5-8,19,20,35-41 * * * * *", "every minute at seconds 5 to 8, 19, 20 and 35 to 41"),
    ("57-5/3 * * * * *", "every minute at seconds 0, 3 and 57"),
    ("15 * * * * *", "every minute at second 15"),
    ("5/10 * * * * *", "every 10 seconds from second 5"),
    ("* 5 * * * *", "every second of minute 5 of every hour"),
    ("* * 8 * * *", "every second, from 08:00 to 08:59"),
    ("* */15 9-17 * * *", "every second of every 15th minute of the hours 9 to 17"),
    ("10 */15 * * * *", "every 15 minutes, at second 10"),
    ("30 0 8 * * *", "every day at 08:00:30"),
    ("* * * * *", "every minute"),
    ("*/15 * * * *", "every 15 minutes"),
    ("0,30 * * * *", "every 30 minutes"),
    ("*/7 * * * *", "every 7 minutes from minute 0 to 56 of every hour"),
    ("5/15 * * * *", "every 15 minutes from minute 5"),
    ("5 * * * *", "every hour at minute 5"),
    ("0 * * * *", "every hour"),
    ("10-20 * * * *", "every minute from minute 10 to 20 of every hour"),
    ("5,17,42 * * * *", "every hour at minutes 5, 17 and 42"),
    ("0 */2 * * *", "every 2 hours"),
    ("15 */2 * * *", "every 2 hours at minute 15"),
    ("0 1/2 * * *", "every 2 hours from 01:00"),
    ("0 */5 * * *", "every 5 hours from 00:00 to 20:00"),
    ("0 */12 * * *", "every day at 00:00 and 12:00"),
    ("0 9-17 * * *", "every hour from 09:00 to 17:00"),
    ("5 22-1 * * *", "every hour from 22:05 to 01:05"),
    ("*/15 9-17 * * 1-5", "every 15 minutes from 09:00 to 17:45 on weekdays"),
    ("* 8 * * *", "every minute from 08:00 to 08:59"),
    ("*/30 8 * * *", "every day at 08:00 and 08:30"),
    ("*/10 8 * * *", "every 10 minutes from 08:00 to 08:50"),
    ("* 8,12,18 * * *", "every minute of the hours 8, 12 and 18"),
    ("* */2 * * *", "every minute of every 2nd hour"),
    ("*/10 3-5,10,11,13-17 * * *", "every 10 minutes of the hours 3 to 5, 10, 11 and 13 to 17"),
    ("0 8 * * *", "every day at 08:00"),
    ("0 8 * * 1-5", "every weekday at 08:00"),
    ("0 8,12,18 * * *", "every day at 08:00, 12:00 and 18:00"),
    ("0,30 8,12 * * *", "every day at 08:00, 08:30, 12:00 and 12:30"),
    ("30 8-10 * * *", "every hour from 08:30 to 10:30"),
    ("0 0 * * 0", "every Sunday at 00:00"),
    ("0 0 * * 6,0", "every Saturday and Sunday at 00:00"),
    ("0 0 * * 1,3,5", "every Monday, Wednesday and Friday at 00:00"),
    ("0 0 * * 1-6", "every day except Sunday at 00:00"),
    ("*/5 * * * 1", "every 5 minutes on Mondays"),
    ("0 0 * * 5L", "at 00:00 on the last Friday of the month"),
    ("0 0 * * 5#2", "at 00:00 on the second Friday of the month"),
    ("0 0 * * FRI#5", "at 00:00 on the fifth Friday of the month"),
    ("30 3 L * *", "at 03:30 on the last day of the month"),
    ("0 0 L-1 * *", "at 00:00 on the day before the last day of the month"),
    ("0 0 L-3 * *", "at 00:00 on the day 3 days before the last day of the month"),
    ("0 0 LW * *", "at 00:00 on the last weekday of the month"),
    (
        "0 0 L-3W * *",
        "at 00:00 on the weekday nearest to the day 3 days before the last day of the month",
    ),
    ("0 0 15W * *", "at 00:00 on the weekday nearest to the 15th of the month"),
    ("0 0 1 * *", "at 00:00 on the 1st of the month"),
    ("0 0 1,15 * *", "at 00:00 on the 1st and 15th of the month"),
    ("0 0 1-7 * *", "at 00:00 on the 1st to 7th of the month"),
    ("0 0 5-8,19,20 * *", "at 00:00 on the 5th to 8th, 19th and 20th of the month"),
    ("0 0 */2 * *", "at 00:00 on every 2nd day of the month"),
    ("0 0 5-25/5 * *", "at 00:00 on every 5th day from the 5th to the 25th of the month"),
    ("0 0 13 * 5", "at 00:00 on the 13th of the month when it is a Friday"),
    ("0 0 1-7 * 1", "at 00:00 on the 1st to 7th of the month when it is a Monday"),
    ("0 0 L * 1-5", "at 00:00 on the last day of the month when it is a weekday"),
    ("0 0 8 * 5#2", "at 00:00 on the 8th of the month when it is the second Friday"),
    ("0 0 31W 12 *", "at 00:00 on the weekday nearest to the 31st of December"),
    ("0 0 1 1 *", "at 00:00 on the 1st of January"),
    ("0 0 29 2 *", "at 00:00 on the 29th of February"),
    ("0 0 31 2 *", "never (at 00:00 on the 31st of February)"),
    ("0 0 * 3 *", "every day at 00:00 in March"),
    ("*/10 * * 6-9 *", "every 10 minutes in the months June to September"),
    ("0 0 1 */3 *", "at 00:00 on the 1st of January, April, July and October"),
    ("0 0 1 1-11 *", "at 00:00 on the 1st of every month except December"),
    ("0 12 * DEC-FEB MON", "every Monday at 12:00 in the months December to February"),
    ("@daily", "every day at 00:00"),
    ("@every_second", "every second"),
    ("@yearly", "at 00:00 on the 1st of January"),
    ("@weekly", "every Sunday at 00:00"),
    ("0 0 ? * ?", "every day at 00:00"),
    ("1-58 */2 * * *", "every minute from minute 1 to 58 of every 2nd hour"),
    ("0-30/30 2 * * *", "every day at 02:00 and 02:30"),
    (
        "40-50 15-20 5-10 11,12 5,6,7",
        "every minute from minute 40 to 50 of the hours 15 to 20 on the 5th to 10th of November and December when it is a Friday, Saturday or Sunday",
    ),
    (
        "50-56 40-50 15-20 5-10 11,12 5,6,7",
        "every second from second 50 to 56 of the minutes 40 to 50 of the hours 15 to 20 on the 5th to 10th of November and December when it is a Friday, Saturday or Sunday",
    ),
    ("0 0 7 * SUN#2", "never (at 00:00 on the 7th of the month when it is the second Sunday)"),
    ("0 6-20/3 * * *", "every 3 hours from 06:00 to 18:00"),
    ("30 45 6-20/2 * * *", "every 2 hours from 06:45 to 20:45, at second 30"),
    ("*/40 * * * *", "every hour at minutes 0 and 40"),
    ("0 0 20-5 * *", "at 00:00 on the 1st to 5th and 20th to 31st of the month"),
    ("59 23 31 12 *", "at 23:59 on the 31st of December"),
    ("0 0 * * 1-5", "every weekday at 00:00"),
    ("*/10 * * * SAT,SUN", "every 10 minutes on Saturdays and Sundays"),
    ("*/10 * 1-7 * MON", "every 10 minutes on the 1st to 7th of the month when it is a Monday"),
    ("0 9 1-7 1,7 MON", "at 09:00 on the 1st to 7th of January and July when it is a Monday"),
    ("0 12 * * TUE-THU", "every Tuesday, Wednesday and Thursday at 12:00"),
    ("30 7 * 1-6,9-12 1-5", "every weekday at 07:30 in the months September to June"),
    ("* * * * 1-5", "every minute on weekdays"),
    ("15,45 * * * *", "every 30 minutes from minute 15"),
    ("0 0,12 * * *", "every day at 00:00 and 12:00"),
    ("0 0 1,2,3,4,5,6,7,8,9,10 * *", "at 00:00 on the 1st to 10th of the month"),
    ("*/5 8,9 * * *", "every 5 minutes of the hours 8 and 9"),
    ("5 4 * * SUN", "every Sunday at 04:05"),
    ("0 22 * * 1-5", "every weekday at 22:00"),
    ("23 0-20/2 * * *", "every 2 hours from 00:23 to 20:23"),
    ("0 0 L 2 *", "at 00:00 on the last day of February"),
    ("0 0 LW 12 *", "at 00:00 on the last weekday of December"),
    ("0 18 * * FRI#2", "at 18:00 on the second Friday of the month"),
    ("* 0-5,20-23 * * *", "every minute from 20:00 to 05:59"),
    ("15 10 ? * MON#1", "at 10:15 on the first Monday of the month"),
];

#[test]
fn expressions_are_put_into_words() {
    for (text, words) in WORDS {
        let cron = CronExpression::parse(text).unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(cron.describe(), *words, "{text}");
    }
}

#[test]
fn fields_are_put_into_words() {
    let words = |text: &str, fields: &[Field]| -> Vec<String> {
        let cron = CronExpression::parse(text).unwrap();
        fields.iter().map(|field| cron.describe_field(*field)).collect()
    };
    assert_eq!(
        words("*/15 8-17 1,15 */3 MON-FRI", &Field::ALL),
        [
            "0",
            "0, 15, 30 and 45",
            "8 to 17",
            "1 and 15",
            "January, April, July and October",
            "Monday to Friday"
        ]
    );
    assert_eq!(
        words("* * * * * *", &Field::ALL),
        ["every second", "every minute", "every hour", "every day", "every month", "every day"]
    );
    let minutes = [Field::Minute, Field::DayOfMonth, Field::DayOfWeek];
    assert_eq!(
        words("*/2 8 L-3W * 5L", &minutes),
        [
            "every 2nd minute from 0 to 58",
            "the weekday nearest to the day 3 days before the last day of the month",
            "the last Friday of the month"
        ]
    );
    assert_eq!(
        words("0 8 */2 * SAT#3", &minutes),
        ["0", "every 2nd day from 1 to 31", "the third Saturday of the month"]
    );
}
