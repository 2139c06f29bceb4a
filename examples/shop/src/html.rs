//! Text into HTML. Everything that came from outside goes through [`escape`].

use std::borrow::Cow;

use portfire::Timestamp;

/// The text with the five characters that mean something in HTML replaced; for content and for
/// attributes in quotes.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

/// A whole page.
pub fn page(title: &str, body: &str) -> String {
    whole(title, "", body)
}

/// A page that the browser fetches again every two seconds, for what is going on.
pub(crate) fn live_page(title: &str, body: &str) -> String {
    whole(title, "<meta http-equiv=\"refresh\" content=\"2\">\n", body)
}

fn whole(title: &str, more: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n{more}<title>{}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n",
        escape(title)
    )
}

/// An instant as people read it, to the second.
pub(crate) fn moment(at: Timestamp) -> String {
    at.to_string().chars().take(19).map(|c| if c == 'T' { ' ' } else { c }).collect::<String>()
        + " UTC"
}

const STYLE: &str = "\
:root{color-scheme:light dark;--text:#222;--soft:#555;--line:#ddd;--link:#0b5fa5}\
@media(prefers-color-scheme:dark){:root{--text:#e4e4e4;--soft:#aaa;--line:#444;--link:#7cbcf5}}\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:var(--text);overflow-wrap:break-word}\
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2rem}a{color:var(--link)}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid var(--line)}\
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums}\
@media(max-width:50rem){table{display:block;overflow-x:auto}}\
form{display:flex;flex-wrap:wrap;gap:.6rem;align-items:end}label{display:grid;font-size:.85rem;max-width:100%}\
input,select,button{font:inherit;font-size:1rem;padding:.35rem .6rem;height:2.4rem;box-sizing:border-box;max-width:100%}\
pre{white-space:pre-wrap;overflow-wrap:anywhere}.note{color:var(--soft)}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_is_taken_for_html() {
        assert_eq!(escape("<b a='1' b=\"2\">&"), "&lt;b a=&#39;1&#39; b=&quot;2&quot;&gt;&amp;");
        assert!(page("</title><script>", "").contains("&lt;/title&gt;&lt;script&gt;"));
    }

    #[test]
    fn a_moment_is_shown_to_the_second() {
        let at: Timestamp = "2026-11-21T08:00:01.999999Z".parse().unwrap();
        assert_eq!(moment(at), "2026-11-21 08:00:01 UTC");
    }
}
