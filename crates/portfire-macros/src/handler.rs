//! What both `#[job]` and `#[jobs]` make of a function: the job as a type, with its fields, its
//! handler and its descriptor.

use proc_macro2::{Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, Type, Visibility};

use crate::attribute::JobAttribute;
use crate::parameter::Parameters;
use crate::signature::with_success_of;

/// A checked job.
pub(crate) struct Job<'a> {
    /// The facade's path.
    pub(crate) root: TokenStream,
    pub(crate) attribute: &'a JobAttribute,
    /// The stored name, unless the attribute says otherwise.
    pub(crate) kind: String,
    /// The type that stands for the job.
    pub(crate) marker: Ident,
    pub(crate) visibility: &'a Visibility,
    /// Attributes that every item carries: `cfg`.
    pub(crate) conditions: Vec<&'a Attribute>,
    pub(crate) parameters: &'a Parameters,
    pub(crate) returned: &'a Type,
    /// Whether the body returns a `Completed` in its place.
    pub(crate) completes: bool,
    pub(crate) is_async: bool,
    /// The function with the body.
    pub(crate) body: TokenStream,
    /// The instance that the body is a method of.
    pub(crate) instance: Option<Instance<'a>>,
    /// Further items of the marker: the body, when it is a function of its own.
    pub(crate) extra: TokenStream,
}

/// The service whose method is the body.
pub(crate) struct Instance<'a> {
    pub(crate) service: &'a Type,
    pub(crate) receiver: Receiver,
}

/// How the method takes its service.
#[derive(Clone, Copy)]
pub(crate) enum Receiver {
    Shared,
    Exclusive,
    Owned,
}

/// Lints that are about code as people write it.
pub(crate) fn quiet() -> TokenStream {
    quote! {
        #[allow(
            non_camel_case_types, non_upper_case_globals, missing_docs, missing_debug_implementations,
            unreachable_pub, dead_code, unused_variables, unused_qualifications, deprecated,
            clippy::all, clippy::pedantic
        )]
    }
}

