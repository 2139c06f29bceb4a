//! `limit("tenant:{tenant_id}", concurrency = 2, rate = "10/s")`: a limit that calls of a job are under.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::parse::ParseStream;
use syn::{LitInt, LitStr, Token, parenthesized};

use super::{keys, unknown, value, word};
use crate::duration;
use crate::mistakes::Mistakes;
use crate::template;

const KEYS: &str = "concurrency, rate, window";

/// The bounds of portfire-core.
const CONCURRENCY_MAX: u32 = 100_000;
const RATE_MAX: u32 = 1_000_000;
const WINDOW_MIN: u64 = 100;
const WINDOW_MAX: u64 = 366 * 24 * 3_600_000;
const NAME_MAX: usize = 64;

/// What the attribute says about one limit.
pub(super) struct Limit {
    /// A name, and after a colon a template of its partition; none for all jobs of the kind.
    template: Option<LitStr>,
    concurrency: Option<u32>,
    /// Starts, and the window in milliseconds.
    rate: Option<(u32, u64)>,
    fixed: bool,
}

impl Limit {
    pub(super) fn parse(at: Span, input: ParseStream<'_>) -> syn::Result<Limit> {
        let mut limit = Limit { template: None, concurrency: None, rate: None, fixed: false };
        if !input.peek(syn::token::Paren) {
            return Err(syn::Error::new(
                at,
                "say what the limit allows, as in `limit(concurrency = 1)` or `limit(\"mail\", rate = \"10/s\")`",
            ));
        }
        let content;
        parenthesized!(content in input);
        if content.peek(LitStr) {
            let template = named(content.parse()?);
            if template.is_err() {
                // One slip is one error: the rest is not looked at.
                content.parse::<TokenStream>()?;
            }
            limit.template = Some(template?);
            if !content.is_empty() {
                content.parse::<Token![,]>()?;
            }
        }
        let mut mistakes = Mistakes::default();
        let mut window = None;
        keys(&content, &mut mistakes, |key, input| {
            match key.to_string().as_str() {
                "concurrency" => limit.concurrency = Some(concurrency(input)?),
                "rate" => limit.rate = Some(rate(value(input)?)?),
                "window" => window = Some((fixed(input)?, key.span())),
                _ => return Err(unknown(key, "key of `limit`", KEYS)),
            }
            Ok(())
        })?;
        match window {
            Some((_, span)) if limit.rate.is_none() => {
                mistakes.push(syn::Error::new(
                    span,
                    "`window` says how a `rate` is counted, and there is none",
                ));
            }
            Some((fixed, _)) => limit.fixed = fixed,
            None => {}
        }
        mistakes.into_result()?;
        if limit.template.is_none() && limit.concurrency.is_none() && limit.rate.is_none() {
            return Err(syn::Error::new(at, "a limit needs a name, a `concurrency` or a `rate`"));
        }
        Ok(limit)
    }

    pub(super) fn check(&self, arguments: &[String], mistakes: &mut Mistakes) {
        let template = self.template.as_ref();
        if let Some(Err(mistake)) = template.map(|text| template::check(text, arguments)) {
            mistakes.push(mistake);
        }
    }

    pub(super) fn tokens(&self, private: &TokenStream, kind: &str) -> TokenStream {
        let named = match &self.template {
            Some(template) => quote!(by_template(#template)),
            None => {
                // A kind may have colons, and more characters than the name of a limit.
                let name: String = kind.replace(':', ".").chars().take(NAME_MAX).collect();
                quote!(named(#name))
            }
        };
        let concurrency = self.concurrency.map(|jobs| quote!(.concurrency(#jobs)));
        let rate = self.rate.map(|(count, millis)| {
            let per = quote!(::core::time::Duration::from_millis(#millis));
            match self.fixed {
                true => quote!(.rate_per_window(#count, #per)),
                false => quote!(.rate(#count, #per)),
            }
        });
        quote!(#private::Limit::#named #concurrency #rate)
    }
}

/// The rule of `LimitName` in portfire-core, for what stands before the colon.
fn named(template: LitStr) -> syn::Result<LitStr> {
    template::names(&template)?;
    let text = template.value();
    let name = text.split(':').next().unwrap_or_default();
    let legal = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-');
    if name.is_empty() || name.chars().count() > NAME_MAX || !name.chars().all(legal) {
        let message = format!(
            "\"{name}\" is not the name of a limit: expected 1 to 64 letters, digits or any of `_ . -`; what differs from job to job stands after a colon, as in \"tenant:{{tenant_id}}\""
        );
        return Err(syn::Error::new(template.span(), message));
    }
    Ok(template)
}

fn concurrency(input: ParseStream<'_>) -> syn::Result<u32> {
    let number: LitInt = value(input)?;
    match number.base10_parse::<u32>() {
        Ok(jobs) if (1..=CONCURRENCY_MAX).contains(&jobs) => Ok(jobs),
        _ => Err(syn::Error::new(
            number.span(),
            "expected a concurrency from 1 to 100000; to stop all jobs pause their queue",
        )),
    }
}

/// `"10/s"`, `"100/m"`, `"5/30s"`: starts and the time in which they may happen.
fn rate(text: LitStr) -> syn::Result<(u32, u64)> {
    let refuse = |reason: &str| {
        let message = format!(
            "\"{}\" is not a rate: {reason}; write a number of starts and a time, such as \"10/s\", \"100/m\" or \"5/30s\"",
            text.value()
        );
        syn::Error::new(text.span(), message)
    };
    let value = text.value();
    let (count, per) = value.split_once('/').ok_or_else(|| refuse("it has no `/`"))?;
    let count: u32 = match count.trim().parse() {
        Ok(count) if (1..=RATE_MAX).contains(&count) => count,
        _ => return Err(refuse("the starts are a number from 1 to 1000000")),
    };
    let per = per.trim();
    let per = match per.starts_with(|c: char| c.is_ascii_digit()) {
        true => per.to_owned(),
        false => format!("1{per}"),
    };
    let per = portfire_cron::duration::parse(&per);
    let millis = duration::as_millis(per.map_err(|reason| refuse(&reason.to_string()))?);
    if !(WINDOW_MIN..=WINDOW_MAX).contains(&millis) {
        return Err(refuse("the time is 100 ms to 366 days long"));
    }
    Ok((count, millis))
}

fn fixed(input: ParseStream<'_>) -> syn::Result<bool> {
    let (word, span) = word(input)?;
    match word.as_str() {
        "fixed" => Ok(true),
        "sliding" => Ok(false),
        _ => Err(syn::Error::new(span, "expected `sliding` or `fixed`")),
    }
}
