//! `#[job]` on a function: the function becomes the maker of its call, and its body moves to `run`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{FnArg, Ident};

use crate::attribute::JobAttribute;
use crate::handler::{Job, quiet};
use crate::mistakes::Mistakes;
use crate::parameter::{Parameters, bare};
use crate::signature::{OpaqueFn, plain, typed_inputs};

pub(crate) fn expand(attribute: TokenStream, item: TokenStream) -> TokenStream {
    if let Some(keyword) = other_item(&item) {
        let message = format!(
            "`#[job]` stands on a function, or on an impl block whose methods are jobs; this is a `{keyword}`"
        );
        let mistake = syn::Error::new_spanned(keyword, message).to_compile_error();
        return quote!(#item #mistake);
    }
    let function: OpaqueFn = match syn::parse2(item.clone()) {
        Ok(function) => function,
        Err(mistake) => {
            let mistake = mistake.to_compile_error();
            return quote!(#item #mistake);
        }
    };
    let mut slips = Mistakes::default();
    let attribute = JobAttribute::parse(attribute, &mut slips);
    let mut mistakes = Mistakes::default();
    function.check_as_job(&mut mistakes);
    check_receiver(&function, &mut mistakes);
    let parameters = Parameters::read(typed_inputs(&function.signature), &mut mistakes);
    attribute.check_parameters(&parameters, &mut slips);
    let slips = slips.into_tokens();
    if !mistakes.is_empty() {
        let (mistakes, function) = (mistakes.into_tokens(), without_own_attributes(function));
        return quote!(#slips #mistakes #function);
    }
    let job = written(&attribute, &function, &parameters);
    quote!(#slips #job)
}

/// The keyword of an item that is no function.
fn other_item(item: &TokenStream) -> Option<Ident> {
    const OTHERS: [&str; 8] = ["struct", "enum", "union", "trait", "mod", "type", "static", "use"];
    let mut words = item.clone().into_iter().filter_map(|token| match token {
        proc_macro2::TokenTree::Ident(ident) => Some(ident),
        _ => None,
    });
    words.find(|word| *word != "pub").filter(|word| OTHERS.iter().any(|other| word == other))
}

fn check_receiver(function: &OpaqueFn, mistakes: &mut Mistakes) {
    if let Some(receiver) = function.signature.receiver() {
        mistakes.push(syn::Error::new_spanned(
            receiver,
            "a method is a job inside an impl block with `#[jobs]`, where the server makes its `self`",
        ));
    }
}

/// What is left for the compiler to check after a mistake: the function as it was meant.
fn without_own_attributes(mut function: OpaqueFn) -> OpaqueFn {
    for input in &mut function.signature.inputs {
        if let FnArg::Typed(input) = input {
            *input = bare(input);
        }
    }
    function
}

fn written(attribute: &JobAttribute, function: &OpaqueFn, parameters: &Parameters) -> TokenStream {
    let signature = &function.signature;
    let (name, visibility) = (&signature.ident, &function.visibility);
    let conditions = function.attributes_named(&["cfg"]);
    let root = attribute.root();
    let kind = plain(name);
    let (returned, completes) = function.stored_return(&root);
    let job = Job {
        root: root.clone(),
        attribute,
        kind: kind.clone(),
        marker: name.clone(),
        visibility,
        conditions: conditions.clone(),
        parameters,
        returned: &returned,
        completes,
        is_async: signature.asyncness.is_some(),
        body: quote!(#name::run),
        instance: None,
        extra: body(function, &conditions),
    };
    let (call, items, quiet) = (job.call(), job.items(), quiet());
    let docs = function.attributes_named(&["doc", "deprecated"]);
    let note = format!(
        "\n\n# Job\nMakes a call of the background job `{kind}`, to be enqueued; `{kind}::run` is the body."
    );
    let passed = parameters.passed().map(|passed| passed.in_call());
    // The parentheses of the source: a wrong number of arguments then points there.
    let inputs = quote_spanned!(signature.paren_token.span.join()=> (#(#passed),*));
    quote! {
        #(#docs)*
        #[doc = #note]
        #(#conditions)*
        #quiet
        #visibility fn #name #inputs -> #root::Call<#name> {
            #call
        }

        #items
    }
}

/// `f::run`, the body with all of its parameters.
fn body(function: &OpaqueFn, conditions: &[&syn::Attribute]) -> TokenStream {
    let OpaqueFn { attributes, visibility, signature, body } = function;
    let rest = attributes.iter().filter(|attribute| {
        !["doc", "deprecated", "cfg"].iter().any(|name| attribute.path().is_ident(name))
    });
    let mut signature = signature.clone();
    let name = signature.ident.clone();
    signature.ident = Ident::new("run", signature.ident.span());
    for input in &mut signature.inputs {
        if let FnArg::Typed(input) = input {
            *input = bare(input);
        }
    }
    let docs = attributes.iter().filter(|attribute| attribute.path().is_ident("doc"));
    let note = format!("\n\nThe body of `{}`, with all of its parameters.", plain(&name));
    quote! {
        #(#conditions)*
        impl #name {
            #(#docs)*
            #[doc = #note]
            #[allow(clippy::too_many_arguments)]
            #(#rest)*
            #visibility #signature #body
        }
    }
}
