//! The attribute `#[job(..)]`: its keys, checked where they stand.
//!
//! A mistake does not stop the rest: it is collected, and the job is made as if the key were not
//! there, so that one slip is one error and not one at every call of the job.

mod limit;
mod recurring;
mod unique;

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Expr, Ident, LitFloat, LitInt, LitStr, Path, Token, parenthesized};

use crate::duration;
use crate::mistakes::Mistakes;
use crate::parameter::{Parameters, Passed};
use crate::root;

const KEYS: &str = "name, aliases, queue, priority, retry, timeout, start_within, retention, unique, limit, filter, elect, applied, cron, every, tz, misfire, overlap, jitter, version, migrate, crate";
/// Keys that may be given more than once.
const SEVERAL: [&str; 4] = ["limit", "filter", "elect", "applied"];
const RETRY_KEYS: &str = "max, backoff, jitter, only, except, exceeded";
const RETENTION_KEYS: &str = "succeeded, failed, deleted";

/// Most retries a policy may ask for; the same bound stands in portfire-core.
const RETRIES_MAX: u32 = 1_000;

/// Most limits that a job is under; the same bound stands in portfire-core.
const LIMITS_MAX: usize = 4;

/// What `#[job(..)]` says.
#[derive(Default)]
pub(crate) struct JobAttribute {
    pub(crate) name: Option<LitStr>,
    pub(crate) aliases: Vec<LitStr>,
    pub(crate) queue: Option<LitStr>,
    pub(crate) priority: Option<LitInt>,
    retry: Option<Retry>,
    timeout: Option<TokenStream>,
    start_within: Option<TokenStream>,
    retention: Option<Retention>,
    unique: Option<unique::Unique>,
    limits: Vec<limit::Limit>,
    /// Each with the method that takes it.
    filters: Vec<(Ident, Expr)>,
    recurring: recurring::Recurring,
    pub(crate) version: Option<(u32, Span)>,
    pub(crate) migrate: Option<Path>,
    pub(crate) root: Option<Path>,
}

#[derive(Default)]
struct Retry {
    max: Option<u32>,
    backoff: Option<TokenStream>,
    jitter: Option<TokenStream>,
    only: Vec<LitStr>,
    except: Vec<LitStr>,
    exceeded: Option<TokenStream>,
}

#[derive(Default)]
struct Retention {
    succeeded: Option<TokenStream>,
    failed: Option<TokenStream>,
    deleted: Option<TokenStream>,
}

impl JobAttribute {
    /// Reads what stands between the parentheses.
    pub(crate) fn parse(tokens: TokenStream, mistakes: &mut Mistakes) -> JobAttribute {
        let mut attribute = JobAttribute::default();
        let parser =
            |input: ParseStream<'_>| keys(input, mistakes, |key, input| attribute.key(key, input));
        if let Err(mistake) = syn::parse::Parser::parse2(parser, tokens) {
            mistakes.push(mistake);
        }
        attribute.check(mistakes);
        attribute
    }

    /// The version of the arguments; 1 when the attribute names none.
    pub(crate) fn version(&self) -> u32 {
        self.version.map_or(1, |(version, _)| version)
    }