impl Job<'_> {
    /// The body of the function that makes the call.
    pub(crate) fn call(&self) -> TokenStream {
        let (private, marker) = (self.private(), &self.marker);
        let (args, owner) = (local("args"), marker.to_token_stream());
        let version = self.attribute.version();
        let writes = self.parameters.passed().map(|passed| passed.write(&owner, &args));
        let mutability = self.parameters.passed().next().map(|_| quote!(mut));
        quote! {
            let #mutability #args = #private::ArgsWriter::new(#version);
            #(#writes)*
            #private::call::<#marker>(#args)
        }
    }

    /// The type of the job and all that hangs on it.
    pub(crate) fn items(&self) -> TokenStream {
        let Job { marker, visibility, conditions, extra, .. } = self;
        let (private, quiet) = (self.private(), quiet());
        let fields = self.parameters.passed().map(|passed| passed.field(&private));
        let returned = self.returned_constant();
        let (job_fn, start, inline) = (self.job_fn(), self.start(), self.inline());
        let descriptor = self.descriptor();
        quote! {
            #(#conditions)*
            #[doc(hidden)]
            #quiet
            #visibility enum #marker {}

            #(#conditions)*
            #quiet
            impl #marker {
                #(#fields)*
                #returned
            }

            #extra

            #(#conditions)*
            #quiet
            const _: () = {
                #job_fn
                #start
                #inline
                #descriptor
            };
        }
    }

    /// The descriptor, by its job.
    pub(crate) fn descriptors(&self) -> TokenStream {
        let (private, marker) = (self.private(), &self.marker);
        quote!(<#marker as #private::JobSet>::descriptors())
    }

    fn private(&self) -> TokenStream {
        let root = &self.root;
        quote!(#root::__private)
    }

    fn job_fn(&self) -> TokenStream {
        let Job { marker, attribute, returned, kind, .. } = self;
        let private = self.private();
        let (kind, kind_text) = match &attribute.name {
            Some(name) => (name.to_token_stream(), name.value()),
            None => (kind.to_token_stream(), kind.clone()),
        };
        let queue =
            attribute.queue.as_ref().map(|queue| quote!(const QUEUE: &'static str = #queue;));
        let priority =
            attribute.priority.as_ref().map(|priority| quote!(const PRIORITY: i16 = #priority;));
        let here = at(returned.span(), &private);
        let stored = attribute.stored_with_calls(&self.root, &kind_text);
        let (parents, takes) = (self.parents(), self.takes());
        let shown = with_success_of(returned);
        let output =
            quote_spanned!(returned.span()=> type Output = <#shown as #here::JobReturn>::Output;);
        quote! {
            impl #private::JobFn for #marker {
                const KIND: &'static str = #kind;
                #queue
                #priority
                #parents
                #output
                #stored
            }

            #takes
        }
    }

    /// The constant that says how many parents it takes something from.
    fn parents(&self) -> Option<TokenStream> {
        self.parameters.parents().next()?;
        let needed = self.parameters.parents().filter(|parent| parent.is_of_one()).count();
        Some(quote! {
            const PARENTS: ::core::option::Option<usize> = ::core::option::Option::Some(#needed);
        })
    }

    /// What may be piped into it: what its one `#[parent]` takes.
    fn takes(&self) -> Option<TokenStream> {
        let mut parents = self.parameters.parents();
        let (Some(parent), None) = (parents.next(), parents.next()) else { return None };
        let (input, marker) = (parent.input()?, &self.marker);
        let private = self.private();
        Some(quote_spanned!(input.span()=> impl #private::Takes<#input> for #marker {}))
    }

    /// The constant that says how the result is taken; it looks at the parts of the type.
    fn returned_constant(&self) -> TokenStream {
        let returned = self.returned;
        let span = returned.span();
        let private = at(span, &self.private());
        let ty = quote_spanned!(span=> #private::Returned::<#returned>);
        quote_spanned!(span=> const __RETURNED: #ty = #ty::checked();)
    }

    fn takes_supplies(&self) -> bool {
        self.instance.is_some() || self.parameters.supplied().next().is_some()
    }

    /// The function that decodes the arguments, gathers what the server supplies, and runs the body.
    fn start(&self) -> TokenStream {
        let private = self.private();
        let Job { marker, body, .. } = self;
        let (args, context, services) = (local("args"), local("context"), local("services"));
        let (fields, service) = (local("fields"), local("service"));
        let owner = marker.to_token_stream();
        let names: Vec<_> = self.parameters.passed().map(|passed| &passed.ident).collect();
        let reads = self.parameters.passed().map(|passed| passed.read(&owner, &fields));
        let version = self.attribute.version();
        let migrate = self.migrate();
        let supplies = self.parameters.supplied().map(|s| s.supply(&private, &context, &services));
        let instance = self.instance.as_ref().map(|instance| {
            let ty = instance.service;
            let private = at(ty.span(), &private);
            let mutability =
                matches!(instance.receiver, Receiver::Exclusive).then(|| quote!(mut));
            quote_spanned!(ty.span()=> let #mutability #service = <#ty as #private::FromServices>::resolve(&#services)?;)
        });
        let receiver = self.instance.as_ref().map(|instance| match instance.receiver {
            Receiver::Shared => quote!(&#service,),
            Receiver::Exclusive => quote!(&mut #service,),
            Receiver::Owned => quote!(#service,),
        });
        let arguments = self.parameters.all.iter().map(|parameter| parameter.argument());
        let wait = self.is_async.then(|| quote!(.await));
        let span = self.returned.span();
        let returned = quote!(#body(#receiver #(#arguments),*) #wait);
        let returned = match self.completes {
            true => {
                let private = at(span, &private);
                quote_spanned!(span=> #private::without_receipt(#returned))
            }
            false => returned,
        };
        let work = quote! {
            let (#(#names,)*) = #private::decode(&#args, #version, #migrate, |#fields| {
                ::core::result::Result::Ok((#(#reads,)*))
            })?;
            #(#supplies)*
            #instance
            (#marker::__RETURNED.into_result)(#returned)
        };
        let supplied = self
            .takes_supplies()
            .then(|| quote!(#context: #private::JobContext, #services: #private::ServiceScope,));
        let result = quote! {
            ::core::result::Result<<#marker as #private::JobFn>::Output, #private::JobError>
        };
        let (start, finish, run) = (local("__portfire_start"), local("finish"), local("run"));
        if !self.is_async {
            return quote! {
                fn #start(#args: #private::StoredJson, #supplied) -> #result { #work }
            };
        }
        // One boxed future for both the server and the inline run, so that a body that is not `Send`
        // is one error; it stands at the name of the job.
        let boxed = quote_spanned! {marker.span()=>
            ::std::boxed::Box::pin(async move {
                let #run = async move { #work };
                #finish(#run.await)
            })
        };
        quote! {
            fn #start<__PortfireR: 'static>(
                #args: #private::StoredJson,
                #supplied
                #finish: fn(#result) -> __PortfireR,
            ) -> #private::BoxFuture<'static, __PortfireR> {
                #boxed
            }
        }
    }

    fn migrate(&self) -> TokenStream {
        let private = self.private();
        match &self.attribute.migrate {
            None => quote!(::core::option::Option::None),
            Some(path) => {
                let private = at(path.span(), &private);
                let migrated = quote_spanned!(path.span()=> #private::Migrated::into_result(#path(from, args)));
                quote!(::core::option::Option::Some(|from, args| #migrated))
            }
        }
    }

    fn inline(&self) -> TokenStream {
        if self.takes_supplies() {
            return TokenStream::new();
        }
        let (private, marker) = (self.private(), &self.marker);
        let (args, start) = (local("args"), local("__portfire_start"));
        let run = if self.is_async {
            quote!(#start(#args, #private::unchanged))
        } else {
            quote!(::std::boxed::Box::pin(async move { #start(#args) }))
        };
        quote! {
            impl #private::Inline for #marker {
                fn run_inline(#args: #private::StoredJson) -> #private::BoxFuture<
                    'static,
                    ::core::result::Result<<#marker as #private::JobFn>::Output, #private::JobError>,
                > {
                    #run
                }
            }
        }
    }

    fn descriptor(&self) -> TokenStream {
        let private = self.private();
        let Job { marker, attribute, .. } = self;
        let (start, invocation) = (local("__portfire_start"), local("invocation"));
        let supplied =
            self.takes_supplies().then(|| quote!(#invocation.context, #invocation.services,));
        let handler = if self.is_async {
            quote!(Async(|#invocation| #start(#invocation.args, #supplied #marker::__RETURNED.store)))
        } else {
            quote!(Blocking(|#invocation| (#marker::__RETURNED.store)(#start(#invocation.args, #supplied))))
        };
        let aliases = &attribute.aliases;
        let version = attribute.version();
        let defaults = attribute.defaults(&self.root);
        let filters = attribute.filters(&private);
        let shapes = self.parameters.passed().map(|passed| passed.shape(&private));
        let needs = self.needs(&private);
        let recurring = self.recurring();
        quote! {
            const __PORTFIRE_DESCRIPTOR: #private::JobDescriptor = #private::JobDescriptor {
                kind: <#marker as #private::JobFn>::KIND,
                aliases: &[#(#aliases),*],
                version: #version,
                queue: <#marker as #private::JobFn>::QUEUE,
                defaults: || #defaults,
                filters: || #filters,
                params: || ::std::vec![#(#shapes),*],
                needs: || #needs,
                recurring: #recurring,
                handler: #private::Handler::#handler,
                location: ::core::concat!(::core::file!(), ":", ::core::line!()),
            };

            impl #private::JobSet for #marker {
                fn descriptors() -> ::std::vec::Vec<&'static #private::JobDescriptor> {
                    static __PORTFIRE_DESCRIBED: #private::JobDescriptor = __PORTFIRE_DESCRIPTOR;
                    ::std::vec![&__PORTFIRE_DESCRIBED]
                }
            }

            #private::inventory::submit! { __PORTFIRE_DESCRIPTOR }
        }
    }

    /// The recurring job that the attribute declares: a run of it is a call without arguments.
    fn recurring(&self) -> TokenStream {
        let (private, marker) = (self.private(), &self.marker);
        let Some(declared) = self.attribute.recurring(&private) else {
            return quote!(::core::option::Option::None);
        };
        let version = self.attribute.version();
        quote! {
            ::core::option::Option::Some(|| {
                let call = #private::call::<#marker>(#private::ArgsWriter::new(#version));
                #private::declare::<#marker>(call, #declared)
            })
        }
    }

    fn needs(&self, private: &TokenStream) -> TokenStream {
        let needs: Vec<_> =
            self.parameters.supplied().filter_map(|supplied| supplied.need(private)).collect();
        match &self.instance {
            None => quote!(::std::vec![#(#needs),*]),
            Some(Instance { service, .. }) => quote! {{
                let mut needs = <#service as #private::FromServices>::needs();
                ::core::iter::Extend::<#private::Need>::extend(&mut needs, ::std::vec![#(#needs),*]);
                needs
            }},
        }
    }
}

/// The tokens as if they stood at `span`. A path shows its errors where its first token stands, so
/// what is to be blamed on a type must stand there as a whole.
pub(crate) fn at(span: Span, tokens: &TokenStream) -> TokenStream {
    let moved = |mut token: TokenTree| {
        if let TokenTree::Group(group) = &token {
            let stream = at(span, &group.stream());
            token = TokenTree::Group(Group::new(group.delimiter(), stream));
        }
        token.set_span(span);
        token
    };
    tokens.clone().into_iter().map(moved).collect()
}

/// A name that cannot meet one of the user's.
pub(crate) fn local(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}
