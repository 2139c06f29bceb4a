//! Durations as text, such as `"10m"` or `"1h30m"`, checked while the program is compiled.

use proc_macro2::TokenStream;
use quote::quote_spanned;
use syn::LitStr;
use syn::parse::ParseStream;

/// The units, the largest first, in milliseconds.
const UNITS: [(&str, u64); 6] = [
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads the token.
pub(crate) fn text(input: ParseStream<'_>) -> syn::Result<LitStr> {
    let message = "expected a duration as text, such as \"10m\" or \"1h30m\"";
    input.parse().map_err(|error| syn::Error::new(error.span(), message))
}

/// Reads the text, and refuses with the reason at the text.
pub(crate) fn parse_millis(text: &LitStr) -> syn::Result<u64> {
    millis(&text.value()).map_err(|reason| {
        let message = format!(
            "\"{}\" is not a duration: {reason}; write a number and a unit (ms, s, m, h, d, w), such as \"10m\" or \"1h30m\"",
            text.value()
        );
        syn::Error::new(text.span(), message)
    })
}

/// The expression of a duration, at the place of its text.
pub(crate) fn tokens(millis: u64, at: &LitStr) -> TokenStream {
    quote_spanned!(at.span()=> ::core::time::Duration::from_millis(#millis))
}

/// The milliseconds, or why there are none.
pub(crate) fn millis(text: &str) -> Result<u64, String> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("it is empty".into());
    }
    let mut sum = 0u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let part = one(number, unit, tail)?;
        sum = sum.checked_add(part).ok_or("it is too long")?;
        rest = tail.trim_start();
    }
    // Far beyond the year 9999, and still far from an overflow in microseconds.
    if sum > i64::MAX as u64 / 1_000 { Err("it is too long".into()) } else { Ok(sum) }
}

fn one(number: &str, unit: &str, tail: &str) -> Result<u64, String> {
    if number.is_empty() {
        let found = unit.chars().chain(tail.chars()).next();
        return Err(match found {
            Some(found) => format!("expected a number, found `{found}`"),
            None => "expected a number".into(),
        });
    }
    if unit.is_empty() {
        return Err(match tail.chars().next() {
            Some(found) => format!("expected a unit after {number}, found `{found}`"),
            None => format!("{number} has no unit"),
        });
    }
    let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(format!("`{unit}` is not a unit"));
    };
    let number: u64 = number.parse().map_err(|_| "it is too long")?;
    number.checked_mul(*factor).ok_or_else(|| "it is too long".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_units_add_up() {
        assert_eq!(millis("10m"), Ok(600_000));
        assert_eq!(millis("1h30m"), Ok(5_400_000));
        assert_eq!(millis(" 1d 2h "), Ok(93_600_000));
        assert_eq!(millis("500ms"), Ok(500));
        assert_eq!(millis("0s"), Ok(0));
        assert_eq!(millis("2w"), Ok(1_209_600_000));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let refusal = |text: &str| millis(text).unwrap_err();
        assert_eq!(refusal(""), "it is empty");
        assert_eq!(refusal("10"), "10 has no unit");
        assert_eq!(refusal("ten minutes"), "expected a number, found `t`");
        assert_eq!(refusal("10 m"), "expected a unit after 10, found ` `");
        assert_eq!(refusal("1.5h"), "expected a unit after 1, found `.`");
        assert_eq!(refusal("-1s"), "expected a number, found `-`");
        assert_eq!(refusal("10min"), "`min` is not a unit");
        assert_eq!(refusal("99999999999999999999s"), "it is too long");
        assert_eq!(refusal("9999999999999w"), "it is too long");
    }
}
