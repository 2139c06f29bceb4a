//! `#[portfire::test]`: an async test function with a `TestPortfire` of its own.

use proc_macro2::{Ident, TokenStream};
use quote::quote;

use crate::mistakes::Mistakes;
use crate::root;
use crate::signature::OpaqueFn;

pub(crate) fn expand(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let function: OpaqueFn = match syn::parse2(item.clone()) {
        Ok(function) => function,
        Err(mistake) => {
            let mistake = mistake.to_compile_error();
            return quote!(#item #mistake);
        }
    };
    let mut mistakes = Mistakes::default();
    let unknown =
        |key: &Ident| format!("`{key}` is not a key of `#[portfire::test]`: expected `crate`");
    let root = root::alone(attribute, unknown, &mut mistakes);
    check(&function, &mut mistakes);
    if !mistakes.is_empty() {
        let mistakes = mistakes.into_tokens();
        return quote!(#mistakes #function);
    }
    written(&root, &function)
}

fn check(function: &OpaqueFn, mistakes: &mut Mistakes) {
    let signature = &function.signature;
    if signature.asyncness.is_none() {
        mistakes.push(syn::Error::new_spanned(
            signature.fn_token,
            "a test with a `TestPortfire` is an `async fn`",
        ));
    }
    if signature.inputs.len() > 1 {
        mistakes.push(syn::Error::new_spanned(
            &signature.inputs,
            "a test has one parameter, a `TestPortfire`, or none",
        ));
    }
    if !signature.generics.params.is_empty() {
        mistakes.push(syn::Error::new_spanned(&signature.generics, "a test cannot be generic"));
    }
}

fn written(root: &TokenStream, function: &OpaqueFn) -> TokenStream {
    let OpaqueFn { attributes, visibility, signature, body } = function;
    let (name, output) = (&signature.ident, &signature.output);
    let run = if signature.inputs.is_empty() { quote!(|_| #name()) } else { quote!(#name) };
    quote! {
        #[::core::prelude::v1::test]
        #(#attributes)*
        #visibility fn #name() #output {
            #signature #body
            #root::testing::run(#run)
        }
    }
}
