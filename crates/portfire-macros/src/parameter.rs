//! The parameters of a job: which the caller passes and which the server supplies, told apart by
//! syntax alone.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::parse::ParseStream;
use syn::spanned::Spanned;
use syn::{Attribute, Ident, LitStr, Pat, PatType, Path, Token, Type};

use crate::form::{Form, Kind};
use crate::handler::at;
use crate::mistakes::Mistakes;
use crate::parent::Parent;
use crate::signature::{last_segment, plain, type_text, ungrouped};

const ATTRIBUTES: &str =
    "#[inject], #[parent], #[parents], #[arg(default)], #[arg(alias = \"..\")]";

/// A parameter of a job.
pub(crate) enum Parameter {
    /// The caller passes it; it is stored.
    Passed(Box<Passed>),
    /// The server supplies it.
    Supplied(Box<Supplied>),
}

/// A parameter that the caller passes.
pub(crate) struct Passed {
    pub(crate) ident: Ident,
    /// Its type as written.
    pub(crate) ty: Type,
    form: Form,
    aliases: Vec<LitStr>,
    default: Option<Missing>,
}

/// `#[arg(default)]` or `#[arg(default = path)]`.
enum Missing {
    Trait(Span),
    Path(Path),
}

/// A parameter that the server supplies.
pub(crate) struct Supplied {
    ident: Ident,
    source: Source,
    by_reference: bool,
}

enum Source {
    Context,
    Cancellation,
    /// `&T` or `Arc<T>`.
    Service(Type),
    /// `Inject<T>`.
    Wrapped(Type),
    /// Which instant of its schedule the run is for.
    Tick,
    Parent(Box<Parent>),
}

impl Parameter {
    /// Reads a parameter of the signature.
    pub(crate) fn read(input: &PatType) -> syn::Result<Parameter> {
        let ident = ident(input)?;
        let attributes = ParameterAttributes::read(&input.attrs)?;
        if let Some(inject) = &attributes.inject {
            if attributes.says_something() {
                return Err(syn::Error::new_spanned(
                    inject,
                    "`#[inject]` and `#[arg]` exclude each other",
                ));
            }
            return Supplied::service(ident, &input.ty).map(Parameter::supplied);
        }
        if let Some(parent) = &attributes.parent {
            if attributes.says_something() {
                return Err(syn::Error::new_spanned(
                    parent,
                    "`#[parent]` and `#[arg]` exclude each other: what a parent returned is not passed by the caller",
                ));
            }
            let parent = Parent::read(&input.ty, parent.path().is_ident("parents"))?;
            let (by_reference, source) = (parent.by_reference(), Source::Parent(Box::new(parent)));
            return Ok(Parameter::supplied(Supplied { ident, source, by_reference }));
        }
        if let Some(supplied) = Supplied::recognise(&ident, &input.ty) {
            if attributes.says_something() {
                return Err(syn::Error::new_spanned(
                    input,
                    "the server supplies this parameter: `#[arg]` means nothing here",
                ));
            }
            return Ok(Parameter::supplied(supplied));
        }
        let form = Form::read(&input.ty)?;
        let ParameterAttributes { aliases, default, .. } = attributes;
        let ty = (*input.ty).clone();
        Ok(Parameter::Passed(Box::new(Passed { ident, ty, form, aliases, default })))
    }

    fn supplied(supplied: Supplied) -> Parameter {
        Parameter::Supplied(Box::new(supplied))
    }

    fn parent_mut(&mut self) -> Option<&mut Parent> {
        match self {
            Parameter::Supplied(supplied) => match &mut supplied.source {
                Source::Parent(parent) => Some(parent),
                _ => None,
            },
            Parameter::Passed(_) => None,
        }
    }

    /// What the body's function is called with.
    pub(crate) fn argument(&self) -> TokenStream {
        match self {
            Parameter::Passed(passed) => passed.argument(),
            Parameter::Supplied(supplied) => supplied.argument(),
        }
    }
}

