//! The recurring jobs that code declares: [`Declared`], stored when a server starts.

use std::collections::BTreeMap;

use portfire_core::{
    Limits, NewRecurring, RecurringChange, RecurringChanged, RecurringId, StorageError,
};

use crate::core::Core;
use crate::meters::Call;
use crate::problem::{Problem, StartError};
use crate::registry::Registry;

/// Longest name of an application, in bytes.
const APP_BYTES_MAX: usize = 128;

/// What the handlers of a server declare, under the name of its application.
#[derive(Clone, Debug, Default)]
pub(crate) struct Declared {
    /// None for a server that does not say: it stores what is declared and removes nothing, because it
    /// cannot know what else is its own.
    app: Option<String>,
    definitions: Vec<NewRecurring>,
    /// Where each is declared.
    locations: BTreeMap<RecurringId, &'static str>,
}

impl Declared {
    /// What these handlers declare, and what is wrong with it.
    pub(crate) fn collect(
        registry: &Registry,
        app: Option<&str>,
        limits: &Limits,
        problems: &mut Vec<Problem>,
    ) -> Declared {
        if app.is_some_and(|app| app.is_empty() || app.len() > APP_BYTES_MAX) {
            let reason = format!("the name of an application has 1 to {APP_BYTES_MAX} bytes");
            problems.push(Problem::BadSetting { name: "app", reason });
        }
        let mut declared = Declared { app: app.map(str::to_owned), ..Declared::default() };
        for job in registry.iter().map(|entry| entry.descriptor) {
            let Some(make) = job.recurring else { continue };
            let mut definition = make();
            definition.app = app.unwrap_or_default().to_owned();
            definition.declared = true;
            if let Err(mistake) = definition.validate(limits) {
                let (recurring, location) = (definition.id.to_string(), job.location);
                let reason = mistake.to_string();
                problems.push(Problem::BadRecurring { recurring, location, reason });
                continue;
            }
            if let Some(first) = declared.locations.insert(definition.id.clone(), job.location) {
                let recurring = definition.id.to_string();
                let reason = format!("it is declared at {first} too");
                problems.push(Problem::BadRecurring { recurring, location: job.location, reason });
            }
            declared.definitions.push(definition);
        }
        declared
    }

    /// Stores it, and removes what the application declared once and does not any more.
    pub(crate) async fn store(self, core: &Core) -> Result<(), StartError> {
        let mut problems = Vec::new();
        let keep: Vec<RecurringId> = self.definitions.iter().map(|new| new.id.clone()).collect();
        for definition in self.definitions {
            let id = definition.id.clone();
            let changed = change(core, RecurringChange::Upsert(Box::new(definition))).await?;
            if let RecurringChanged::Owned { app } = changed {
                let location = self.locations.get(&id).copied().unwrap_or_default();
                problems.push(Problem::BadRecurring {
                    recurring: id.to_string(),
                    location,
                    reason: owned(&app),
                });
            }
        }
        if !problems.is_empty() {
            return Err(StartError::Invalid(problems));
        }
        if let Some(app) = self.app {
            let pruned = change(core, RecurringChange::Prune { app: app.clone(), keep }).await?;
            if let RecurringChanged::Pruned(count @ 1..) = pruned {
                tracing::info!(
                    app,
                    count,
                    "recurring jobs that the code declares no more were removed"
                );
            }
        }
        Ok(())
    }
}

async fn change(core: &Core, change: RecurringChange) -> Result<RecurringChanged, StorageError> {
    core.ask(Call::ChangeRecurring, core.storage.change_recurring(change)).await
}

fn owned(app: &str) -> String {
    let owner = match app {
        "" => "a server or a client without a name".to_owned(),
        app => format!("application `{app}`"),
    };
    format!(
        "it belongs to {owner}: give it another name, say `.app(..)` of the owner, or remove it first"
    )
}
