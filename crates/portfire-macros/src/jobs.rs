//! `#[jobs]` on an impl block: its `#[job]` methods stay, and `Service::job()` makes calls of them.

use proc_macro2::{Group, Ident, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::parse::{Parse, ParseStream, Parser};
use syn::spanned::Spanned;
use syn::{Attribute, FnArg, Generics, ImplItem, ReceiverKind, Token, Type, braced};

use crate::attribute::JobAttribute;
use crate::handler::{Instance, Job, Receiver, quiet};
use crate::mistakes::Mistakes;
use crate::parameter::{Parameters, bare};
use crate::root;
use crate::signature::{OpaqueFn, is_function, plain, typed_inputs};

/// An impl block with unread bodies.
struct Block {
    attributes: Vec<Attribute>,
    generics: Generics,
    service: Type,
    items: Vec<Item>,
}

enum Item {
    Function(Box<OpaqueFn>),
    Other(Box<ImplItem>),
}

impl Parse for Block {
    fn parse(input: ParseStream<'_>) -> syn::Result<Block> {
        let attributes = input.call(Attribute::parse_outer)?;
        input.parse::<Token![impl]>()?;
        let generics = input.parse()?;
        let service = input.parse()?;
        if input.peek(Token![for]) {
            let message = "`#[jobs]` stands on an impl block of the type itself: a trait has many implementors, and a stored kind stands for one method";
            return Err(input.error(message));
        }
        let content;
        braced!(content in input);
        let mut items = Vec::new();
        while !content.is_empty() {
            items.push(if is_function(&content) {
                Item::Function(Box::new(content.parse()?))
            } else {
                Item::Other(Box::new(content.parse()?))
            });
        }
        Ok(Block { attributes, generics, service, items })
    }
}

/// A method with its own `#[job(..)]`.
struct Method {
    attribute: JobAttribute,
    function: OpaqueFn,
    parameters: Parameters,
    receiver: Option<Receiver>,
    returned: Type,
    completes: bool,
}

/// Whether the item is an impl block and not a function.
pub(crate) fn is_block(item: &TokenStream) -> bool {
    let ahead = |input: ParseStream<'_>| {
        input.call(Attribute::parse_outer)?;
        let block = input.peek(Token![impl]);
        input.parse::<TokenStream>()?;
        Ok(block)
    };
    ahead.parse2(item.clone()).unwrap_or(false)
}

