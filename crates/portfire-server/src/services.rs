//! The services that handlers ask for: [`Services`], a scope for each job, and [`FromServices`]
//! (Hangfire's job activator).

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

type Shared = Arc<dyn Any + Send + Sync>;
type Factory = Arc<dyn Fn(&Scope) -> Result<Shared, ServiceError> + Send + Sync>;

/// The services of a server: values that all jobs share, and factories that make one for each job.
///
/// ```
/// use portfire_server::Services;
/// struct Db;
/// let services = Services::new().with(Db).with_factory(|_| Ok(String::from("made for this job")));
/// assert!(services.scope().get::<Db>().is_ok());
/// ```
#[derive(Clone, Default)]
pub struct Services {
    entries: HashMap<TypeId, Entry>,
}

#[derive(Clone)]
enum Entry {
    Shared(Shared),
    Made(Factory),
}

impl Services {
    /// No services.
    pub fn new() -> Services {
        Services::default()
    }

    /// Adds a value that all jobs share. An `Arc<T>` is known as `T`. The last one of a type wins.
    #[must_use]
    pub fn with<T: Send + Sync + 'static>(mut self, service: T) -> Services {
        self.entries.insert(TypeId::of::<T>(), Entry::Shared(Arc::new(service)));
        self
    }

    /// Adds a value that is shared already, under its inner type.
    #[must_use]
    pub fn with_arc<T: Send + Sync + 'static>(mut self, service: Arc<T>) -> Services {
        self.entries.insert(TypeId::of::<T>(), Entry::Shared(service));
        self
    }

    /// Adds a factory that makes the value once in each job that asks for it; it is dropped when the
    /// job has ended.
    #[must_use]
    pub fn with_factory<T: Send + Sync + 'static>(
        mut self,
        make: impl Fn(&Scope) -> Result<T, ServiceError> + Send + Sync + 'static,
    ) -> Services {
        let make: Factory = Arc::new(move |scope| Ok(Arc::new(make(scope)?) as Shared));
        self.entries.insert(TypeId::of::<T>(), Entry::Made(make));
        self
    }

    /// Whether a need can be met.
    pub fn has(&self, need: &Need) -> bool {
        self.entries.contains_key(&need.type_id)
    }

    /// The services of one job.
    pub fn scope(&self) -> Scope {
        Arc::new(self.clone()).into_scope()
    }

    /// The services of one job, without copying the table.
    pub fn into_scope(self: Arc<Self>) -> Scope {
        Scope { services: self, made: Arc::default() }
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Services({})", self.entries.len())
    }
}

/// The services of one job. What its factories make lives until the scope is dropped.
#[derive(Clone)]
pub struct Scope {
    services: Arc<Services>,
    made: Arc<Mutex<HashMap<TypeId, Shared>>>,
}

impl Scope {
    /// The service of this type.
    ///
    /// # Errors
    /// [`ServiceError`] when there is none, or its factory refused.
    pub fn get<T: Send + Sync + 'static>(&self) -> Result<Arc<T>, ServiceError> {
        let missing = || ServiceError::new(format!("no service `{}`", std::any::type_name::<T>()));
        let shared = match self.services.entries.get(&TypeId::of::<T>()).ok_or_else(missing)? {
            Entry::Shared(shared) => Arc::clone(shared),
            Entry::Made(make) => self.made_once(TypeId::of::<T>(), make)?,
        };
        shared.downcast::<T>().map_err(|_| missing())
    }

    fn made_once(&self, of: TypeId, make: &Factory) -> Result<Shared, ServiceError> {
        let made = || self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(service) = made().get(&of) {
            return Ok(Arc::clone(service));
        }
        // Not under the lock: a factory may ask for other services of the scope.
        let service = make(self)?;
        made().insert(of, Arc::clone(&service));
        Ok(service)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scope of {:?}", self.services)
    }
}

/// A type that is put together from services. Derived by `#[derive(FromServices)]`: each field is a
/// service, `Arc<T>` for the shared one, else a clone of it.
pub trait FromServices: Sized {
    /// Makes one for a job.
    ///
    /// # Errors
    /// [`ServiceError`] when a service it needs is missing.
    fn resolve(scope: &Scope) -> Result<Self, ServiceError>;

    /// The services it needs.
    fn needs() -> Vec<Need>;
}

/// A service that somebody needs, checked before a server starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    type_id: TypeId,
    name: &'static str,
}

impl Need {
    /// The need of a service of this type.
    pub fn of<T: 'static>() -> Need {
        Need { type_id: TypeId::of::<T>(), name: std::any::type_name::<T>() }
    }

    /// The type's name.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

/// A service that could not be had. The attempt fails and is retried by the job's policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ServiceError {
    reason: String,
}

impl ServiceError {
    /// An error with this reason.
    pub fn new(reason: impl Into<String>) -> ServiceError {
        ServiceError { reason: reason.into() }
    }
}
