//! A function as the macros see it: attributes, visibility and signature. The body stays one opaque
//! group of tokens, so that editors keep working while it is half typed.

use proc_macro2::{Group, TokenStream};
use quote::{ToTokens, quote};
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{
    Attribute, FnArg, Generics, Ident, Lifetime, ReturnType, Safety, Signature, Token, Type,
    TypeReference, Visibility, parse_quote_spanned,
};

use crate::handler::at;
use crate::mistakes::Mistakes;

/// A function with an unread body.
#[derive(Clone)]
pub(crate) struct OpaqueFn {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) signature: Signature,
    pub(crate) body: Group,
}

impl Parse for OpaqueFn {
    fn parse(input: ParseStream<'_>) -> syn::Result<OpaqueFn> {
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        let signature = input.parse()?;
        let body: Group = input.parse().map_err(|error| {
            syn::Error::new(error.span(), "expected the body of the function, in braces")
        })?;
        Ok(OpaqueFn { attributes, visibility, signature, body })
    }
}

impl ToTokens for OpaqueFn {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        self.attributes.iter().for_each(|attribute| attribute.to_tokens(tokens));
        self.visibility.to_tokens(tokens);
        self.signature.to_tokens(tokens);
        self.body.to_tokens(tokens);
    }
}

impl OpaqueFn {
    /// The attributes with this name.
    pub(crate) fn attributes_named<'a>(&'a self, names: &'a [&str]) -> Vec<&'a Attribute> {
        let named =
            |attribute: &&Attribute| names.iter().any(|name| attribute.path().is_ident(name));
        self.attributes.iter().filter(named).collect()
    }

    /// Refuses what no job can be: generic, unsafe, `const`, foreign, or opaque in what it returns.
    pub(crate) fn check_as_job(&self, mistakes: &mut Mistakes) {
        let signature = &self.signature;
        if let Some(constness) = &signature.constness {
            mistakes.push(syn::Error::new_spanned(constness, "a job cannot be a `const fn`"));
        }
        if let Safety::Unsafe(unsafety) = &signature.safety {
            mistakes.push(syn::Error::new_spanned(
                unsafety,
                "a job cannot be an `unsafe fn`: nobody could promise its conditions later",
            ));
        }
        if let Some(abi) = &signature.abi {
            mistakes.push(syn::Error::new_spanned(abi, "a job is an ordinary Rust function"));
        }
        if let Some(variadic) = &signature.variadic {
            mistakes
                .push(syn::Error::new_spanned(variadic, "a job has a fixed list of parameters"));
        }
        check_generics(&signature.generics, mistakes);
        if let ReturnType::Type(_, ty) = &signature.output {
            check_returned(ty, mistakes);
        }
    }

    /// The type it returns.
    pub(crate) fn returned(&self) -> Type {
        match &self.signature.output {
            ReturnType::Default => syn::parse_quote!(()),
            ReturnType::Type(_, ty) => (**ty).clone(),
        }
    }
}

