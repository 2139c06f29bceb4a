//! Durations as text, such as `"10m"` or `"1h30m"`, checked while the program is compiled.

use std::time::Duration;

use portfire_cron::duration;
use proc_macro2::TokenStream;
use quote::quote_spanned;
use syn::LitStr;
use syn::parse::ParseStream;

/// Reads the token.
pub(crate) fn text(input: ParseStream<'_>) -> syn::Result<LitStr> {
    let message = "expected a duration as text, such as \"10m\" or \"1h30m\"";
    input.parse().map_err(|error| syn::Error::new(error.span(), message))
}

/// Reads the text, and refuses with the reason at the text.
pub(crate) fn parse_millis(text: &LitStr) -> syn::Result<u64> {
    duration::parse(&text.value()).map(as_millis).map_err(|reason| {
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

/// The milliseconds of a duration that was read.
pub(crate) fn as_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
