//! How a parameter is written and read: by value, or lent from what was read.

use proc_macro2::{Ident, TokenStream};
use quote::quote;
use syn::spanned::Spanned;
use syn::{Type, parse_quote_spanned};

use crate::signature::{Forbidden, forbidden, last_segment, ungrouped};

/// How a passed parameter is written and read.
pub(crate) struct Form {
    /// What is lent, without the reference and the `Option`.
    pub(crate) target: Type,
    pub(crate) kind: Kind,
    /// `Option<&T>`.
    pub(crate) optional_reference: bool,
    /// `Option<T>`.
    pub(crate) optional_value: bool,
}

/// What is made of a stored value for the body.
pub(crate) enum Kind {
    Value,
    Reference,
    Text,
    List(Box<Type>),
    Path,
}

impl Form {
    pub(crate) fn read(ty: &Type) -> syn::Result<Form> {
        if let Some((name, Some(inner))) = last_segment(ty)
            && name == "Option"
        {
            if let Type::Reference(reference) = ungrouped(inner) {
                let form = Form::of_reference(reference)?;
                return Ok(Form { optional_reference: true, ..form });
            }
            let form = Form::of_value(ty)?;
            return Ok(Form { optional_value: true, ..form });
        }
        match ungrouped(ty) {
            Type::Reference(reference) => Form::of_reference(reference),
            _ => Form::of_value(ty),
        }
    }

    fn of_value(ty: &Type) -> syn::Result<Form> {
        storable(ty)?;
        Ok(Form::new(ty.clone(), Kind::Value))
    }

    fn of_reference(reference: &syn::TypeReference) -> syn::Result<Form> {
        if let Some(mutability) = &reference.mutability {
            return Err(syn::Error::new_spanned(
                mutability,
                "an argument of a job is stored, and changes to it would be lost: take it by value or by `&`",
            ));
        }
        if let Some(lifetime) = &reference.lifetime {
            return Err(syn::Error::new_spanned(
                lifetime,
                "an argument of a job lives as long as its run: leave the lifetime out",
            ));
        }
        let target = ungrouped(&reference.elem);
        if let Type::TraitObject(object) = target {
            return Err(syn::Error::new_spanned(
                object,
                "a trait object cannot be stored: pass what it is made from, or mark a service `#[inject]`",
            ));
        }
        storable(target)?;
        let kind = match target {
            Type::Slice(slice) => Kind::List(slice.elem.clone()),
            _ => match last_segment(target) {
                Some((name, None)) if name == "str" => Kind::Text,
                Some((name, None)) if name == "Path" => Kind::Path,
                _ => Kind::Reference,
            },
        };
        Ok(Form::new(target.clone(), kind))
    }

    /// The type that is read back, of which the parameter is lent or taken.
    pub(crate) fn owned(&self) -> Type {
        let target = &self.target;
        let owned = match &self.kind {
            Kind::Value | Kind::Reference => target.clone(),
            Kind::Text => parse_quote_spanned!(target.span()=> ::std::string::String),
            Kind::List(item) => parse_quote_spanned!(target.span()=> ::std::vec::Vec<#item>),
            Kind::Path => parse_quote_spanned!(target.span()=> ::std::path::PathBuf),
        };
        match self.optional_reference {
            true => parse_quote_spanned!(target.span()=> ::core::option::Option<#owned>),
            false => owned,
        }
    }

    /// What the body's function is called with, when this holds what was read.
    pub(crate) fn argument(&self, ident: &Ident) -> TokenStream {
        match (&self.kind, self.optional_reference) {
            (Kind::Value, _) => quote!(#ident),
            (Kind::Reference, true) => quote!(#ident.as_ref()),
            (_, true) => quote!(#ident.as_deref()),
            (_, false) => quote!(&#ident),
        }
    }

    fn new(target: Type, kind: Kind) -> Form {
        Form { target, kind, optional_reference: false, optional_value: false }
    }
}

fn storable(ty: &Type) -> syn::Result<()> {
    match forbidden(ty) {
        Some(Forbidden::ImplTrait(found)) => Err(syn::Error::new_spanned(
            found,
            "a parameter of a job cannot be `impl Trait`: stored arguments need one type; write one job for each type",
        )),
        Some(Forbidden::Infer(found)) => {
            Err(syn::Error::new_spanned(found, "write the type out: `_` is not known here"))
        }
        Some(Forbidden::Reference(found)) => Err(syn::Error::new_spanned(
            found,
            "a job borrows whole parameters only, as `&T` or `Option<&T>`: take an owned type here, such as `String` or `Vec<String>`",
        )),
        None => Ok(()),
    }
}
