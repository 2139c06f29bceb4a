//! Arguments that outlive a change of their handler: `version`, `migrate`, and what cannot be read.

use portfire::prelude::*;
use portfire_core::job_error::Steer;
use serde_json::Value;

use crate::stage::{descriptor, perform, perform_stored};

/// Version 1 had `name`, version 2 `first` and `last`, version 3 calls them `given` and `family`.
fn modernise(from: u32, mut args: Value) -> Result<Value, String> {
    if from < 2 {
        let name = args["name"].as_str().ok_or("no name")?.to_owned();
        let (first, last) = name.split_once(' ').ok_or("one word")?;
        args["first"] = first.into();
        args["last"] = last.into();
    }
    args["given"] = args["first"].take();
    args["family"] = args["last"].take();
    Ok(args)
}

#[job(version = 3, migrate = modernise)]
async fn greet(given: &str, family: &str) -> anyhow::Result<String> {
    Ok(format!("{given}+{family}"))
}

#[job(version = 2, migrate = start)]
fn plain(n: u8) -> Result<u8, JobError> {
    Ok(n)
}

/// Has a name that generated code could be tempted to use.
fn start(_: u32, _: Value) -> Value {
    serde_json::json!({ "n": 1 })
}

#[tokio::test]
async fn the_version_is_stored_with_the_arguments() {
    let call = greet("a", "b");
    assert_eq!(call.args().unwrap().as_str(), r#"{"$version":3,"given":"a","family":"b"}"#);
    assert_eq!(perform(call, Services::new()).await.unwrap().unwrap().as_str(), r#""a+b""#);
    assert_eq!(descriptor("greet").version, 3);
}

#[tokio::test]
async fn older_arguments_are_migrated_from_the_version_they_have() {
    let run = |json| perform_stored("greet", json, Services::new());
    assert_eq!(run(r#"{"name":"c d"}"#).await.unwrap().unwrap().as_str(), r#""c+d""#);
    let two = run(r#"{"first":"e","last":"f","$version":2}"#).await;
    assert_eq!(two.unwrap().unwrap().as_str(), r#""e+f""#);
    let plain = perform_stored("plain", "{}", Services::new()).await;
    assert_eq!(plain.unwrap().unwrap().as_str(), "1");
}

#[tokio::test]
async fn a_migration_that_refuses_fails_the_job_with_its_reason() {
    let error = perform_stored("greet", r#"{"name":"x"}"#, Services::new()).await.unwrap_err();
    assert_eq!(
        (error.steer(), error.record().class.as_str()),
        (&Steer::Permanent, "undecodable_args")
    );
    assert!(error.to_string().contains("from version 1 to 3: one word"), "{error}");
}

#[tokio::test]
async fn newer_arguments_wait_for_a_newer_program() {
    let error = perform_stored("greet", r#"{"$version":4}"#, Services::new()).await.unwrap_err();
    assert!(matches!(error.steer(), Steer::Elsewhere(_)), "{error:?}");
    assert_eq!(error.record().class, "newer_args");
}
