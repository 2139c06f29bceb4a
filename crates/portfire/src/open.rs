//! Storages by URL: [`open`].

use std::sync::Arc;

use portfire_core::{MemoryStorage, Storage, StorageError};

/// Opens the storage that a URL names:
/// - `sqlite://app.db`, `sqlite:app.db`, `sqlite:///var/lib/app.db`: a file, created when it is missing;
/// - `memory:`: a fresh storage in this process, which forgets everything at its end.
///
/// A URL has no settings, and one with a `?` is refused: for them open the storage itself, as with
/// `portfire::sqlite::SqliteOptions`.
///
/// # Errors
/// [`StorageError::Unsupported`] for a URL that names no storage, or one that was not compiled in;
/// otherwise what opening the storage says.
pub async fn open(url: &str) -> Result<Arc<dyn Storage>, StorageError> {
    let (scheme, rest) = url.split_once(':').ok_or_else(|| unknown(url))?;
    match scheme {
        "memory" if matches!(rest, "" | "//") => Ok(Arc::new(MemoryStorage::new())),
        "sqlite" => open_sqlite(rest.strip_prefix("//").unwrap_or(rest)).await,
        _ => Err(unknown(url)),
    }
}

#[cfg(feature = "sqlite")]
async fn open_sqlite(path: &str) -> Result<Arc<dyn Storage>, StorageError> {
    if path.is_empty() {
        let message = "the URL `sqlite:` names no file: write `sqlite://app.db`, or `memory:` for a storage without one";
        return Err(StorageError::Unsupported(message.to_owned()));
    }
    // Paths of Windows may begin so.
    let shown = path.strip_prefix(r"\\?\").unwrap_or(path);
    if let Some((file, _)) = shown.split_once('?') {
        return Err(StorageError::Unsupported(format!(
            "`sqlite://{file}?…`: no settings are read from a URL: write `sqlite://{file}`, and open the storage by \
             `portfire::sqlite::SqliteOptions` for settings"
        )));
    }
    Ok(Arc::new(portfire_sqlite::SqliteStorage::open(path).await?))
}

#[cfg(not(feature = "sqlite"))]
async fn open_sqlite(_path: &str) -> Result<Arc<dyn Storage>, StorageError> {
    let message = "`sqlite:` needs the feature `sqlite` of the crate `portfire`";
    Err(StorageError::Unsupported(message.to_owned()))
}

fn unknown(url: &str) -> StorageError {
    // A URL of some other storage may hold a password: only what stands before the colon is shown.
    let scheme = url.split(':').next().unwrap_or_default();
    StorageError::Unsupported(format!(
        "`{scheme}` is not a storage this program knows: expected `sqlite://PATH` or `memory:`"
    ))
}
