//! `cron = "0 3 * * *"`, `every = "90s"` and what goes with them: the recurring job that code declares.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::parse::ParseStream;
use syn::{Ident, LitStr, Token};

use super::{value, word};
use crate::duration;
use crate::mistakes::Mistakes;
use crate::parameter::Parameters;

/// What the attribute says about the schedule.
#[derive(Default)]
pub(super) struct Recurring {
    cron: Option<(LitStr, Span)>,
    every: Option<(TokenStream, Span)>,
    zone: Option<(LitStr, Span)>,
    misfire: Option<(Ident, Span)>,
    overlap: Option<(Ident, Span)>,
    jitter: Option<(TokenStream, Span)>,
}

impl Recurring {
    /// Takes a key, if it is one of these.
    pub(super) fn key(&mut self, key: &Ident, input: ParseStream<'_>) -> Option<syn::Result<()>> {
        let span = key.span();
        Some(match key.to_string().as_str() {
            "cron" => value(input).and_then(cron).map(|text| self.cron = Some((text, span))),
            "every" => every(input).map(|time| self.every = Some((time, span))),
            "tz" => value(input).map(|zone| self.zone = Some((zone, span))),
            "misfire" => misfire(input).map(|rule| self.misfire = Some((rule, span))),
            "overlap" => overlap(input).map(|rule| self.overlap = Some((rule, span))),
            "jitter" => jitter(input).map(|time| self.jitter = Some((time, span))),
            _ => return None,
        })
    }

    /// Refuses what has no schedule, or more than one.
    pub(super) fn check(&self, mistakes: &mut Mistakes) {
        if let (Some(_), Some((_, span))) = (&self.cron, &self.every) {
            mistakes.push(syn::Error::new(*span, "`cron` and `every` exclude each other"));
        }
        if let (None, Some((_, span))) = (&self.cron, &self.zone) {
            mistakes.push(syn::Error::new(
                *span,
                "`tz` is the time zone of a `cron` schedule, and there is none",
            ));
        }
        if self.schedule().is_some() {
            return;
        }
        let orphans = [
            ("misfire", self.misfire.as_ref().map(|(_, span)| *span)),
            ("overlap", self.overlap.as_ref().map(|(_, span)| *span)),
            ("jitter", self.jitter.as_ref().map(|(_, span)| *span)),
        ];
        for (key, span) in orphans {
            if let Some(span) = span {
                let message = format!(
                    "`{key}` says how a `cron` or `every` schedule fires, and there is none"
                );
                mistakes.push(syn::Error::new(span, message));
            }
        }
    }

    /// Refuses a schedule for a job that cannot run without its caller.
    pub(super) fn check_parameters(&self, parameters: &Parameters, mistakes: &mut Mistakes) {
        let Some((key, span)) = self.schedule() else { return };
        let needed: Vec<String> = parameters.needed().collect();
        if !needed.is_empty() {
            let message = format!(
                "a job with `{key}` runs without a caller, and nobody passes `{}`: make it an `Option` or `#[arg(default)]`, or store the schedule with its arguments by `client.recurring(..)`",
                needed.join("`, `")
            );
            mistakes.push(syn::Error::new(span, message));
        }
        if parameters.parents().next().is_some() {
            let message = format!("a job with `{key}` has no parent to take anything from");
            mistakes.push(syn::Error::new(span, message));
        }
    }

    /// Whether the job runs without arguments.
    pub(super) fn is_declared(&self) -> bool {
        self.schedule().is_some()
    }

    fn schedule(&self) -> Option<(&'static str, Span)> {
        let cron = self.cron.as_ref().map(|(_, span)| ("cron", *span));
        cron.or_else(|| self.every.as_ref().map(|(_, span)| ("every", *span)))
    }

    pub(super) fn tokens(&self, private: &TokenStream) -> Option<TokenStream> {
        let schedule = match (&self.cron, &self.every) {
            (Some((text, _)), _) => {
                let zone = self.zone.as_ref().map_or("UTC".to_owned(), |(zone, _)| zone.value());
                quote!(Cron {
                    text: ::std::string::String::from(#text),
                    zone: ::std::string::String::from(#zone),
                })
            }
            (None, Some((time, _))) => quote!(Every(#time)),
            (None, None) => return None,
        };
        let misfire =
            self.misfire.as_ref().map(|(rule, _)| quote!(misfire: #private::Misfire::#rule,));
        let overlap =
            self.overlap.as_ref().map(|(rule, _)| quote!(overlap: #private::Overlap::#rule,));
        let jitter = self.jitter.as_ref().map(|(time, _)| quote!(jitter: #time,));
        Some(quote! {
            #private::Declared {
                #misfire
                #overlap
                #jitter
                ..#private::Declared::new(#private::Schedule::#schedule)
            }
        })
    }
}

fn cron(text: LitStr) -> syn::Result<LitStr> {
    // The name of the recurring job seeds an `H`; here any seed tells whether the text is right.
    match portfire_cron::CronExpression::parse_seeded(&text.value(), "") {
        Ok(_) => Ok(text),
        Err(error) => Err(syn::Error::new(text.span(), error.render())),
    }
}

fn every(input: ParseStream<'_>) -> syn::Result<TokenStream> {
    input.parse::<Token![=]>()?;
    let text = duration::text(input)?;
    match duration::parse_millis(&text)? {
        millis if millis < 1_000 => {
            Err(syn::Error::new(text.span(), "an interval of at least a second is taken"))
        }
        millis => Ok(duration::tokens(millis, &text)),
    }
}

fn jitter(input: ParseStream<'_>) -> syn::Result<TokenStream> {
    input.parse::<Token![=]>()?;
    let text = duration::text(input)?;
    match duration::parse_millis(&text)? {
        millis if millis > 24 * 3_600_000 => {
            Err(syn::Error::new(text.span(), "a jitter is at most a day"))
        }
        millis => Ok(duration::tokens(millis, &text)),
    }
}

fn misfire(input: ParseStream<'_>) -> syn::Result<Ident> {
    let (word, span) = word(input)?;
    let variant = match word.as_str() {
        "run_once" => "RunOnce",
        "all" => "All",
        "skip" => "Skip",
        _ => return Err(syn::Error::new(span, "expected `run_once`, `all` or `skip`")),
    };
    Ok(Ident::new(variant, span))
}

fn overlap(input: ParseStream<'_>) -> syn::Result<Ident> {
    let (word, span) = word(input)?;
    let variant = match word.as_str() {
        "allow" => "Allow",
        "skip" => "Skip",
        "queue_one" => "QueueOne",
        "cancel_previous" => "CancelPrevious",
        _ => {
            return Err(syn::Error::new(
                span,
                "expected `allow`, `skip`, `queue_one` or `cancel_previous`",
            ));
        }
    };
    Ok(Ident::new(variant, span))
}
