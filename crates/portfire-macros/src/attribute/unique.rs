//! `unique`, `unique(by = "args", within = "10m", …)`: the key that calls of a job hold.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::ParseStream;
use syn::{Ident, LitStr, Token, parenthesized};

use super::{keys, strings, unknown, value, word};
use crate::duration;
use crate::mistakes::Mistakes;
use crate::template;

const KEYS: &str = "by, key, until, within, on_conflict, debounce, at_most";

/// What the attribute says about the key.
#[derive(Default)]
pub(super) struct Unique {
    by: By,
    scope: Option<TokenStream>,
    conflict: Option<Ident>,
    /// The time of `debounce`, and that of `at_most`.
    debounce: Option<TokenStream>,
    at_most: Option<TokenStream>,
}

#[derive(Default)]
enum By {
    #[default]
    Args,
    Fields(Vec<LitStr>),
    Template(LitStr),
}

impl Unique {
    pub(super) fn parse(input: ParseStream<'_>) -> syn::Result<Unique> {
        let mut unique = Unique::default();
        if !input.peek(syn::token::Paren) {
            return Ok(unique);
        }
        let content;
        parenthesized!(content in input);
        let mut mistakes = Mistakes::default();
        let (mut named, mut scoped) = (0, 0);
        keys(&content, &mut mistakes, |key, input| {
            match key.to_string().as_str() {
                "by" => (unique.by, named) = (by(input)?, named + 1),
                "key" => (unique.by, named) = (By::Template(value(input)?), named + 1),
                "until" => (unique.scope, scoped) = (Some(until(input)?), scoped + 1),
                "within" => (unique.scope, scoped) = (Some(within(input)?), scoped + 1),
                "on_conflict" => unique.conflict = Some(conflict(input)?),
                "debounce" => unique.debounce = Some(time(input)?),
                "at_most" => unique.at_most = Some(time(input)?),
                _ => return Err(unknown(key, "key of `unique`", KEYS)),
            }
            if named > 1 {
                return Err(syn::Error::new(key.span(), "`by` and `key` exclude each other"));
            }
            if scoped > 1 {
                return Err(syn::Error::new(key.span(), "`until` and `within` exclude each other"));
            }
            if unique.debounce.is_some() && unique.conflict.is_some() {
                let text = "`debounce` says what happens on a conflict: leave `on_conflict` out";
                return Err(syn::Error::new(key.span(), text));
            }
            Ok(())
        })?;
        mistakes.into_result()?;
        if unique.at_most.is_some() && unique.debounce.is_none() {
            let text = "`at_most` bounds `debounce`: write `debounce = \"30s\", at_most = \"5m\"`";
            return Err(content.error(text));
        }
        Ok(unique)
    }

    pub(super) fn check(&self, arguments: &[String], mistakes: &mut Mistakes) {
        let checked = match &self.by {
            By::Args => Ok(()),
            By::Fields(fields) => fields
                .iter()
                .try_for_each(|field| template::check_name(&field.value(), field, arguments)),
            By::Template(template) => template::check(template, arguments),
        };
        if let Err(mistake) = checked {
            mistakes.push(mistake);
        }
    }

    pub(super) fn tokens(&self, private: &TokenStream) -> TokenStream {
        let by = match &self.by {
            By::Args => quote!(by_args()),
            By::Fields(fields) => quote!(by_fields([#(#fields),*])),
            By::Template(template) => quote!(by_template(#template)),
        };
        let scope = self.scope.as_ref().map(|scope| quote!(.#scope));
        let conflict = self
            .conflict
            .as_ref()
            .map(|conflict| quote!(.on_conflict(#private::Conflict::#conflict)));
        let debounce = self.debounce.as_ref().map(|wait| quote!(.debounce(#wait)));
        let at_most = self.at_most.as_ref().map(|max| quote!(.at_most(#max)));
        // What is said about the scope counts, whatever `debounce` would have.
        quote!(#private::Unique::#by #debounce #at_most #scope #conflict)
    }
}

/// `= "args"`, or the names of arguments: `("user_id", "lang")`.
fn by(input: ParseStream<'_>) -> syn::Result<By> {
    if input.peek(syn::token::Paren) {
        let fields = strings(input)?;
        return match fields.is_empty() {
            true => Err(input.error("name at least one argument, or write `by = \"args\"`")),
            false => Ok(By::Fields(fields)),
        };
    }
    let text: LitStr = value(input)?;
    match text.value().as_str() {
        "args" => Ok(By::Args),
        _ => Err(syn::Error::new(
            text.span(),
            "expected `by = \"args\"`, the names of arguments as in `by(\"user_id\", \"lang\")`, or `key = \"invoice:{order_id}\"`",
        )),
    }
}

fn until(input: ParseStream<'_>) -> syn::Result<TokenStream> {
    let (word, span) = word(input)?;
    match word.as_str() {
        "started" => Ok(quote!(until_started())),
        "finished" => Ok(quote!(until_finished())),
        _ => Err(syn::Error::new(span, "expected `started` or `finished`")),
    }
}

fn within(input: ParseStream<'_>) -> syn::Result<TokenStream> {
    let time = time(input)?;
    Ok(quote!(within(#time)))
}

/// `= "10m"`: a time that is not zero.
fn time(input: ParseStream<'_>) -> syn::Result<TokenStream> {
    input.parse::<Token![=]>()?;
    let text = duration::text(input)?;
    match duration::parse_millis(&text)? {
        0 => Err(syn::Error::new(text.span(), "a key that is held for no time is no key")),
        millis => Ok(duration::tokens(millis, &text)),
    }
}

fn conflict(input: ParseStream<'_>) -> syn::Result<Ident> {
    let (word, span) = word(input)?;
    let variant = match word.as_str() {
        "reject" => "Reject",
        "replace" => "Replace",
        "debounce" => "Debounce",
        _ => return Err(syn::Error::new(span, "expected `reject`, `replace` or `debounce`")),
    };
    Ok(Ident::new(variant, span))
}