    /// Where the facade is: `::portfire` unless `crate = path` says otherwise.
    pub(crate) fn root(&self) -> TokenStream {
        match &self.root {
            Some(path) => quote!(#path),
            None => root::default(),
        }
    }

    fn key(&mut self, key: &Ident, input: ParseStream<'_>) -> syn::Result<()> {
        match key.to_string().as_str() {
            "name" => self.name = Some(value(input).and_then(kind)?),
            "aliases" => {
                self.aliases = strings(input)?.into_iter().map(kind).collect::<Result<_, _>>()?
            }
            "queue" => self.queue = Some(value(input).and_then(queue)?),
            "priority" => self.priority = Some(priority(input)?),
            "retry" => self.retry = Some(Retry::parse(input)?),
            "timeout" => self.timeout = Some(timeout(input)?),
            "start_within" => self.start_within = Some(start_within(input)?),
            "unique" => self.unique = Some(unique::Unique::parse(input)?),
            "limit" => self.limit(key, input)?,
            "filter" | "elect" | "applied" => self.filters.push((key.clone(), value(input)?)),
            "retention" => self.retention = Some(Retention::parse(input)?),
            "version" => self.version = Some(version(input)?),
            "migrate" => self.migrate = Some(value(input)?),
            "crate" => self.root = Some(root::value(input)?),
            _ => {
                let taken = self.recurring.key(key, input);
                return taken.unwrap_or_else(|| Err(unknown(key, "job attribute", KEYS)));
            }
        }
        Ok(())
    }

    fn limit(&mut self, key: &Ident, input: ParseStream<'_>) -> syn::Result<()> {
        self.limits.push(limit::Limit::parse(key.span(), input)?);
        match self.limits.len() > LIMITS_MAX {
            true => Err(syn::Error::new(key.span(), "a job is under at most 4 limits")),
            false => Ok(()),
        }
    }

    /// Checks what the attribute says against the parameters of the job.
    pub(crate) fn check_parameters(&self, parameters: &Parameters, mistakes: &mut Mistakes) {
        self.recurring.check_parameters(parameters, mistakes);
        let arguments: Vec<String> = match self.recurring.is_declared() {
            // The runs of its schedule have none, and hold the key and are under the limits too.
            true => Vec::new(),
            false => parameters.passed().map(Passed::name).collect(),
        };
        self.unique.iter().for_each(|unique| unique.check(&arguments, mistakes));
        self.limits.iter().for_each(|limit| limit.check(&arguments, mistakes));
    }

    /// The recurring job that it declares.
    pub(crate) fn recurring(&self, private: &TokenStream) -> Option<TokenStream> {
        self.recurring.tokens(private)
    }

    fn check(&mut self, mistakes: &mut Mistakes) {
        match (&self.version, &self.migrate) {
            (Some((version, span)), None) if *version > 1 => mistakes.push(syn::Error::new(
                *span,
                format!("version {version} needs `migrate = path`: a `fn(from: u32, args: serde_json::Value) -> serde_json::Value` that changes stored arguments of older versions"),
            )),
            (None | Some((1, _)), Some(path)) => mistakes.push(syn::Error::new_spanned(
                path,
                "`migrate` needs a `version` of at least 2: arguments that name no version are of version 1",
            )),
            _ => {}
        }
        self.recurring.check(mistakes);
    }

    /// The expression of the handler's defaults.
    pub(crate) fn defaults(&self, root: &TokenStream) -> TokenStream {
        let private = quote!(#root::__private);
        let retry = self.retry.as_ref().map(|retry| {
            let policy = retry.tokens(&private);
            quote!(defaults.retry = ::core::option::Option::Some(#policy);)
        });
        let timeout = self
            .timeout
            .as_ref()
            .map(|timeout| quote!(defaults.timeout = ::core::option::Option::Some(#timeout);));
        if retry.is_none() && timeout.is_none() {
            return quote!(#private::HandlerDefaults::default());
        }
        quote! {{
            let mut defaults = #private::HandlerDefaults::default();
            #retry
            #timeout
            defaults
        }}
    }

    /// The expression of the filters, in the order in which they are given.
    pub(crate) fn filters(&self, private: &TokenStream) -> TokenStream {
        let added = self.filters.iter().map(|(method, filter)| {
            let method = Ident::new(&method.to_string(), filter.span());
            quote_spanned!(filter.span()=> .#method(#filter))
        });
        quote!(#private::KindFilters::default() #(#added)*)
    }

    /// The functions that say what is stored with each call of the kind.
    pub(crate) fn stored_with_calls(&self, root: &TokenStream, kind: &str) -> TokenStream {
        let private = quote!(#root::__private);
        let retention = self.retention.as_ref().map(|retention| {
            let retention = retention.tokens(&private);
            quote! {
                fn retention() -> ::core::option::Option<#private::Retention> {
                    ::core::option::Option::Some(#retention)
                }
            }
        });
        let start_within = self.start_within.as_ref().map(|time| {
            quote! {
                fn start_within() -> ::core::option::Option<::core::time::Duration> {
                    ::core::option::Option::Some(#time)
                }
            }
        });
        let unique = self.unique.as_ref().map(|unique| {
            let unique = unique.tokens(&private);
            quote! {
                fn unique() -> ::core::option::Option<#private::Unique> {
                    ::core::option::Option::Some(#unique)
                }
            }
        });
        let limits = (!self.limits.is_empty()).then(|| {
            let limits = self.limits.iter().map(|limit| limit.tokens(&private, kind));
            quote! {
                fn limits() -> ::std::vec::Vec<#private::Limit> {
                    ::std::vec![#(#limits),*]
                }
            }
        });
        quote!(#retention #start_within #unique #limits)
    }
}

impl Retry {
    /// `= 5`, `= none`, or `(max = 5, ..)`.
    fn parse(input: ParseStream<'_>) -> syn::Result<Retry> {
        if input.peek(Token![=]) {
            input.parse::<Token![=]>()?;
            let max = if input.peek(Ident) {
                let word: Ident = input.parse()?;
                if word != "none" {
                    return Err(syn::Error::new(
                        word.span(),
                        "expected a number of retries or `none`",
                    ));
                }
                0
            } else {
                retries(&input.parse()?)?
            };
            return Ok(Retry { max: Some(max), ..Retry::default() });
        }
        let mut retry = Retry::default();
        let content;
        parenthesized!(content in input);
        let mut mistakes = Mistakes::default();
        keys(&content, &mut mistakes, |key, input| retry.key(key, input))?;
        mistakes.into_result()?;
        Ok(retry)
    }

    fn key(&mut self, key: &Ident, input: ParseStream<'_>) -> syn::Result<()> {
        match key.to_string().as_str() {
            "max" => self.max = Some(retries(&value(input)?)?),
            "backoff" => self.backoff = Some(backoff(input)?),
            "jitter" => self.jitter = Some(jitter(input)?),
            "only" => self.only = strings(input)?,
            "except" => self.except = strings(input)?,
            "exceeded" => self.exceeded = Some(exceeded(input)?),
            _ => return Err(unknown(key, "retry key", RETRY_KEYS)),
        }
        Ok(())
    }

    fn tokens(&self, private: &TokenStream) -> TokenStream {
        let policy = quote!(#private::RetryPolicy);
        let max = self.max.map(|max| quote!(max: #max,));
        let backoff =
            self.backoff.as_ref().map(|backoff| quote!(backoff: #private::Backoff::#backoff,));
        let jitter = self.jitter.as_ref().map(|jitter| quote!(jitter: #jitter,));
        let exceeded =
            self.exceeded.as_ref().map(|exceeded| quote!(exceeded: #private::Exceeded::#exceeded,));
        let classes = |field: &str, classes: &[LitStr]| {
            let field = Ident::new(field, Span::call_site());
            (!classes.is_empty())
                .then(|| quote!(#field: ::std::vec![#(::std::string::String::from(#classes)),*],))
        };
        let (only, except) = (classes("only", &self.only), classes("except", &self.except));
        quote! {
            #policy { #max #backoff #jitter #only #except #exceeded ..#policy::default() }
        }
    }
}

impl Retention {
    fn parse(input: ParseStream<'_>) -> syn::Result<Retention> {
        let mut retention = Retention::default();
        let content;
        parenthesized!(content in input);
        let mut mistakes = Mistakes::default();
        keys(&content, &mut mistakes, |key, input| {
            let slot = match key.to_string().as_str() {
                "succeeded" => &mut retention.succeeded,
                "failed" => &mut retention.failed,
                "deleted" => &mut retention.deleted,
                _ => return Err(unknown(key, "retention key", RETENTION_KEYS)),
            };
            input.parse::<Token![=]>()?;
            let text = duration::text(input)?;
            *slot = Some(if text.value() == "forever" {
                quote!(::core::option::Option::None)
            } else {
                let time = duration::tokens(duration::parse_millis(&text)?, &text);
                quote!(::core::option::Option::Some(#time))
            });
            Ok(())
        })?;
        mistakes.into_result()?;
        Ok(retention)
    }

    fn tokens(&self, private: &TokenStream) -> TokenStream {
        let retention = quote!(#private::Retention);
        let succeeded = self.succeeded.as_ref().map(|time| quote!(succeeded: #time,));
        let failed = self.failed.as_ref().map(|time| quote!(failed: #time,));
        let deleted = self.deleted.as_ref().map(|time| quote!(deleted: #time,));
        quote!(#retention { #succeeded #failed #deleted ..#retention::default() })
    }
}

/// Reads `key …, key …`: each key once, going on after a mistake as far as the commas allow.
fn keys(
    input: ParseStream<'_>,
    mistakes: &mut Mistakes,
    mut read: impl FnMut(&Ident, ParseStream<'_>) -> syn::Result<()>,
) -> syn::Result<()> {
    let mut seen: Vec<Ident> = Vec::new();
    while !input.is_empty() {
        let key = input.call(Ident::parse_any)?;
        // A job may be under several limits, and inside of several filters.
        let is_of_many = SEVERAL.iter().any(|several| key == several);
        if seen.contains(&key) && !is_of_many {
            mistakes.push(syn::Error::new(key.span(), format!("`{key}` is given twice")));
        }
        if let Err(mistake) = read(&key, input) {
            mistakes.push(mistake);
            skip_to_comma(input)?;
        } else if !input.is_empty() && !input.peek(Token![,]) {
            mistakes.push(input.error(format!("expected `,` after `{key}`")));
            skip_to_comma(input)?;
        }
        seen.push(key);
        if !input.is_empty() {
            input.parse::<Token![,]>()?;
        }
    }
    Ok(())
}

fn skip_to_comma(input: ParseStream<'_>) -> syn::Result<()> {
    while !input.is_empty() && !input.peek(Token![,]) {
        input.parse::<proc_macro2::TokenTree>()?;
    }
    Ok(())
}

/// `= value`.
fn value<T: Parse>(input: ParseStream<'_>) -> syn::Result<T> {
    input.parse::<Token![=]>()?;
    input.parse()
}

/// `= word` or `= "word"`.
fn word(input: ParseStream<'_>) -> syn::Result<(String, Span)> {
    input.parse::<Token![=]>()?;
    if input.peek(LitStr) {
        let text: LitStr = input.parse()?;
        return Ok((text.value(), text.span()));
    }
    let word: Ident = input.parse()?;
    Ok((word.to_string(), word.span()))
}

/// `("a", "b")`.
fn strings(input: ParseStream<'_>) -> syn::Result<Vec<LitStr>> {
    let content;
    parenthesized!(content in input);
    Ok(Punctuated::<LitStr, Token![,]>::parse_terminated(&content)?.into_iter().collect())
}

fn unknown(key: &Ident, what: &str, valid: &str) -> syn::Error {
    syn::Error::new(key.span(), format!("`{key}` is not a {what}: expected one of {valid}"))
}

/// The rule of `KindName` in portfire-core.
fn kind(name: LitStr) -> syn::Result<LitStr> {
    let text = name.value();
    let legal = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | ':');
    if text.is_empty() || text.chars().count() > 128 || !text.chars().all(legal) {
        let message = format!(
            "\"{text}\" is not a kind: expected 1 to 128 letters, digits or any of `_ . - :`"
        );
        return Err(syn::Error::new(name.span(), message));
    }
    Ok(name)
}

/// The rule of `QueueName` in portfire-core.
fn queue(name: LitStr) -> syn::Result<LitStr> {
    let text = name.value();
    let first = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let legal = |b: &u8| first(b) || matches!(b, b'_' | b'-');
    let bytes = text.as_bytes();
    if bytes.len() > 64 || !bytes.first().is_some_and(first) || !bytes.iter().all(legal) {
        let message = format!(
            "\"{text}\" is not a queue name: expected 1 to 64 of `a-z 0-9 _ -`, starting with a letter or digit"
        );
        return Err(syn::Error::new(name.span(), message));
    }
    Ok(name)
}

fn priority(input: ParseStream<'_>) -> syn::Result<LitInt> {
    let number: LitInt = value(input)?;
    match number.base10_parse::<i16>() {
        Ok(_) => Ok(number),
        Err(_) => Err(syn::Error::new(
            number.span(),
            "expected a priority from -32768 to 32767; higher runs first, the default is 0",
        )),
    }
}

fn timeout(input: ParseStream<'_>) -> syn::Result<TokenStream> {
    input.parse::<Token![=]>()?;
    let text = duration::text(input)?;
    match duration::parse_millis(&text)? {
        0 => {
            Err(syn::Error::new(text.span(), "a timeout of zero would stop every attempt at once"))
        }
        millis => Ok(duration::tokens(millis, &text)),
    }
}

fn start_within(input: ParseStream<'_>) -> syn::Result<TokenStream> {
    input.parse::<Token![=]>()?;
    let text = duration::text(input)?;
    match duration::parse_millis(&text)? {
        0 => Err(syn::Error::new(text.span(), "a job that must start within no time never runs")),
        millis => Ok(duration::tokens(millis, &text)),
    }
}

fn version(input: ParseStream<'_>) -> syn::Result<(u32, Span)> {
    let number: LitInt = value(input)?;
    match number.base10_parse::<u32>() {
        Ok(version) if version >= 1 => Ok((version, number.span())),
        _ => Err(syn::Error::new(number.span(), "expected a version: a whole number from 1")),
    }
}

fn retries(number: &LitInt) -> syn::Result<u32> {
    match number.base10_parse::<u32>() {
        Ok(max) if max <= RETRIES_MAX => Ok(max),
        _ => {
            let message = format!("expected a number of retries from 0 to {RETRIES_MAX}");
            Err(syn::Error::new(number.span(), message))
        }
    }
}

/// `hangfire`, `fixed("10s")`, `exp("10s", "1h")` or `delays("1s", "5s")`, as a variant of `Backoff`.
fn backoff(input: ParseStream<'_>) -> syn::Result<TokenStream> {
    const FORMS: &str =
        "expected `hangfire`, `fixed(\"10s\")`, `exp(\"10s\", \"1h\")` or `delays(\"1s\", \"5s\")`";
    input.parse::<Token![=]>()?;
    let form: Ident = input.parse().map_err(|error| syn::Error::new(error.span(), FORMS))?;
    let refuse = |span| Err(syn::Error::new(span, FORMS));
    if form == "hangfire" {
        return Ok(quote!(Hangfire));
    }
    if !matches!(form.to_string().as_str(), "fixed" | "exp" | "delays") {
        return refuse(form.span());
    }
    if !input.peek(syn::token::Paren) {
        return refuse(form.span());
    }
    let texts = strings(input)?;
    let mut times = Vec::new();
    for text in &texts {
        times.push(duration::tokens(duration::parse_millis(text)?, text));
    }
    match (form.to_string().as_str(), times.as_slice()) {
        ("fixed", [wait]) => Ok(quote!(Fixed(#wait))),
        ("exp", [base, cap]) => Ok(quote!(Exponential { base: #base, cap: #cap })),
        ("delays", [_, ..]) => Ok(quote!(Delays(::std::vec![#(#times),*]))),
        _ => refuse(form.span()),
    }
}

fn jitter(input: ParseStream<'_>) -> syn::Result<TokenStream> {
    const RANGE: &str = "expected a share of the wait from 0.0 to 1.0";
    input.parse::<Token![=]>()?;
    let (share, span) = if input.peek(LitInt) {
        let number: LitInt = input.parse()?;
        (number.base10_parse::<f64>(), number.span())
    } else {
        let number: LitFloat =
            input.parse().map_err(|error| syn::Error::new(error.span(), RANGE))?;
        (number.base10_parse::<f64>(), number.span())
    };
    match share {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(quote_spanned!(span=> #share)),
        _ => Err(syn::Error::new(span, RANGE)),
    }
}

fn exceeded(input: ParseStream<'_>) -> syn::Result<TokenStream> {
    let end: Ident = value(input)?;
    match end.to_string().as_str() {
        "fail" => Ok(quote!(Fail)),
        "delete" => Ok(quote!(Delete)),
        _ => Err(syn::Error::new(end.span(), "expected `fail` or `delete`")),
    }
}
