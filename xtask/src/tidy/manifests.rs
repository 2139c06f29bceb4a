//! Rules about the manifests: which crate may know which, and why a dependency is there.

use serde_json::Value;

use super::Finding;

/// What a crate of the workspace is and may depend on.
pub(crate) struct Layer {
    /// The crate.
    pub(crate) name: &'static str,
    /// Whether users get it.
    pub(crate) shipped: bool,
    /// The crates of the workspace that it may know.
    inner: &'static [&'static str],
    /// The crates from outside that it may use; `None` for programs, where nobody inherits them.
    outer: Option<&'static [&'static str]>,
}

/// The layers, from the bottom up. Arrows point down only, and never between neighbours.
pub(crate) const LAYERS: &[Layer] = &[
    Layer { name: "portfire-cron", shipped: true, inner: &[], outer: Some(&["jiff"]) },
    Layer {
        name: "portfire-core",
        shipped: true,
        inner: &["portfire-cron"],
        outer: Some(&["jiff", "serde", "serde_json", "thiserror", "tokio", "tracing", "uuid"]),
    },
    Layer {
        name: "portfire-macros",
        shipped: true,
        inner: &["portfire-cron"],
        outer: Some(&["proc-macro2", "quote", "syn"]),
    },
    Layer {
        name: "portfire-server",
        shipped: true,
        inner: &["portfire-core"],
        outer: Some(&[
            "inventory",
            "metrics",
            "serde",
            "serde_json",
            "serde_path_to_error",
            "thiserror",
            "tokio",
            "tracing",
            "tracing-subscriber",
        ]),
    },
    Layer {
        name: "portfire-sqlite",
        shipped: true,
        inner: &["portfire-core"],
        outer: Some(&["rusqlite", "serde", "serde_json", "thiserror", "tokio", "tracing"]),
    },
    Layer {
        name: "portfire",
        shipped: true,
        inner: &[
            "portfire-core",
            "portfire-cron",
            "portfire-macros",
            "portfire-server",
            "portfire-sqlite",
        ],
        outer: Some(&[
            "inventory",
            "metrics",
            "serde",
            "serde_json",
            "serde_path_to_error",
            "thiserror",
            "tokio",
            "tracing",
            "tracing-subscriber",
        ]),
    },
    Layer {
        name: "portfire-cli",
        shipped: true,
        inner: &["portfire", "portfire-core", "portfire-cron", "portfire-server"],
        outer: None,
    },
    Layer { name: "portfire-conformance", shipped: false, inner: &["portfire-core"], outer: None },
    Layer {
        name: "portfire-sim",
        shipped: false,
        inner: &["portfire-core", "portfire-server"],
        outer: None,
    },
    Layer {
        name: "portfire-torture",
        shipped: false,
        inner: &["portfire", "portfire-core", "portfire-conformance"],
        outer: None,
    },
    Layer { name: "shop", shipped: false, inner: &["portfire"], outer: None },
    Layer { name: "xtask", shipped: false, inner: &[], outer: None },
];

/// Crates that serve tests and must not be built into a user's program.
const TESTS_ONLY: &[&str] = &[
    "portfire-conformance",
    "portfire-sim",
    "portfire-torture",
    "proptest",
    "tempfile",
    "trybuild",
];

/// A manifest of the workspace.
pub(super) struct Member {
    pub(super) name: String,
    pub(super) path: String,
}

pub(super) fn members(metadata: &Value) -> Vec<Member> {
    let member = |package: &Value| Member {
        name: text(&package["name"]).to_owned(),
        path: text(&package["manifest_path"]).to_owned(),
    };
    packages_of(metadata).map(member).collect()
}

