//! Parameters that come from the jobs that a continuation waited for: `#[parent]` and `#[parents]`.

use proc_macro2::{Ident, TokenStream};
use quote::{quote, quote_spanned};
use syn::Type;
use syn::spanned::Spanned;

use crate::form::Form;
use crate::handler::at;
use crate::signature::{last_segment, ungrouped};

/// What a parameter takes from a parent, or from all of them.
pub(crate) struct Parent {
    taken: Taken,
    /// How it is lent to the body.
    lent: Lent,
    /// Which of the parents, from 0; all of them for `#[parents]`.
    place: Option<usize>,
}

enum Taken {
    /// What a parent returned.
    Value(Type),
    /// What it returned, or how it ended instead.
    Result(Type),
    /// How it ended instead.
    Error,
}

enum Lent {
    Form(Box<Form>),
    Value,
    Reference,
}

impl Parent {
    pub(crate) fn read(ty: &Type, all: bool) -> syn::Result<Parent> {
        let (taken, lent) = if all { Taken::of_all(ty)? } else { Taken::of_one(ty)? };
        Ok(Parent { taken, lent, place: (!all).then_some(0) })
    }

    /// Counts those that take from one parent each.
    pub(crate) fn place(&mut self, count: &mut usize) {
        if let Some(place) = &mut self.place {
            *place = *count;
            *count += 1;
        }
    }

    pub(crate) fn is_of_one(&self) -> bool {
        self.place.is_some()
    }

    /// The type that a parent must return for it.
    pub(crate) fn input(&self) -> Option<&Type> {
        match &self.taken {
            Taken::Value(ty) | Taken::Result(ty) => Some(ty),
            Taken::Error => None,
        }
    }

    pub(crate) fn by_reference(&self) -> bool {
        matches!(self.lent, Lent::Reference)
    }

    /// Takes it from the run's context.
    pub(crate) fn supply(&self, private: &TokenStream, context: &Ident) -> TokenStream {
        match (&self.taken, self.place) {
            (Taken::Value(ty), Some(place)) => {
                let private = at(ty.span(), private);
                quote_spanned!(ty.span()=> #private::parent::<#ty>(&#context, #place)?)
            }
            (Taken::Result(ty), Some(place)) => {
                let private = at(ty.span(), private);
                quote_spanned!(ty.span()=> #private::parent_result::<#ty>(&#context, #place)?)
            }
            (Taken::Value(ty), None) => {
                let private = at(ty.span(), private);
                quote_spanned!(ty.span()=> #private::parents::<#ty>(&#context)?)
            }
            (Taken::Result(ty), None) => {
                let private = at(ty.span(), private);
                quote_spanned!(ty.span()=> #private::parent_results::<#ty>(&#context)?)
            }
            (Taken::Error, place) => {
                let place = place.unwrap_or_default();
                quote!(#private::parent_error(&#context, #place)?)
            }
        }
    }

    pub(crate) fn argument(&self, ident: &Ident) -> TokenStream {
        match &self.lent {
            Lent::Form(form) => form.argument(ident),
            Lent::Value => quote!(#ident),
            Lent::Reference => quote!(&#ident),
        }
    }
}

impl Taken {
    fn of_one(ty: &Type) -> syn::Result<(Taken, Lent)> {
        let (bare, lent) = bare(ty);
        match last_segment(bare) {
            Some((name, None)) if name == "ParentError" => Ok((Taken::Error, lent)),
            Some((name, Some(result))) if name == "ParentResult" => {
                Ok((Taken::Result(owned(result)?), lent))
            }
            _ => {
                let form = Form::read(ty)?;
                Ok((Taken::Value(form.owned()), Lent::Form(Box::new(form))))
            }
        }
    }

    fn of_all(ty: &Type) -> syn::Result<(Taken, Lent)> {
        let (bare, lent) = bare(ty);
        let item = match (bare, &lent) {
            (Type::Slice(slice), Lent::Reference) => Some(&*slice.elem),
            _ => match last_segment(bare) {
                Some((name, Some(item))) if name == "Vec" => Some(item),
                _ => None,
            },
        };
        let Some(item) = item else {
            return Err(syn::Error::new_spanned(
                ty,
                "`#[parents]` is for what all parents return: take a `Vec<T>`, a `&[T]`, or either of `ParentResult<T>`",
            ));
        };
        match last_segment(item) {
            Some((name, Some(result))) if name == "ParentResult" => {
                Ok((Taken::Result(owned(result)?), lent))
            }
            _ => Ok((Taken::Value(owned(item)?), lent)),
        }
    }
}

/// The type without its reference.
fn bare(ty: &Type) -> (&Type, Lent) {
    match ungrouped(ty) {
        Type::Reference(reference) if reference.mutability.is_none() => {
            (ungrouped(&reference.elem), Lent::Reference)
        }
        other => (other, Lent::Value),
    }
}

/// A type that can be read back as it stands.
fn owned(ty: &Type) -> syn::Result<Type> {
    match ungrouped(ty) {
        Type::Reference(_) => Err(syn::Error::new_spanned(
            ty,
            "what a parent returned is lent as a whole only: take an owned type here, such as `String`",
        )),
        _ => Ok(Form::read(ty)?.target),
    }
}
