//! The small things of the facade: storages by URL, the global client.

use portfire::StorageError;
use portfire::prelude::*;

#[job]
fn noop() {}

#[tokio::test]
async fn a_url_opens_its_storage() {
    let memory = portfire::open("memory:").await.unwrap();
    assert_eq!(memory.info().name, "memory");
    Client::new(memory).enqueue(noop()).await.unwrap();
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_sqlite_url_opens_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("app.db");
    let url = format!("sqlite://{}", file.display());
    let id = {
        let client = Client::new(portfire::open(&url).await.unwrap());
        client.enqueue(noop()).await.unwrap()
    };
    assert!(file.exists());
    let again = Client::new(portfire::open(&url.replace("://", ":")).await.unwrap());
    assert!(again.job(id).await.unwrap().is_some());
}

#[tokio::test]
async fn a_url_of_no_storage_is_refused_without_showing_its_secrets() {
    for url in
        ["postgres://me:hush@db/app", "app.db", "memory:x", "sqlite:", "", "sqlite://a.db?key=hush"]
    {
        let error = portfire::open(url).await.unwrap_err();
        assert!(matches!(error, StorageError::Unsupported(_)), "{url}: {error}");
        let text = error.to_string();
        assert!(!text.contains("hush"), "{text}");
        assert!(text.contains("sqlite://"), "{text}");
    }
}

#[tokio::test]
async fn a_mistake_in_a_schedule_names_the_recurring_job() {
    let client = Client::new(portfire::open("memory:").await.unwrap());
    let refused = client.recurring("report", "0 25 * * *", noop()).upsert().await.unwrap_err();
    let expected = "recurring job: `report`: hour: `25` is out of range";
    assert!(refused.to_string().starts_with(expected), "{refused}");
}

/// The only test of the process's global client: the others have one of their thread.
#[tokio::test]
async fn the_global_client_is_set_once_for_all() {
    let missing = portfire::enqueue(noop()).await.unwrap_err();
    assert!(missing.to_string().contains("portfire::set_global"), "{missing}");
    let client = Client::new(portfire::open("memory:").await.unwrap());
    portfire::set_global(client.clone());
    let id = portfire::enqueue(noop()).await.unwrap();
    let minute = std::time::Duration::from_secs(60);
    let later = portfire::schedule(noop(), minute).await.unwrap();
    let thread = std::thread::spawn(move || portfire::blocking::enqueue(noop()));
    let other = thread.join().unwrap().unwrap();
    for id in [id, later, other] {
        assert!(client.job(id).await.unwrap().is_some());
    }
    assert!(portfire::blocking::schedule(noop(), minute).is_ok());
}
