//! Where the facade is: `::portfire`, unless `crate = path` says otherwise.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Ident, LitStr, Path, Token};

use crate::mistakes::Mistakes;

/// The default path.
pub(crate) fn default() -> TokenStream {
    quote!(::portfire)
}

/// Reads the path after `crate`; also as text, as serde writes it.
pub(crate) fn value(input: ParseStream<'_>) -> syn::Result<Path> {
    input.parse::<Token![=]>()?;
    if input.peek(LitStr) { input.parse::<LitStr>()?.parse() } else { Path::parse_mod_style(input) }
}

/// Reads an attribute that knows no other key; `unknown` makes the message for one.
pub(crate) fn alone(
    tokens: TokenStream,
    unknown: impl Fn(&Ident) -> String,
    mistakes: &mut Mistakes,
) -> TokenStream {
    let read = |input: ParseStream<'_>| -> syn::Result<TokenStream> {
        if input.is_empty() {
            return Ok(default());
        }
        let key = input.call(Ident::parse_any)?;
        if key != "crate" {
            return Err(syn::Error::new(key.span(), unknown(&key)));
        }
        value(input).map(ToTokens::into_token_stream)
    };
    read.parse2(tokens).unwrap_or_else(|mistake| {
        mistakes.push(mistake);
        default()
    })
}
