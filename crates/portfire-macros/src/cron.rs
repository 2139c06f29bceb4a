//! `cron!`: a cron text that is checked while the program is compiled.

use portfire_cron::{CronExpression, CronFormat};
use proc_macro2::TokenStream;
use quote::{ToTokens, quote_spanned};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::{Ident, LitStr, Token};

use crate::root;

pub(crate) fn expand(input: TokenStream) -> TokenStream {
    syn::parse2::<Invocation>(input)
        .and_then(|invocation| invocation.expression())
        .unwrap_or_else(|mistake| mistake.to_compile_error())
}

/// What stands between the parentheses.
struct Invocation {
    text: LitStr,
    seed: Option<LitStr>,
    root: TokenStream,
}

impl Parse for Invocation {
    fn parse(input: ParseStream<'_>) -> syn::Result<Invocation> {
        let text = input.parse().map_err(|error| {
            let message = "expected a cron text, such as \"0 8 * * MON-FRI\"; for one that is known only at run time use `CronExpression::parse`";
            syn::Error::new(error.span(), message)
        })?;
        let mut invocation = Invocation { text, seed: None, root: root::default() };
        while !input.is_empty() {
            input.parse::<Token![,]>()?;
            if input.is_empty() {
                break;
            }
            let key = input.call(Ident::parse_any)?;
            match key.to_string().as_str() {
                "seed" => {
                    input.parse::<Token![=]>()?;
                    invocation.seed = Some(input.parse()?);
                }
                "crate" => invocation.root = root::value(input)?.into_token_stream(),
                _ => {
                    let message = format!("`{key}` is not known here; `seed = \"..\"` is, for `H`");
                    return Err(syn::Error::new(key.span(), message));
                }
            }
        }
        Ok(invocation)
    }
}

impl Invocation {
    fn expression(&self) -> syn::Result<TokenStream> {
        let text = self.text.value();
        let seed = self.seed.as_ref().map(LitStr::value);
        let cron =
            CronExpression::read(&text, CronFormat::Any, seed.as_deref()).map_err(|error| {
                let seed = match error.kind() {
                    portfire_cron::CronErrorKind::MissingSeed => {
                        "\n  write `cron!(\"..\", seed = \"the name of the job\")`"
                    }
                    _ => "",
                };
                syn::Error::new(self.text.span(), format!("{}{seed}", error.render()))
            })?;
        Ok(tokens(&cron, &self.text, &self.root))
    }
}

/// The constant of a checked expression, at the place of its text.
fn tokens(cron: &CronExpression, at: &LitStr, root: &TokenStream) -> TokenStream {
    let text = cron.as_str();
    let (sets, rules) = cron.__parts();
    quote_spanned! {at.span()=>
        #root::cron::CronExpression::__checked(#text, [#(#sets),*], [#(#rules),*])
    }
}
