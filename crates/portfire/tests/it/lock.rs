//! `jobs.lock`: which changes of a job are found, and which are not.

use portfire::JobDescriptor;
use portfire::lock::{Incompatible, check_of, export, export_of};
use portfire_server::{Handler, HandlerDefaults, KindFilters, ParamShape};

/// Stands for the handler of every version of a program.
fn run(_: portfire_server::Invocation) -> portfire_server::HandlerResult {
    Ok(None)
}

const fn job(
    kind: &'static str,
    aliases: &'static [&'static str],
    version: u32,
    params: fn() -> Vec<ParamShape>,
) -> JobDescriptor {
    JobDescriptor {
        kind,
        aliases,
        version,
        queue: "default",
        defaults: HandlerDefaults::default,
        filters: KindFilters::default,
        params,
        needs: Vec::new,
        recurring: None,
        handler: Handler::Blocking(run),
        location: "lib.rs:1",
    }
}

const fn param(name: &'static str, ty: &'static str) -> ParamShape {
    ParamShape { name, aliases: &[], ty, optional: false }
}

const fn optional(name: &'static str, ty: &'static str) -> ParamShape {
    ParamShape { name, aliases: &[], ty, optional: true }
}

static OLD: JobDescriptor = job("send", &["post"], 1, || {
    vec![param("to", "&str"), param("count", "u32"), optional("cc", "Option<String>")]
});

fn breaks(new: &JobDescriptor) -> Vec<String> {
    match check_of(&export_of(&[&OLD]), &[new]) {
        Ok(()) | Err(Incompatible::OutOfDate(_)) => Vec::new(),
        Err(Incompatible::Breaking(breaks)) => breaks,
        Err(error) => panic!("{error}"),
    }
}

fn broken_by(params: fn() -> Vec<ParamShape>) -> Vec<String> {
    breaks(&job("send", &["post"], 1, params))
}

#[test]
fn the_file_is_sorted_and_says_one_thing_a_line() {
    let text = export_of(&[&OLD]);
    let expected = r#"{
  "format": 1,
  "kinds": {
    "send": {
      "version": 1,
      "aliases": [
        "post"
      ],
      "params": {
        "cc": {
          "type": "Option<String>",
          "optional": true
        },
        "count": {
          "type": "u32"
        },
        "to": {
          "type": "&str"
        }
      }
    }
  }
}
"#;
    assert_eq!(text, expected);
    assert_eq!(check_of(&text, &[&OLD]), Ok(()));
}

#[test]
fn what_stored_jobs_can_bear_is_no_break() {
    let wider: fn() -> Vec<ParamShape> = || {
        vec![
            param("count", "u64"),
            param("to", "String"),
            optional("cc", "Option<&str>"),
            optional("new", "Option<u8>"),
        ]
    };
    assert_eq!(broken_by(wider), [""; 0]);
    assert_eq!(
        broken_by(|| vec![param("to", "Cow<'static, str>"), param("count", "i64")]),
        [""; 0]
    );
    assert_eq!(
        broken_by(|| vec![optional("to", "Option<String>"), param("count", "i64")]),
        [""; 0]
    );
    let renamed: fn() -> Vec<ParamShape> = || {
        vec![ParamShape { aliases: &["to"], ..param("recipient", "String") }, param("count", "u32")]
    };
    assert_eq!(broken_by(renamed), [""; 0]);
    let moved = job("mail.send", &["send", "post"], 1, OLD.params);
    assert_eq!(breaks(&moved), [""; 0]);
    let migrated = job("send", &["post"], 2, || vec![param("everything", "Changed")]);
    assert_eq!(breaks(&migrated), [""; 0]);
}

#[test]
fn every_breaking_change_is_named_with_its_cure() {
    let one = |params| match &broken_by(params)[..] {
        [one] => one.clone(),
        other => panic!("{other:#?}"),
    };
    let gone = one(|| vec![param("to", "&str")]);
    assert!(
        gone.contains("`count: u32` is gone") && gone.contains("#[arg(alias = \"count\")]"),
        "{gone}"
    );
    let new = one(|| vec![param("to", "&str"), param("count", "u32"), param("lang", "&str")]);
    assert!(new.contains("`lang: &str` is new") && new.contains("`Option<String>`"), "{new}");
    let ty = one(|| vec![param("to", "Address"), param("count", "u32")]);
    assert!(ty.contains("`to` was `&str` and is `Address`"), "{ty}");
    let narrower = one(|| vec![param("to", "&str"), param("count", "u16")]);
    assert!(narrower.contains("`count` was `u32` and is `u16`"), "{narrower}");
    let needed =
        broken_by(|| vec![param("to", "&str"), param("count", "u32"), param("cc", "String")]);
    assert_eq!(needed.len(), 2, "{needed:#?}");
    assert!(needed[0].contains("`cc` must be there now"), "{needed:#?}");

    let no_alias = breaks(&job("send", &[], 1, OLD.params));
    assert!(no_alias[0].contains("`post` has no handler any more"), "{no_alias:#?}");
    let other = breaks(&job("other", &[], 1, OLD.params));
    assert!(other[0].contains("add `aliases(\"send\")`"), "{other:#?}");
    assert_eq!(other.len(), 2);
    let two = job("send", &["post"], 2, OLD.params);
    let back = check_of(&export_of(&[&two]), &[&OLD]).unwrap_err().to_string();
    assert!(back.contains("went back from version 2 to 1"), "{back}");
}

#[test]
fn a_file_that_lacks_what_is_new_is_out_of_date() {
    let new = job("brand_new", &[], 1, Vec::new);
    let error = check_of(&export_of(&[&OLD]), &[&OLD, &new]).unwrap_err();
    assert_eq!(error, Incompatible::OutOfDate(vec!["the kind `brand_new`".into()]));
    let grown = job("send", &["post", "dispatch"], 1, OLD.params);
    let error = check_of(&export_of(&[&OLD]), &[&grown]).unwrap_err();
    assert!(error.to_string().ends_with("does not know yet:\n- what changed in `send`"), "{error}");
}

#[test]
fn a_file_of_something_else_is_refused() {
    for text in ["", "{}", "[[package]]", r#"{"format":2,"kinds":{}}"#] {
        assert!(matches!(check_of(text, &[]), Err(Incompatible::Unreadable { .. })), "{text}");
    }
}

#[test]
fn all_linked_jobs_are_exported() {
    let text = export();
    assert!(text.contains("\"EmailService.send\"") && text.contains("\"mail.campaign\""));
    assert_eq!(portfire::lock::check(&text), Ok(()));
}

#[test]
fn the_assertion_reads_the_file_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap().to_owned();
    let told = |file: &str| {
        let (path, file) = (path.clone(), file.to_owned());
        let panic = std::panic::catch_unwind(|| portfire::lock::assert_file(&path, &file));
        *panic.unwrap_err().downcast::<String>().unwrap()
    };
    let missing = told("jobs.lock");
    assert!(
        missing.contains("cannot be read") && missing.contains("PORTFIRE_LOCK=update"),
        "{missing}"
    );
    let gone = export_of(&[&job("gone", &[], 1, Vec::new)]);
    std::fs::write(dir.path().join("jobs.lock"), gone).unwrap();
    let breaking = told("jobs.lock");
    assert!(breaking.contains("- `gone` has no handler any more"), "{breaking}");
    std::fs::write(dir.path().join("jobs.lock"), export()).unwrap();
    portfire::lock::assert_file(&path, "jobs.lock");
}