/// Arrows point down: every normal and build dependency is one that the crate's layer allows.
pub(super) fn layers(metadata: &Value, findings: &mut Vec<Finding>) {
    let ours: Vec<&str> = packages_of(metadata).map(|package| text(&package["name"])).collect();
    for package in packages_of(metadata) {
        let name = text(&package["name"]);
        let Some(layer) = LAYERS.iter().find(|layer| layer.name == name) else {
            findings.push(Finding::new(
                name,
                "the crate has no layer: say in LAYERS of xtask what it may depend on",
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            // Cargo leaves the kind of a normal dependency out.
            if dependency["kind"].as_str() == Some("dev") {
                continue;
            }
            let on = text(&dependency["name"]);
            let inner = ours.contains(&on);
            if inner && !layer.inner.contains(&on) {
                findings
                    .push(Finding::new(name, format!("must not know `{on}`: arrows point down")));
            }
            if !inner && layer.outer.is_some_and(|outer| !outer.contains(&on)) {
                let message =
                    format!("`{on}` is not among the dependencies that its users inherit");
                findings.push(Finding::new(name, message));
            }
            if layer.shipped && TESTS_ONLY.contains(&on) {
                let message = format!("`{on}` serves tests: make it a dev-dependency");
                findings.push(Finding::new(name, message));
            }
        }
        core_has_no_runtime(name, package, findings);
    }
}

/// Core uses of tokio what needs no runtime.
fn core_has_no_runtime(name: &str, package: &Value, findings: &mut Vec<Finding>) {
    if name != "portfire-core" {
        return;
    }
    for dependency in package["dependencies"].as_array().into_iter().flatten() {
        if text(&dependency["name"]) != "tokio" || dependency["kind"].as_str() == Some("dev") {
            continue;
        }
        for feature in dependency["features"].as_array().into_iter().flatten() {
            if text(feature) != "sync" {
                let message = format!("tokio's feature {feature} brings a runtime into core");
                findings.push(Finding::new(name, message));
            }
        }
    }
}

/// Every package says its licence, and a package that users do not get cannot be published.
pub(super) fn packages(metadata: &Value, findings: &mut Vec<Finding>) {
    for package in packages_of(metadata) {
        let name = text(&package["name"]);
        if text(&package["license"]) != "MIT OR Apache-2.0" {
            findings.push(Finding::new(name, "the licence is not `MIT OR Apache-2.0`"));
        }
        if text(&package["description"]).is_empty() {
            findings.push(Finding::new(name, "the manifest has no description"));
        }
    }
}

/// Every dependency of the workspace from outside is argued for in one line, at its end or above it.
pub(super) fn reasons(manifest: &str, findings: &mut Vec<Finding>) {
    let mut above = "";
    for (index, line) in
        manifest.lines().enumerate().skip_while(|(_, line)| !is_table(line)).skip(1)
    {
        if line.starts_with('[') {
            break;
        }
        let trimmed = line.trim();
        let starts = trimmed.split_once('=').is_some() && !trimmed.starts_with('#');
        let inner = trimmed.contains("path = ");
        let argued = trimmed.contains("# ") || above.starts_with("# ");
        if starts && !inner && !argued {
            let name = trimmed.split_once('=').map_or("", |(name, _)| name.trim());
            let place = format!("Cargo.toml:{}", index + 1);
            findings.push(Finding::new(place, format!("`{name}` has no reason: add `# why`")));
        }
        above = trimmed;
    }
}

fn is_table(line: &str) -> bool {
    line.trim() == "[workspace.dependencies]"
}

/// A member takes versions, lints and the supported Rust from the workspace.
pub(super) fn inherits(member: &Member, manifest: &str, findings: &mut Vec<Finding>) {
    let mut table = "";
    for line in manifest.lines() {
        let line = line.trim();
        if line.starts_with('[') {
            table = line;
        } else if table.contains("dependencies]") && line.contains('=') && !line.starts_with('#') {
            let inherited = line.contains("workspace = true");
            if !inherited {
                let message = format!("`{line}`: take the version from the workspace");
                findings.push(Finding::new(member.name.clone(), message));
            }
        }
    }
    for wanted in ["[lints]\nworkspace = true", "rust-version.workspace = true"] {
        if !manifest.contains(wanted) {
            let message = format!("the manifest lacks `{}`", wanted.replace('\n', " "));
            findings.push(Finding::new(member.name.clone(), message));
        }
    }
}

fn packages_of(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"].as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(check: impl FnOnce(&mut Vec<Finding>)) -> Vec<String> {
        let mut findings = Vec::new();
        check(&mut findings);
        findings.iter().map(ToString::to_string).collect()
    }

    fn package(name: &str, dependencies: Value) -> Value {
        json!({ "name": name, "license": "MIT OR Apache-2.0", "description": "d", "dependencies": dependencies })
    }

    #[test]
    fn an_arrow_that_points_up_is_found() {
        let core = package("portfire-core", json!([{ "name": "portfire-server", "kind": null }]));
        let server = package("portfire-server", json!([]));
        let metadata = json!({ "packages": [core, server] });
        let lines = found(|findings| layers(&metadata, findings));
        assert_eq!(lines, ["portfire-core: must not know `portfire-server`: arrows point down"]);
    }

    #[test]
    fn a_crate_for_tests_is_found_in_a_normal_dependency_and_allowed_in_a_test() {
        let cli = package(
            "portfire-cli",
            json!([{ "name": "tempfile", "kind": null }, { "name": "proptest", "kind": "dev" }]),
        );
        let lines = found(|findings| layers(&json!({ "packages": [cli] }), findings));
        assert_eq!(lines, ["portfire-cli: `tempfile` serves tests: make it a dev-dependency"]);
    }

    #[test]
    fn a_runtime_in_core_and_a_foreign_crate_are_found() {
        let core = package(
            "portfire-core",
            json!([
                { "name": "tokio", "kind": null, "features": ["sync", "rt"] },
                { "name": "left-pad", "kind": null }
            ]),
        );
        let lines = found(|findings| layers(&json!({ "packages": [core] }), findings));
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains("left-pad") && lines[1].contains("\"rt\""), "{lines:?}");
    }

    #[test]
    fn a_crate_without_a_layer_is_found() {
        let metadata = json!({ "packages": [package("portfire-new", json!([]))] });
        let lines = found(|findings| layers(&metadata, findings));
        assert!(lines[0].contains("has no layer"), "{lines:?}");
    }

    #[test]
    fn a_package_without_licence_or_description_is_found() {
        let metadata =
            json!({ "packages": [{ "name": "a", "license": null, "description": null }] });
        assert_eq!(found(|findings| packages(&metadata, findings)).len(), 2);
    }

    #[test]
    fn a_dependency_without_a_reason_is_found() {
        let manifest = "[workspace.dependencies]\na = \"1\"\nb = \"1\" # why\n# why\nc = \"1\"\n\
                        d = { path = \"d\" }\n[profile.dev]\nx = 1\n";
        let lines = found(|findings| reasons(manifest, findings));
        assert_eq!(lines, ["Cargo.toml:2: `a` has no reason: add `# why`"]);
    }

    #[test]
    fn a_member_with_a_version_of_its_own_is_found() {
        let member = Member { name: "m".to_owned(), path: String::new() };
        let manifest = "rust-version.workspace = true\n[lints]\nworkspace = true\n\
                        [dependencies]\na = \"1\"\nb.workspace = true\n";
        let lines = found(|findings| inherits(&member, manifest, findings));
        assert_eq!(lines, ["m: `a = \"1\"`: take the version from the workspace"]);
        let bare = found(|findings| inherits(&member, "", findings));
        assert_eq!(bare.len(), 2, "{bare:?}");
    }
}
