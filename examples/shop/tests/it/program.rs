//! The program as scripts call it, on the committed data.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::stage::names;

fn shop(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shop"));
    command.arg("--db").arg(folder.join("shop.db")).arg("--out").arg(folder.join("out"));
    command
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data")
}

fn run(folder: &Path) -> Value {
    let output = shop(folder).args(["run", "--json", "--data"]).arg(data()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_sample_data_is_imported_as_its_readme_says() {
    let folder = tempfile::tempdir().unwrap();
    let report = run(folder.path());
    let number = |key: &str| report[key].as_u64().unwrap();
    assert_eq!((number("failed"), number("mails"), number("invoices")), (18, 3_685, 1_231));
    assert_eq!(number("created"), number("succeeded") + number("failed"));
    assert_eq!((number("retried"), number("recovered")), (6, 0));
    assert_eq!(names(&folder.path().join("out/mail")).len(), 3_685);
    assert_eq!(names(&folder.path().join("out/invoices")).len(), 1_231);
    assert!(report["seconds"].as_f64().unwrap() > 0.0);

    let again = run(folder.path());
    for key in ["created", "succeeded", "failed", "retried", "recovered", "mails", "invoices"] {
        assert_eq!(again[key], 0, "{key}");
    }
}

#[test]
fn a_folder_that_is_not_there_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let output = shop(folder.path()).args(["run", "--data", "no-such-folder"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("no-such-folder"), "{told}");
    assert!(output.stdout.is_empty());
}
