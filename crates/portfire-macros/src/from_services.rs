//! `#[derive(FromServices)]`: a struct whose fields are services.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, Data, DeriveInput, Fields, Ident, Member, Type};

use crate::mistakes::Mistakes;
use crate::root;
use crate::signature::last_segment;

pub(crate) fn expand(item: TokenStream) -> TokenStream {
    let input: DeriveInput = match syn::parse2(item) {
        Ok(input) => input,
        Err(mistake) => return mistake.to_compile_error(),
    };
    let mut mistakes = Mistakes::default();
    let root = read_root(&input.attrs, &mut mistakes);
    let written = match &input.data {
        Data::Struct(data) => implementation(&root, &input, &data.fields),
        _ => {
            mistakes.push(syn::Error::new_spanned(
                &input.ident,
                "only a struct is made from services, one for each field; implement `FromServices` by hand for anything else",
            ));
            TokenStream::new()
        }
    };
    let mistakes = mistakes.into_tokens();
    quote!(#mistakes #written)
}

fn read_root(attributes: &[Attribute], mistakes: &mut Mistakes) -> TokenStream {
    let unknown =
        |key: &Ident| format!("`{key}` is not a key of `#[portfire(..)]`: expected `crate`");
    let own = attributes.iter().find(|attribute| attribute.path().is_ident("portfire"));
    match own.map(|attribute| attribute.meta.require_list()) {
        Some(Ok(list)) => root::alone(list.tokens.clone(), unknown, mistakes),
        Some(Err(mistake)) => {
            mistakes.push(mistake);
            root::default()
        }
        None => root::default(),
    }
}

fn implementation(root: &TokenStream, input: &DeriveInput, fields: &Fields) -> TokenStream {
    let private = quote!(#root::__private);
    let name = &input.ident;
    let (generics, arguments, conditions) = input.generics.split_for_impl();
    let inits = fields.iter().enumerate().map(|(index, field)| {
        let member = match &field.ident {
            Some(ident) => Member::from(ident.clone()),
            None => Member::from(index),
        };
        let value = value(&private, &field.ty);
        quote!(#member: #value)
    });
    let needs = fields.iter().map(|field| {
        let service = service(&field.ty).1;
        quote!(#private::Need::of::<#service>())
    });
    quote! {
        #[automatically_derived]
        impl #generics #private::FromServices for #name #arguments #conditions {
            fn resolve(
                services: &#private::ServiceScope,
            ) -> ::core::result::Result<Self, #private::ServiceError> {
                ::core::result::Result::Ok(#name { #(#inits),* })
            }

            fn needs() -> ::std::vec::Vec<#private::Need> {
                ::std::vec![#(#needs),*]
            }
        }
    }
}

/// How a field takes its service.
enum Taking {
    Shared,
    Wrapped,
    Cloned,
}

fn service(ty: &Type) -> (Taking, &Type) {
    match last_segment(ty) {
        Some((name, Some(inner))) if name == "Arc" => (Taking::Shared, inner),
        Some((name, Some(inner))) if name == "Inject" => (Taking::Wrapped, inner),
        _ => (Taking::Cloned, ty),
    }
}

fn value(private: &TokenStream, ty: &Type) -> TokenStream {
    let (taking, service) = service(ty);
    let get = quote_spanned!(ty.span()=> services.get::<#service>()?);
    match taking {
        Taking::Shared => get,
        Taking::Wrapped => quote!(#private::Inject(#get)),
        Taking::Cloned => {
            let ty = ty.to_token_stream();
            quote_spanned!(service.span()=> <#ty as ::core::clone::Clone>::clone(&*#get))
        }
    }
}
