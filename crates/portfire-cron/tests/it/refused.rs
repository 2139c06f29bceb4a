//! Texts that are refused, and how it is said.

use portfire_cron::{CronErrorKind, CronExpression, CronFormat, Field};

fn render(text: &str) -> String {
    CronExpression::parse(text).unwrap_err().render()
}

#[test]
fn the_message_names_the_field_and_points_at_the_place() {
    let cases = [
        (
            "",
            "the text is empty; expected five fields (minute, hour, day of month, month, day of week), or six with the second first",
        ),
        (
            " \t ",
            "the text is empty; expected five fields (minute, hour, day of month, month, day of week), or six with the second first",
        ),
        (
            "0 8 * *",
            "day of week: the text has 4 fields, day of week is missing; expected five fields (minute, hour, day of month, month, day of week), or six with the second first\n  0 8 * *\n         ^",
        ),
        (
            "0 8",
            "day of month: the text has 2 fields, day of month, month and day of week are missing; expected five fields (minute, hour, day of month, month, day of week), or six with the second first\n  0 8\n     ^",
        ),
        (
            "0 0 8 * * * 2026",
            "the text has 7 fields; expected five fields (minute, hour, day of month, month, day of week), or six with the second first\n  0 0 8 * * * 2026\n              ^^^^",
        ),
        (
            "60 * * * *",
            "minute: `60` is out of range; expected a number between 0 and 59\n  60 * * * *\n  ^^",
        ),
        (
            "*/0 * * * *",
            "minute: the step `0` is out of range; expected a number between 1 and 59\n  */0 * * * *\n    ^",
        ),
        (
            "*/60 * * * *",
            "minute: the step `60` is out of range; expected a number between 1 and 59\n  */60 * * * *\n    ^^",
        ),
        (
            "1/2147483648 * * * *",
            "minute: the step `2147483648` is out of range; expected a number between 1 and 59\n  1/2147483648 * * * *\n    ^^^^^^^^^^",
        ),
        (
            "99999999999999999999999999999999999999999 * * * *",
            "minute: `999999999999999999999999…` is out of range; expected a number between 0 and 59\n  99999999999999999999999999999999999999999 * * * *\n  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^",
        ),
        (
            "5- * * * *",
            "minute: a value is missing after `-`; expected a number between 0 and 59\n  5- * * * *\n    ^",
        ),
        (
            "-1 * * * *",
            "minute: a value is missing before `-`; expected a number between 0 and 59\n  -1 * * * *\n  ^",
        ),
        (
            "1,,2 * * * *",
            "minute: a value is missing after `,`; expected a number between 0 and 59\n  1,,2 * * * *\n    ^",
        ),
        (
            "*,5 * * * *",
            "minute: `,` cannot follow `*`; `*` is every value already: it takes a step at most\n  *,5 * * * *\n   ^",
        ),
        (
            "5,* * * * *",
            "minute: `*` cannot follow `5,`; `*` stands alone, or with a step as in `*/5`\n  5,* * * * *\n    ^",
        ),
        (
            "*/15/2 * * * *",
            "minute: `/` cannot follow `*/15`; expected the end of the field\n  */15/2 * * * *\n      ^",
        ),
        (
            "1-2-3 * * * *",
            "minute: `-` cannot follow `1-2`; expected `/`, `,` or the end of the field\n  1-2-3 * * * *\n     ^",
        ),
        (
            "1-2/3-4 * * * *",
            "minute: `-` cannot follow `1-2/3`; expected `,` or the end of the field\n  1-2/3-4 * * * *\n       ^",
        ),
        (
            "7,1/2/3 * * * *",
            "minute: `/` cannot follow `7,1/2`; expected `,` or the end of the field\n  7,1/2/3 * * * *\n       ^",
        ),
        (
            "0 L * * *",
            "hour: `L` cannot stand here; `L` belongs into the day of month or the day of week\n  0 L * * *\n    ^",
        ),
        (
            "0 8 * * L",
            "day of week: `L` cannot stand here; `L` follows a single day: `5L` is the last Friday\n  0 8 * * L\n          ^",
        ),
        (
            "0 8 L-31 * *",
            "day of month: the offset `31` is out of range; expected a number between 0 and 30\n  0 8 L-31 * *\n        ^^",
        ),
        (
            "0 8 1-5W * *",
            "day of month: `W` cannot follow `1-5`; `W` follows a single day: `15W`, or `LW`\n  0 8 1-5W * *\n         ^",
        ),
        (
            "0 8 * * SUN#6",
            "day of week: the week `6` is out of range; expected a number between 1 and 5\n  0 8 * * SUN#6\n              ^",
        ),
        (
            "0 8 * * 5#",
            "day of week: the week is missing after `#`; expected a number between 1 and 5\n  0 8 * * 5#\n            ^",
        ),
        (
            "0 8 * * MONDAY",
            "day of week: `MONDAY` is no day of the week; names have three letters: write `MON`\n  0 8 * * MONDAY\n          ^^^^^^",
        ),
        (
            "0 8 * * SUT",
            "day of week: `SUT` is no day of the week; did you mean `SUN` or `SAT`?\n  0 8 * * SUT\n          ^^^",
        ),
        (
            "0 8 * JANUARY *",
            "month: `JANUARY` is no month; names have three letters: write `JAN`\n  0 8 * JANUARY *\n        ^^^^^^^",
        ),
        (
            "0 8 * XYZ *",
            "month: `XYZ` is no month; expected a number between 1 and 12, or a name, JAN to DEC\n  0 8 * XYZ *\n        ^^^",
        ),
        (
            "0 8 * MON *",
            "month: `MON` is no month; names like it belong into the day of week\n  0 8 * MON *\n        ^^^",
        ),
        (
            "0 8 MON * *",
            "day of month: `MON` is no number; names like it belong into the day of week\n  0 8 MON * *\n      ^^^",
        ),
        (
            "0 8 * * 8",
            "day of week: `8` is out of range; expected a number between 0 and 7 (0 and 7 are Sunday), or a name, SUN to SAT\n  0 8 * * 8\n          ^",
        ),
        ("@dialy", "`@dialy` is not a macro; did you mean `@daily`?\n  @dialy\n  ^^^^^^"),
        (
            "@fortnightly",
            "`@fortnightly` is not a macro; expected @every_second, @every_minute, @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually\n  @fortnightly\n  ^^^^^^^^^^^^",
        ),
        (
            "@daily 8",
            "there is more after the macro; `@daily` stands alone\n  @daily 8\n         ^",
        ),
        (
            "H 3 * * *",
            "minute: `H` stands for a value that is chosen by a seed, and no seed was given; give one, such as the name of the job, or write a value\n  H 3 * * *\n  ^",
        ),
        (
            "é * * * *",
            "minute: `é` cannot stand here; expected a number between 0 and 59\n  é * * * *\n  ^",
        ),
        (
            "0 日 * * *",
            "hour: `日` cannot stand here; expected a number between 0 and 23\n  0 日 * * *\n    ^",
        ),
        (
            "0 8\0 * * *",
            "hour: the invisible character U+0000 has no meaning; expected `-`, `/`, `,` or the end of the field\n  0 8� * * *\n     ^",
        ),
        (
            "0 \u{202e}8 * * *",
            "hour: the invisible character U+202E has no meaning; expected a number between 0 and 23\n  0 �8 * * *\n    ^",
        ),
        (
            "0\u{a0}8 * * *",
            "the blank U+00A0 parts no fields; put an ordinary blank in its place\n  0\u{a0}8 * * *\n   ^",
        ),
        (
            "0 8 * * *\u{a0}",
            "day of week: the invisible character U+00A0 has no meaning; expected the end of the field\n  0 8 * * *\u{a0}\n           ^",
        ),
        (
            "0 8 * * *\n",
            "day of week: the invisible character U+000A has no meaning; expected the end of the field\n  0 8 * * *�\n           ^",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(render(text), expected, "{text:?}");
    }
}

#[test]
fn a_long_text_is_shown_around_the_place() {
    let text = format!("{}60 * * * *", "1,".repeat(100));
    let rendered = render(&text);
    let lines: Vec<&str> = rendered.lines().collect();
    assert!(lines[1].chars().count() < 80, "{rendered}");
    let column = lines[2].chars().take_while(|c| *c == ' ').count();
    let shown: String = lines[1].chars().skip(column).take(2).collect();
    assert_eq!((shown.as_str(), lines[2].trim()), ("60", "^^"));
}

#[test]
fn a_program_can_ask_for_the_facts() {
    let error = CronExpression::parse("0 24 * * *").unwrap_err();
    assert_eq!(error.kind(), CronErrorKind::OutOfRange);
    assert_eq!(error.field(), Some(Field::Hour));
    assert_eq!(
        (error.problem(), error.allowed()),
        ("`24` is out of range", "expected a number between 0 and 23")
    );
    assert_eq!((error.text(), error.span()), ("0 24 * * *", 2..4));
    assert_eq!(format!("{error:#}"), error.render());
}

#[test]
fn the_number_of_fields_is_that_of_the_format() {
    let refused =
        |text, format| CronExpression::parse_format(text, format).unwrap_err().to_string();
    assert_eq!(
        refused("* * * * *", CronFormat::Seconds),
        "day of week: the text has 5 fields, day of week is missing; expected six fields (second, minute, hour, day of month, month, day of week)"
    );
    assert_eq!(
        refused("* * * * * *", CronFormat::Minutes),
        "the text has 6 fields; expected five fields (minute, hour, day of month, month, day of week)"
    );
    for format in [CronFormat::Any, CronFormat::Minutes, CronFormat::Seconds] {
        assert!(CronExpression::parse_format("@every_second", format).is_ok());
        assert!(CronExpression::parse_format("@daily", format).is_ok());
    }
}