impl OpaqueFn {
    /// The type whose success is stored, and whether the body returns the receipt of a transaction in
    /// its place: of `Result<Completed<T>, E>` that is the `T`.
    pub(crate) fn stored_return(&self, root: &TokenStream) -> (Type, bool) {
        let returned = self.returned();
        match completed(&returned) {
            Some(value) => {
                let span = returned.span();
                let error = at(span, &quote!(#root::__private::JobError));
                let stored = parse_quote_spanned!(span=> ::core::result::Result<#value, #error>);
                (stored, true)
            }
            None => (returned, false),
        }
    }
}

/// The first argument of a `Result<..>`, and whether there is a second.
fn success(returned: &Type) -> Option<(&Type, bool)> {
    let Type::Path(path) = ungrouped(returned) else { return None };
    let segment = path.path.segments.last().filter(|segment| segment.ident == "Result")?;
    let syn::PathArguments::AngleBracketed(arguments) = &segment.arguments else { return None };
    let Some(syn::GenericArgument::Type(success)) = arguments.args.first() else { return None };
    Some((success, arguments.args.len() == 2))
}

/// The type that says what is stored of a success. The error of a `Result<T, E>` is left out of it: it may be
/// more private than the job.
pub(crate) fn with_success_of(returned: &Type) -> Type {
    match success(returned) {
        Some((success, true)) => {
            parse_quote_spanned!(returned.span()=> ::core::result::Result<#success, ()>)
        }
        _ => returned.clone(),
    }
}

/// The `T` of a `Result<Completed<T>, ..>`.
fn completed(returned: &Type) -> Option<Type> {
    let (success, _) = success(returned)?;
    match last_segment(success) {
        Some((name, Some(value))) if name == "Completed" => Some(value.clone()),
        _ => None,
    }
}

fn check_generics(generics: &Generics, mistakes: &mut Mistakes) {
    let types =
        generics.params.iter().any(|param| !matches!(param, syn::GenericParam::Lifetime(_)));
    if types {
        mistakes.push(syn::Error::new_spanned(
            generics,
            "a job cannot be generic: its kind is stored, and stands for one function; write one job for each type, which calls the generic function",
        ));
    } else if !generics.params.is_empty() {
        mistakes.push(syn::Error::new_spanned(
            generics,
            "a job has no lifetimes of its own: leave them out, as in `text: &str`",
        ));
    } else if let Some(clause) = &generics.where_clause {
        mistakes.push(syn::Error::new_spanned(clause, "a job has no `where` clause"));
    }
}

fn check_returned(ty: &Type, mistakes: &mut Mistakes) {
    if matches!(ty, Type::Never(_)) {
        mistakes.push(syn::Error::new_spanned(
            ty,
            "a job ends: it returns `()` or `Result<T, E>`; for what runs as long as the server, see its background processes",
        ));
    }
    if is_bare(ty) {
        mistakes.push(syn::Error::new_spanned(
            ty,
            format!(
                "a job returns `()` or `Result<T, E>`: write `Result<{}, JobError>`, and `Ok(..)` around the value",
                type_text(ty)
            ),
        ));
    }
    match forbidden(ty) {
        Some(Forbidden::ImplTrait(found)) => mistakes.push(syn::Error::new_spanned(
            found,
            "a job cannot return `impl Trait`: what is stored needs a type that can be named",
        )),
        Some(Forbidden::Infer(found)) => {
            mistakes
                .push(syn::Error::new_spanned(found, "write the type out: `_` is not known here"));
        }
        Some(Forbidden::Reference(found)) => mistakes.push(syn::Error::new_spanned(
            found,
            "a job returns owned values: what it borrows ends with it",
        )),
        None => {}
    }
}

/// Whether a type is surely neither `()` nor a `Result`. Other names may stand for one; the compiler
/// knows.
fn is_bare(ty: &Type) -> bool {
    const NAMES: [&str; 26] = [
        "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize",
        "f32", "f64", "bool", "char", "str", "String", "Option", "Vec", "Box", "Arc", "HashMap",
        "BTreeMap", "HashSet", "BTreeSet",
    ];
    match ungrouped(ty) {
        Type::Tuple(tuple) => !tuple.elems.is_empty(),
        Type::Array(_) | Type::Slice(_) => true,
        other => last_segment(other).is_some_and(|(name, _)| NAMES.iter().any(|bare| name == bare)),
    }
}

/// A part of a type that cannot be stored or named.
pub(crate) enum Forbidden {
    ImplTrait(TokenStream),
    Infer(TokenStream),
    Reference(TokenStream),
}

/// Looks for `impl Trait`, `_`, a reference or a lifetime that is not `'static`, at any depth.
pub(crate) fn forbidden(ty: &Type) -> Option<Forbidden> {
    match ty {
        Type::ImplTrait(found) => Some(Forbidden::ImplTrait(found.to_token_stream())),
        Type::Infer(found) => Some(Forbidden::Infer(found.to_token_stream())),
        Type::Reference(TypeReference { lifetime, elem, .. }) => match lifetime {
            Some(lifetime) if is_static(lifetime) => forbidden(elem),
            _ => Some(Forbidden::Reference(ty.to_token_stream())),
        },
        Type::Array(array) => forbidden(&array.elem),
        Type::Slice(slice) => forbidden(&slice.elem),
        Type::Paren(paren) => forbidden(&paren.elem),
        Type::Group(group) => forbidden(&group.elem),
        Type::Tuple(tuple) => tuple.elems.iter().find_map(forbidden),
        Type::Path(path) => path.path.segments.iter().find_map(forbidden_in_segment),
        _ => None,
    }
}

fn forbidden_in_segment(segment: &syn::PathSegment) -> Option<Forbidden> {
    let syn::PathArguments::AngleBracketed(arguments) = &segment.arguments else { return None };
    arguments.args.iter().find_map(|argument| match argument {
        syn::GenericArgument::Type(ty) => forbidden(ty),
        syn::GenericArgument::Lifetime(lifetime) if !is_static(lifetime) => {
            Some(Forbidden::Reference(lifetime.to_token_stream()))
        }
        _ => None,
    })
}

fn is_static(lifetime: &Lifetime) -> bool {
    lifetime.ident == "static"
}

/// The last segment of a path type, with its only type argument if it has exactly one.
pub(crate) fn last_segment(ty: &Type) -> Option<(&Ident, Option<&Type>)> {
    let Type::Path(path) = ungrouped(ty) else { return None };
    if path.qself.is_some() {
        return None;
    }
    let segment = path.path.segments.last()?;
    let argument = match &segment.arguments {
        syn::PathArguments::AngleBracketed(arguments) => {
            let mut types = arguments.args.iter();
            match (types.next(), types.next()) {
                (Some(syn::GenericArgument::Type(ty)), None) => Some(ty),
                _ => None,
            }
        }
        _ => None,
    };
    Some((&segment.ident, argument))
}

/// The type without the invisible delimiters and parentheses around it.
pub(crate) fn ungrouped(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => ungrouped(&group.elem),
        Type::Paren(paren) => ungrouped(&paren.elem),
        other => other,
    }
}

/// A type as people write it: `Option<Vec<String>>` instead of `Option < Vec < String > >`.
pub(crate) fn type_text(ty: &Type) -> String {
    let mut text = ty.to_token_stream().to_string();
    for (spaced, tight) in [
        (" < ", "<"),
        ("< ", "<"),
        (" >", ">"),
        (" ,", ","),
        (" :: ", "::"),
        (":: ", "::"),
        ("& ", "&"),
        (" ;", ";"),
        ("( ", "("),
        (" )", ")"),
        ("[ ", "["),
        (" ]", "]"),
    ] {
        text = text.replace(spaced, tight);
    }
    text
}

/// The inputs without the receiver.
pub(crate) fn typed_inputs(signature: &Signature) -> impl Iterator<Item = &syn::PatType> {
    signature.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(input) => Some(input),
        FnArg::Receiver(_) => None,
    })
}

/// An identifier as it stands in JSON: without `r#`.
pub(crate) fn plain(ident: &Ident) -> String {
    let text = ident.to_string();
    text.strip_prefix("r#").map(str::to_owned).unwrap_or(text)
}

/// Whether a function follows, after its attributes and visibility.
pub(crate) fn is_function(input: ParseStream<'_>) -> bool {
    let ahead = input.fork();
    if ahead.call(Attribute::parse_outer).is_err() || ahead.parse::<Visibility>().is_err() {
        return false;
    }
    while !ahead.is_empty() {
        if ahead.peek(Token![fn]) {
            return true;
        }
        let qualifier = ahead.peek(Token![const])
            || ahead.peek(Token![async])
            || ahead.peek(Token![unsafe])
            || ahead.peek(Token![extern])
            || ahead.peek(syn::LitStr);
        if !qualifier || ahead.parse::<proc_macro2::TokenTree>().is_err() {
            return false;
        }
    }
    false
}
