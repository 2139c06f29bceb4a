//! A service as a parameter type of its own: [`Inject`].

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A service that the server supplies; as a parameter's type it says so without `#[inject]`.
///
/// ```
/// use portfire::prelude::*;
///
/// struct Rates { eur: f64 }
///
/// #[job]
/// async fn price(amount: f64, rates: Inject<Rates>) -> Result<f64, JobError> {
///     Ok(amount * rates.eur)
/// }
/// # let _ = price(2.0);
/// ```
pub struct Inject<T: ?Sized>(pub Arc<T>);

impl<T: ?Sized> Deref for Inject<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> Clone for Inject<T> {
    fn clone(&self) -> Inject<T> {
        Inject(Arc::clone(&self.0))
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Inject<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}