/// The name of a parameter; anything but a name is refused.
fn ident(input: &PatType) -> syn::Result<Ident> {
    match &*input.pat {
        Pat::Ident(pat) if pat.by_ref.is_none() && pat.subpat.is_none() => Ok(pat.ident.clone()),
        Pat::Wild(_) => Err(syn::Error::new_spanned(
            &input.pat,
            "a parameter of a job needs a name, under which it is stored: write `_name` when the body does not use it",
        )),
        pat => Err(syn::Error::new_spanned(
            pat,
            "a parameter of a job is a name, under which it is stored: take it apart in the body",
        )),
    }
}

#[derive(Default)]
struct ParameterAttributes {
    inject: Option<Attribute>,
    /// `#[parent]` or `#[parents]`.
    parent: Option<Attribute>,
    aliases: Vec<LitStr>,
    default: Option<Missing>,
}

impl ParameterAttributes {
    fn read(attributes: &[Attribute]) -> syn::Result<ParameterAttributes> {
        let mut read = ParameterAttributes::default();
        for attribute in attributes {
            let path = attribute.path();
            if path.is_ident("inject") {
                read.set(attribute, |read| &mut read.inject)?;
            } else if path.is_ident("parent") || path.is_ident("parents") {
                read.set(attribute, |read| &mut read.parent)?;
            } else if path.is_ident("arg") {
                attribute.parse_args_with(|input: ParseStream<'_>| read.arg(input))?;
            } else if !is_own_business(path) {
                let name = path.to_token_stream().to_string().replace(' ', "");
                return Err(syn::Error::new_spanned(
                    attribute,
                    format!(
                        "`#[{name}]` is not an attribute of a job's parameter: expected one of {ATTRIBUTES}"
                    ),
                ));
            }
        }
        Ok(read)
    }

    /// Takes an attribute without anything in it that says who supplies the parameter.
    fn set(
        &mut self,
        attribute: &Attribute,
        slot: impl FnOnce(&mut ParameterAttributes) -> &mut Option<Attribute>,
    ) -> syn::Result<()> {
        attribute.meta.require_path_only()?;
        if self.inject.is_some() || self.parent.is_some() {
            return Err(syn::Error::new_spanned(
                attribute,
                "one of `#[inject]`, `#[parent]` and `#[parents]` says where a parameter comes from",
            ));
        }
        *slot(self) = Some(attribute.clone());
        Ok(())
    }

    fn says_something(&self) -> bool {
        !self.aliases.is_empty() || self.default.is_some()
    }

    fn arg(&mut self, input: ParseStream<'_>) -> syn::Result<()> {
        while !input.is_empty() {
            let key: Ident = input.parse()?;
            match key.to_string().as_str() {
                "default" if input.peek(Token![=]) => {
                    input.parse::<Token![=]>()?;
                    self.default = Some(Missing::Path(input.parse()?));
                }
                "default" => self.default = Some(Missing::Trait(key.span())),
                "alias" => {
                    input.parse::<Token![=]>()?;
                    self.aliases.push(input.parse()?);
                }
                _ => {
                    return Err(syn::Error::new(
                        key.span(),
                        format!("`{key}` is not a key of `#[arg]`: expected one of default, alias"),
                    ));
                }
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(())
    }
}

/// Attributes of the language that may stand on a parameter and mean the same in the body's function.
fn is_own_business(path: &Path) -> bool {
    ["allow", "expect", "warn", "deny", "forbid"].iter().any(|name| path.is_ident(name))
}

/// A parameter of the body's function, without the attributes of this crate.
pub(crate) fn bare(input: &PatType) -> PatType {
    let mut bare = input.clone();
    bare.attrs.retain(|attribute| is_own_business(attribute.path()));
    bare
}

impl Passed {
    /// Its name, the key in the stored object.
    pub(crate) fn name(&self) -> String {
        plain(&self.ident)
    }

    /// Whether the stored object may lack it.
    fn is_optional(&self) -> bool {
        self.default.is_some() || self.form.optional_value || self.form.optional_reference
    }

    /// The name of the constant that holds its `Field`.
    fn constant(&self) -> Ident {
        Ident::new(&format!("__FIELD_{}", self.name()), Span::call_site())
    }

    /// The constant that says how it is written and read.
    pub(crate) fn field(&self, private: &TokenStream) -> TokenStream {
        let Form { target, kind, .. } = &self.form;
        let (name, constant) = (self.name(), self.constant());
        let span = target.span();
        let private = at(span, private);
        let field = quote_spanned!(span=> #private::Field);
        let (field, new) = match kind {
            Kind::Value | Kind::Reference => {
                (quote_spanned!(span=> #field::<#target, #target>), quote_spanned!(span=> value))
            }
            Kind::Text => (
                quote_spanned!(span=> #field::<#target, ::std::string::String>),
                quote_spanned!(span=> text),
            ),
            Kind::List(item) => (
                quote_spanned!(span=> #field::<#target, ::std::vec::Vec<#item>>),
                quote_spanned!(span=> list),
            ),
            Kind::Path => (
                quote_spanned!(span=> #field::<#target, ::std::path::PathBuf>),
                quote_spanned!(span=> path),
            ),
        };
        let aliases = (!self.aliases.is_empty()).then(|| {
            let aliases = &self.aliases;
            quote!(.aliases(&[#(#aliases),*]))
        });
        let or = self.missing();
        quote_spanned! {span=>
            const #constant: #field = #field::#new(#name) #aliases #or;
        }
    }

    fn missing(&self) -> Option<TokenStream> {
        match &self.default {
            Some(Missing::Path(path)) => Some(quote_spanned!(path.span()=> .or(#path))),
            Some(Missing::Trait(span)) => {
                Some(quote_spanned!(*span=> .or(::core::default::Default::default)))
            }
            None if self.form.optional_value => Some(quote!(.or(|| ::core::option::Option::None))),
            None => None,
        }
    }

    /// Adds it to `args`, at the call.
    pub(crate) fn write(&self, owner: &TokenStream, args: &Ident) -> TokenStream {
        let (ident, field) = (&self.ident, self.constant());
        if self.form.optional_reference {
            return quote!(#owner::#field.write_option(&mut #args, #ident););
        }
        match self.form.kind {
            Kind::Value => quote!(#owner::#field.write(&mut #args, &#ident);),
            _ => quote!(#owner::#field.write(&mut #args, #ident);),
        }
    }

    /// Reads it from `args`, at the run.
    pub(crate) fn read(&self, owner: &TokenStream, args: &Ident) -> TokenStream {
        let field = self.constant();
        if self.form.optional_reference {
            quote!(#owner::#field.read_option(#args)?)
        } else {
            quote!(#owner::#field.read(#args)?)
        }
    }

    fn argument(&self) -> TokenStream {
        self.form.argument(&self.ident)
    }

    /// The entry in the descriptor's parameters.
    pub(crate) fn shape(&self, private: &TokenStream) -> TokenStream {
        let (name, aliases, optional) = (self.name(), &self.aliases, self.is_optional());
        let ty = type_text(&self.ty);
        quote! {
            #private::ParamShape { name: #name, aliases: &[#(#aliases),*], ty: #ty, optional: #optional }
        }
    }

    /// As it stands in the signature of the call's function.
    pub(crate) fn in_call(&self) -> TokenStream {
        let (ident, ty) = (&self.ident, &self.ty);
        quote!(#ident: #ty)
    }
}

impl Supplied {
    /// The types that say of themselves that the server supplies them.
    fn recognise(ident: &Ident, ty: &Type) -> Option<Supplied> {
        let (bare, by_reference) = match ungrouped(ty) {
            Type::Reference(reference) if reference.mutability.is_none() => {
                (&*reference.elem, true)
            }
            other => (other, false),
        };
        let source = match last_segment(bare)? {
            (name, None) if name == "JobContext" => Source::Context,
            (name, None) if name == "CancellationToken" => Source::Cancellation,
            (name, None) if name == "Tick" => Source::Tick,
            (name, Some(inner)) if name == "Inject" => Source::Wrapped(inner.clone()),
            _ => return None,
        };
        Some(Supplied { ident: ident.clone(), source, by_reference })
    }

    fn service(ident: Ident, ty: &Type) -> syn::Result<Supplied> {
        let supplied =
            |source, by_reference| Supplied { ident: ident.clone(), source, by_reference };
        match ungrouped(ty) {
            Type::Reference(reference) if reference.mutability.is_none() => {
                Ok(supplied(Source::Service((*reference.elem).clone()), true))
            }
            other => match last_segment(other) {
                Some((name, Some(inner))) if name == "Arc" => {
                    Ok(supplied(Source::Service(inner.clone()), false))
                }
                Some((name, Some(inner))) if name == "Inject" => {
                    Ok(supplied(Source::Wrapped(inner.clone()), false))
                }
                _ => Err(syn::Error::new_spanned(
                    ty,
                    "an injected service is shared between jobs: take `&T`, `Arc<T>` or `Inject<T>`",
                )),
            },
        }
    }

    /// Takes it from the run's context and services.
    pub(crate) fn supply(
        &self,
        private: &TokenStream,
        context: &Ident,
        services: &Ident,
    ) -> TokenStream {
        let ident = &self.ident;
        let value = match &self.source {
            Source::Context => quote!(#context.clone()),
            Source::Cancellation => quote!(#context.cancellation().clone()),
            Source::Tick => quote!(#context.tick()),
            Source::Parent(parent) => parent.supply(private, context),
            Source::Service(ty) => {
                let private = at(ty.span(), private);
                quote_spanned!(ty.span()=> #private::inject::<#ty>(&#services)?)
            }
            Source::Wrapped(ty) => {
                let private = at(ty.span(), private);
                quote_spanned!(ty.span()=> #private::Inject(#private::inject::<#ty>(&#services)?))
            }
        };
        quote!(let #ident = #value;)
    }

    fn argument(&self) -> TokenStream {
        let ident = &self.ident;
        match (&self.source, self.by_reference) {
            (Source::Parent(parent), _) => parent.argument(ident),
            (_, true) => quote!(&#ident),
            (_, false) => quote!(#ident),
        }
    }

    /// The service it needs, if it is one.
    pub(crate) fn need(&self, private: &TokenStream) -> Option<TokenStream> {
        match &self.source {
            Source::Service(ty) | Source::Wrapped(ty) => Some(quote!(#private::Need::of::<#ty>())),
            Source::Context | Source::Cancellation | Source::Tick | Source::Parent(_) => None,
        }
    }
}

/// The parameters of a job, in the order of the source.
#[derive(Default)]
pub(crate) struct Parameters {
    pub(crate) all: Vec<Parameter>,
}

impl Parameters {
    pub(crate) fn read<'a>(
        inputs: impl Iterator<Item = &'a PatType>,
        mistakes: &mut Mistakes,
    ) -> Parameters {
        let mut parameters = Parameters::default();
        let mut parents = 0;
        for input in inputs {
            match Parameter::read(input) {
                Ok(mut parameter) => {
                    if let Some(parent) = parameter.parent_mut() {
                        parent.place(&mut parents);
                    }
                    parameters.all.push(parameter);
                }
                Err(mistake) => mistakes.push(mistake),
            }
        }
        parameters.check_names(mistakes);
        parameters
    }

    pub(crate) fn passed(&self) -> impl Iterator<Item = &Passed> {
        self.all.iter().filter_map(|parameter| match parameter {
            Parameter::Passed(passed) => Some(&**passed),
            Parameter::Supplied(_) => None,
        })
    }

    pub(crate) fn supplied(&self) -> impl Iterator<Item = &Supplied> {
        self.all.iter().filter_map(|parameter| match parameter {
            Parameter::Supplied(supplied) => Some(&**supplied),
            Parameter::Passed(_) => None,
        })
    }

    /// The names of those that a stored object must have.
    pub(crate) fn needed(&self) -> impl Iterator<Item = String> {
        self.passed().filter(|passed| !passed.is_optional()).map(Passed::name)
    }

    pub(crate) fn parents(&self) -> impl Iterator<Item = &Parent> {
        self.supplied().filter_map(|supplied| match &supplied.source {
            Source::Parent(parent) => Some(&**parent),
            _ => None,
        })
    }

    /// An alias that is another parameter's name or alias would make two readings of one object.
    fn check_names(&self, mistakes: &mut Mistakes) {
        let mut taken: Vec<String> = self.passed().map(Passed::name).collect();
        for alias in self.passed().flat_map(|passed| &passed.aliases) {
            if taken.contains(&alias.value()) {
                let message =
                    format!("\"{}\" is the name or alias of a parameter already", alias.value());
                mistakes.push(syn::Error::new(alias.span(), message));
            }
            taken.push(alias.value());
        }
    }
}