pub(crate) fn expand(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let block: Block = match syn::parse2(item.clone()) {
        Ok(block) => block,
        Err(mistake) => {
            let mistake = mistake.to_compile_error();
            return quote!(#mistake #item);
        }
    };
    let mut mistakes = Mistakes::default();
    let unknown = |key: &Ident| {
        format!(
            "`{key}` is not a key of `#[jobs]`: expected `crate`; everything else stands at `#[job(..)]` of a method"
        )
    };
    let root = root::alone(attribute, unknown, &mut mistakes);
    let Some(name) = service_name(&block, &mut mistakes) else {
        let (mistakes, block) = (mistakes.into_tokens(), block.without_jobs());
        return quote!(#mistakes #block);
    };
    let methods = block.methods(&root, &mut mistakes);
    if methods.is_empty() && mistakes.is_empty() {
        mistakes.push(syn::Error::new_spanned(
            &block.service,
            "no method of this block is a job: put `#[job]` on those that are",
        ));
    }
    let written = written(&root, &name, &block.service, &methods);
    let (mistakes, block) = (mistakes.into_tokens(), block.without_jobs());
    quote!(#mistakes #block #written)
}

/// The name that kinds begin with.
fn service_name(block: &Block, mistakes: &mut Mistakes) -> Option<Ident> {
    if !block.generics.params.is_empty() {
        mistakes.push(syn::Error::new_spanned(
            &block.generics,
            "a service with jobs cannot be generic: a stored kind stands for one method; write the types out, as in `impl Repo<Postgres>`",
        ));
        return None;
    }
    let name = match &block.service {
        Type::Path(path) if path.qself.is_none() => path.path.segments.last(),
        _ => None,
    };
    if name.is_none() {
        mistakes.push(syn::Error::new_spanned(
            &block.service,
            "expected a type with a name: kinds begin with it",
        ));
    }
    name.map(|segment| segment.ident.clone())
}

impl Block {
    fn methods(&self, root: &TokenStream, mistakes: &mut Mistakes) -> Vec<Method> {
        let functions = self.items.iter().filter_map(|item| match item {
            Item::Function(function) => Some(&**function),
            Item::Other(_) => None,
        });
        functions.filter_map(|function| self.method(function, root, mistakes)).collect()
    }

    /// The method as a job; `None` when it is none, or is none that can be.
    fn method(
        &self,
        function: &OpaqueFn,
        root: &TokenStream,
        mistakes: &mut Mistakes,
    ) -> Option<Method> {
        let found = function.attributes.iter().find(|attribute| is_job(attribute))?;
        let tokens = match &found.meta {
            syn::Meta::List(list) => list.tokens.clone(),
            _ => TokenStream::new(),
        };
        let attribute = JobAttribute::parse(tokens, mistakes);
        if let Some(root) = &attribute.root {
            mistakes.push(syn::Error::new_spanned(
                root,
                "write `#[jobs(crate = ..)]` at the impl block",
            ));
        }
        let mut slips = Mistakes::default();
        // `Self` means nothing outside of the block.
        let service = self.service.to_token_stream();
        let mut function = function.clone();
        let signature = replace_self(function.signature.to_token_stream(), &service);
        match syn::parse2(signature) {
            Ok(signature) => function.signature = signature,
            Err(mistake) => slips.push(mistake),
        }
        function.check_as_job(&mut slips);
        let receiver = receiver(&function, &mut slips);
        let parameters = Parameters::read(typed_inputs(&function.signature), &mut slips);
        attribute.check_parameters(&parameters, mistakes);
        if let Err(slips) = slips.into_result() {
            mistakes.push(slips);
            return None;
        }
        let (returned, completes) = function.stored_return(root);
        Some(Method { attribute, function, parameters, receiver, returned, completes })
    }

    /// The block as the compiler gets it.
    fn without_jobs(mut self) -> TokenStream {
        for item in &mut self.items {
            let Item::Function(function) = item else { continue };
            let jobs = function.attributes.len();
            function.attributes.retain(|attribute| !is_job(attribute));
            if function.attributes.len() == jobs {
                continue;
            }
            for input in &mut function.signature.inputs {
                if let FnArg::Typed(input) = input {
                    *input = bare(input);
                }
            }
        }
        let Block { attributes, generics, service, items } = self;
        let items = items.iter().map(|item| match item {
            Item::Function(function) => function.to_token_stream(),
            Item::Other(item) => item.to_token_stream(),
        });
        quote!(#(#attributes)* impl #generics #service { #(#items)* })
    }
}

/// `#[job]`, also by a longer path.
fn is_job(attribute: &Attribute) -> bool {
    attribute.path().segments.last().is_some_and(|segment| segment.ident == "job")
}

fn replace_self(tokens: TokenStream, service: &TokenStream) -> TokenStream {
    tokens
        .into_iter()
        .flat_map(|token| match token {
            TokenTree::Ident(ident) if ident == "Self" => service.clone(),
            TokenTree::Group(group) => {
                let stream = replace_self(group.stream(), service);
                let mut replaced = Group::new(group.delimiter(), stream);
                replaced.set_span(group.span());
                TokenTree::Group(replaced).into()
            }
            other => other.into(),
        })
        .collect()
}

fn receiver(function: &OpaqueFn, mistakes: &mut Mistakes) -> Option<Receiver> {
    let receiver = function.signature.receiver()?;
    match &receiver.kind {
        ReceiverKind::Value => Some(Receiver::Owned),
        ReceiverKind::Reference(_, _, None) => Some(Receiver::Shared),
        ReceiverKind::Reference(_, _, Some(_)) => Some(Receiver::Exclusive),
        _ => {
            mistakes.push(syn::Error::new_spanned(
                receiver,
                "the server makes an instance for each run: take it as `&self`, `&mut self` or `self`",
            ));
            None
        }
    }
}

fn written(root: &TokenStream, name: &Ident, service: &Type, methods: &[Method]) -> TokenStream {
    let private = quote!(#root::__private);
    let quiet = quiet();
    let calls = format_ident!("{name}Jobs");
    let jobs: Vec<_> =
        methods.iter().map(|method| (method, method.job(root, name, service))).collect();
    let makers = jobs.iter().map(|(method, job)| method.maker(root, job));
    let items = jobs.iter().map(|(_, job)| job.items());
    let descriptors = jobs.iter().map(|(_, job)| {
        let (conditions, descriptors) = (&job.conditions, job.descriptors());
        quote!(#(#conditions)* jobs.extend(#descriptors);)
    });
    let note = format!("Makes calls of the jobs of `{name}`: one method for each.");
    let text = quote_spanned!(service.span()=> #service);
    quote! {
        #[doc = #note]
        #quiet
        #[derive(Clone, Copy)]
        pub struct #calls;

        #quiet
        impl #text {
            #[doc = #note]
            pub fn job() -> #calls {
                #calls
            }
        }

        #quiet
        impl #calls {
            #(#makers)*
        }

        #quiet
        impl #private::JobService for #service {
            type Jobs = #calls;

            fn jobs() -> #calls {
                #calls
            }
        }

        #quiet
        impl #private::JobSet for #service {
            fn descriptors() -> ::std::vec::Vec<&'static #private::JobDescriptor> {
                let mut jobs = ::std::vec::Vec::new();
                #(#descriptors)*
                jobs
            }
        }

        #(#items)*
    }
}

impl Method {
    fn job<'a>(&'a self, root: &TokenStream, name: &Ident, service: &'a Type) -> Job<'a> {
        let Method { attribute, function, parameters, receiver, returned, completes } = self;
        let method = &function.signature.ident;
        Job {
            root: root.clone(),
            attribute,
            kind: format!("{}.{}", plain(name), plain(method)),
            marker: format_ident!("{}_{}", name, plain(method), span = method.span()),
            visibility: &function.visibility,
            conditions: function.attributes_named(&["cfg"]),
            parameters,
            returned,
            completes: *completes,
            is_async: function.signature.asyncness.is_some(),
            body: quote!(<#service>::#method),
            instance: receiver.map(|receiver| Instance { service, receiver }),
            extra: TokenStream::new(),
        }
    }

    /// The method of `ServiceJobs`.
    fn maker(&self, root: &TokenStream, job: &Job<'_>) -> TokenStream {
        let OpaqueFn { visibility, signature, .. } = &self.function;
        let docs = self.function.attributes_named(&["doc", "deprecated", "cfg"]);
        let (name, marker, call) = (&signature.ident, &job.marker, job.call());
        let passed = self.parameters.passed().map(|passed| passed.in_call());
        let inputs = quote_spanned!(signature.paren_token.span.join()=> (self, #(#passed),*));
        quote! {
            #(#docs)*
            #visibility fn #name #inputs -> #root::Call<#marker> {
                #call
            }
        }
    }
}
