//! What can go wrong in the shop itself. In a handler `?` makes a retried failure of it.

use std::path::{Path, PathBuf};

/// An operation of the shop that did not succeed; all but [`Conflict`](ShopError::Conflict) may
/// succeed later.
#[derive(Debug, thiserror::Error)]
pub enum ShopError {
    /// The shop's tables.
    #[error("the shop's database: {0}")]
    Db(#[from] rusqlite::Error),
    /// A row that this program did not write.
    #[error("the shop's database holds something that is not the shop's: {0}")]
    Damaged(String),
    /// A job could not be stored.
    #[error(transparent)]
    Client(#[from] portfire::ClientError),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// An e-mail could not be put together or was not taken.
    #[error("the e-mail `{key}`: {source}")]
    Mail {
        /// The e-mail.
        key: String,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The number of an order stands for something else already.
    #[error("order `{order_id}` is known already with another content")]
    Conflict {
        /// The number.
        order_id: String,
    },
}

impl ShopError {
    /// An error of the file system, with the path that the system leaves out.
    pub fn file(path: &Path) -> impl FnOnce(std::io::Error) -> ShopError + use<'_> {
        |source| ShopError::File { path: path.to_owned(), source }
    }

    /// An error of an e-mail.
    pub fn mail<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        key: &str,
    ) -> impl FnOnce(E) -> ShopError + use<'_, E> {
        |source| ShopError::Mail { key: key.to_owned(), source: source.into() }
    }
}
