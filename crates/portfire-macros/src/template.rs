//! Texts with the names of arguments in braces, such as `tenant:{tenant_id}`.

use syn::LitStr;

/// The names in a template's braces; `{{` and `}}` are braces.
pub(crate) fn names(template: &LitStr) -> syn::Result<Vec<String>> {
    let text = template.value();
    let (mut names, mut rest) = (Vec::new(), text.as_str());
    while let Some(at) = rest.find(['{', '}']) {
        let brace = &rest[at..];
        if let Some(tail) = brace.strip_prefix("{{").or_else(|| brace.strip_prefix("}}")) {
            rest = tail;
        } else if let Some((name, tail)) =
            brace.strip_prefix('{').and_then(|inner| inner.split_once('}'))
        {
            names.push(name.trim().to_owned());
            rest = tail;
        } else {
            return Err(syn::Error::new(
                template.span(),
                "a brace without its other half: write `{name}` for an argument, `{{` or `}}` for a brace",
            ));
        }
    }
    Ok(names)
}

/// Refuses names that are no arguments of the job.
pub(crate) fn check(template: &LitStr, arguments: &[String]) -> syn::Result<()> {
    names(template)?.iter().try_for_each(|name| check_name(name, template, arguments))
}

/// Refuses a name that is no argument of the job.
pub(crate) fn check_name(name: &str, at: &LitStr, arguments: &[String]) -> syn::Result<()> {
    if arguments.iter().any(|argument| argument == name) {
        return Ok(());
    }
    let message = match arguments {
        [] => format!("`{name}` is not an argument of this job: it has none"),
        known => {
            format!("`{name}` is not an argument of this job: expected one of {}", known.join(", "))
        }
    };
    Err(syn::Error::new(at.span(), message))
}
