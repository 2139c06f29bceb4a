//! Rules about the texts beside the code: that they are there, and that they promise what holds.

use std::path::Path;

use super::Finding;

/// Files that a reader, a packager or a lawyer looks for.
const WANTED: [&str; 7] = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "deny.toml",
];

pub(super) fn check(root: &Path, findings: &mut Vec<Finding>) {
    for name in WANTED {
        match std::fs::read_to_string(root.join(name)) {
            Ok(text) if text.trim().is_empty() => {
                findings.push(Finding::new(name, "the file is empty"));
            }
            Ok(text) if name.ends_with(".md") => promise(name, &text, findings),
            Ok(_) => {}
            Err(error) => findings.push(Finding::new(name, format!("cannot be read: {error}"))),
        }
    }
}

/// Nobody can run a job exactly once; its effects in the same database can be. A paragraph that says
/// the one says the other.
fn promise(name: &str, text: &str, findings: &mut Vec<Finding>) {
    let mut line = 1;
    for paragraph in text.split("\n\n") {
        let words = paragraph.to_lowercase().replace('-', " ").replace(['*', '`', '\n'], " ");
        let bounded = words.contains("same database") || words.contains("without a fault");
        if words.contains("exactly once") && !bounded {
            let message = "says \"exactly once\" without \"effects in the same database\"";
            findings.push(Finding::new(format!("{name}:{line}"), message));
        }
        line += paragraph.matches('\n').count() + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_that_nobody_can_keep_is_found() {
        let text = "A title\n\nEvery job runs *exactly\nonce*.\n\nEffects in the same database are \
                    exactly-once.\n";
        let mut findings = Vec::new();
        promise("README.md", text, &mut findings);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].place, "README.md:3");
    }

    #[test]
    fn a_text_that_is_not_there_is_found() {
        let mut findings = Vec::new();
        check(Path::new("no such directory"), &mut findings);
        assert_eq!(findings.len(), WANTED.len());
    }
}
