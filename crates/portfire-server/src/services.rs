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
        self.entries.contains_key(&need.type_id) || self.entries.contains_key(&need.shared_id)
    }

    /// The services of one job.
    pub fn scope(&self) -> Scope {
        Arc::new(self.clone()).into_scope()
    }

    /// The services of one job, without copying the table.
    pub fn into_scope(self: Arc<Self>) -> Scope {
        let made = Mutex::default();
        Scope { inner: Arc::new(ScopeInner { services: self, made }), making: None }
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
    inner: Arc<ScopeInner>,
    /// What is being made around this scope, the innermost first; empty outside of factories.
    making: Option<Arc<Making>>,
}

struct ScopeInner {
    services: Arc<Services>,
    made: Mutex<HashMap<TypeId, Shared>>,
}

struct Making {
    of: TypeId,
    name: &'static str,
    within: Option<Arc<Making>>,
}

impl Scope {
    /// The service of this type.
    ///
    /// # Errors
    /// [`ServiceError`] when there is none, its factory refused, or factories need each other in a
    /// circle.
    pub fn get<T: Send + Sync + 'static>(&self) -> Result<Arc<T>, ServiceError> {
        let name = std::any::type_name::<T>();
        let missing = || {
            ServiceError::new(format!(
                "no service `{name}`: add it with `Services::with` or `with_factory`"
            ))
        };
        if let Some(service) = self.find::<T>() {
            return service;
        }
        // What was added as an `Arc<T>` is known as `T` too.
        let shared = self.find::<Arc<T>>().ok_or_else(missing)?;
        shared.map(|shared| Arc::clone(&*shared))
    }

    fn find<T: Send + Sync + 'static>(&self) -> Option<Result<Arc<T>, ServiceError>> {
        let of = TypeId::of::<T>();
        let shared = match self.inner.services.entries.get(&of)? {
            Entry::Shared(shared) => Ok(Arc::clone(shared)),
            Entry::Made(make) => self.made_once(of, std::any::type_name::<T>(), make),
        };
        // An entry under this id is of this type.
        shared.map(|shared| shared.downcast::<T>().ok()).transpose()
    }

    fn made_once(
        &self,
        of: TypeId,
        name: &'static str,
        make: &Factory,
    ) -> Result<Shared, ServiceError> {
        let made = || self.inner.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(service) = made().get(&of) {
            return Ok(Arc::clone(service));
        }
        // Not under the lock: a factory may ask for other services of the scope.
        let service = make(&self.within(of, name)?)?;
        // When two threads of one job made it at once, the first one counts for both.
        Ok(Arc::clone(made().entry(of).or_insert(service)))
    }

    /// The scope that the factory of a service sees.
    fn within(&self, of: TypeId, name: &'static str) -> Result<Scope, ServiceError> {
        let mut outer = self.making.as_ref();
        while let Some(making) = outer {
            if making.of == of {
                let last = self.making.as_ref().map_or(name, |making| making.name);
                let reason = format!("the factories of `{name}` and `{last}` need each other");
                return Err(ServiceError::new(reason));
            }
            outer = making.within.as_ref();
        }
        let making = Some(Arc::new(Making { of, name, within: self.making.clone() }));
        Ok(Scope { inner: Arc::clone(&self.inner), making })
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scope of {:?}", self.inner.services)
    }
}

/// A type that is put together from services. Derived by `#[derive(FromServices)]`: each field is a
/// service, `Arc<T>` for the shared one, else a clone of it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be made from services",
    note = "put `#[derive(FromServices)]` on it, where each field is a service, or implement the trait by hand"
)]
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
    /// Of the same behind an `Arc`.
    shared_id: TypeId,
    name: &'static str,
}

impl Need {
    /// The need of a service of this type.
    pub fn of<T: 'static>() -> Need {
        let (type_id, shared_id) = (TypeId::of::<T>(), TypeId::of::<Arc<T>>());
        Need { type_id, shared_id, name: std::any::type_name::<T>() }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Left;
    struct Right;

    #[test]
    fn a_factory_runs_once_in_a_scope() {
        let made = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&made);
        let services =
            Services::new().with_factory(move |_| Ok(count.fetch_add(1, Ordering::Relaxed)));
        let scope = services.scope();
        assert_eq!(*scope.get::<u32>().unwrap(), *scope.get::<u32>().unwrap());
        assert_eq!(*services.scope().get::<u32>().unwrap(), 1);
        assert_eq!(made.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn factories_that_need_each_other_are_refused_by_name() {
        let services = Services::new()
            .with_factory(|scope| scope.get::<Right>().map(|_| Left))
            .with_factory(|scope| scope.get::<Left>().map(|_| Right));
        let refusal = services.scope().get::<Left>().err().unwrap().to_string();
        assert!(refusal.contains("Left") && refusal.contains("Right"), "{refusal}");
    }

    #[test]
    fn an_arc_is_known_as_what_it_holds() {
        let services = Services::new().with(Arc::new(7u8)).with_factory(|_| Ok(Arc::new(8u16)));
        let scope = services.scope();
        assert_eq!((*scope.get::<u8>().unwrap(), *scope.get::<u16>().unwrap()), (7, 8));
        assert_eq!(**scope.get::<Arc<u8>>().unwrap(), 7);
        assert!(services.has(&Need::of::<u8>()) && services.has(&Need::of::<Arc<u16>>()));
        assert!(!services.has(&Need::of::<u32>()));
    }

    #[test]
    fn a_missing_service_is_named() {
        let refusal = Services::new().scope().get::<Left>().err().unwrap().to_string();
        assert!(refusal.contains("Left") && refusal.contains("with_factory"), "{refusal}");
    }
}
