//! What must have come of a folder of files, worked out from the files alone: the measure of the
//! torture.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::UNIX_EPOCH;

use anyhow::Context as _;
use portfire::sqlite::SqliteStorage;
use portfire::{JobFilter, JobState, Monitor, StateName};

use crate::files::Files;
use crate::mail::Letter;
use crate::model::Entry;
use crate::report::Totals;
use crate::{import, invoice, letters};

/// Most violations that are told of each sort.
const TOLD_MAX: usize = 5;

/// The results that the files ask for.
#[derive(Debug, Default)]
pub struct Expected {
    /// Jobs, of every kind.
    pub jobs: u64,
    /// E-mails by key, as the bytes of their file without the date.
    mails: BTreeMap<String, String>,
    /// Invoices by order, as the bytes of their file.
    invoices: BTreeMap<String, String>,
    /// Malformed rows and files, as `file:line`.
    malformed: BTreeSet<String>,
}

impl Expected {
    /// Reads the files of a folder.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read(data: &Path) -> anyhow::Result<Expected> {
        let mut expected = Expected::default();
        for path in import::files(data).with_context(|| data.display().to_string())? {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            expected.jobs += 1;
            match import::read(&path, &std::fs::read(&path)?) {
                Ok(records) => {
                    // The warehouse is told.
                    expected.jobs += 1;
                    for record in records {
                        expected.jobs += 1;
                        let place = format!("{file}:{}", record.line);
                        expected.row(place, Entry::read(&record.row))?;
                    }
                }
                Err(error) => _ = expected.malformed.insert(format!("{file}:{}", error.line)),
            }
        }
        Ok(expected)
    }

    fn row(&mut self, place: String, entry: Result<Entry, String>) -> anyhow::Result<()> {
        match entry {
            Err(_) => _ = self.malformed.insert(place),
            Ok(Entry::Customer(customer)) if customer.deleted_on.is_none() => {
                self.letter(&letters::welcome(&customer, UNIX_EPOCH))?;
                self.letter(&letters::coupon(&customer, UNIX_EPOCH))?;
            }
            Ok(Entry::Customer(_)) => {}
            Ok(Entry::Order(order)) => {
                let html = invoice::render(&order);
                self.jobs += 1;
                self.invoices.insert(order.order_id.clone(), html.clone());
                self.letter(&letters::invoice(&order, html, UNIX_EPOCH))?;
            }
        }
        Ok(())
    }

    fn letter(&mut self, letter: &Letter) -> anyhow::Result<()> {
        self.jobs += 1;
        self.mails.insert(letter.key.clone(), without_date(&letter.to_eml()?));
        Ok(())
    }

    /// Compares with what is there; tells what is wrong.
    ///
    /// # Errors
    /// When the results cannot be read.
    pub async fn compare(
        &self,
        out: &Path,
        db: &Path,
        totals: &Totals,
    ) -> anyhow::Result<Vec<String>> {
        let files = Files::open(out)?;
        let mut wrong = Vec::new();
        let mails = self.mails.iter().map(|(key, text)| (files.mail_file(key), text));
        compare_folder("e-mail", &files.mail(), mails.collect(), &mut wrong)?;
        let invoices = self.invoices.iter().map(|(id, html)| (files.invoice_file(id), html));
        compare_folder("invoice", &files.invoices(), invoices.collect(), &mut wrong)?;
        compare_folder("unfinished file", &files.passing(), BTreeMap::new(), &mut wrong)?;
        self.compare_totals(totals, &mut wrong);
        self.compare_jobs(&SqliteStorage::open(db).await?, &mut wrong).await?;
        Ok(wrong)
    }

    fn compare_totals(&self, totals: &Totals, wrong: &mut Vec<String>) {
        let malformed = self.malformed.len() as u64;
        let numbers = [
            ("created", totals.created, self.jobs),
            ("succeeded", totals.succeeded, self.jobs - malformed),
            ("failed", totals.failed, malformed),
            ("mails", totals.mails, self.mails.len() as u64),
            ("invoices", totals.invoices, self.invoices.len() as u64),
        ];
        for (name, found, expected) in numbers {
            if found != expected {
                wrong.push(format!("{name}: {found}, and the files ask for {expected}"));
            }
        }
    }

    /// No job is left, and the failed ones are the malformed rows.
    async fn compare_jobs(
        &self,
        storage: &SqliteStorage,
        wrong: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        let counts = storage.counts().await?;
        for state in StateName::ALL.into_iter().filter(|state| !state.is_final()) {
            if counts.of(state) > 0 {
                wrong.push(format!("{} jobs are left {state}", counts.of(state)));
            }
        }
        let mut places = BTreeSet::new();
        let mut filter = JobFilter::state(StateName::Failed);
        loop {
            let page = storage.jobs(filter.clone()).await?;
            for job in page.jobs {
                let JobState::Failed { error, .. } = job.state else { continue };
                let place: Vec<_> = error.message.splitn(3, ':').collect();
                match place[..] {
                    [file, line, _] => _ = places.insert(format!("{file}:{line}")),
                    _ => wrong.push(format!("job {} failed without a place: {error}", job.id)),
                }
            }
            match page.next {
                Some(next) => filter.after = Some(next),
                None => break,
            }
        }
        if places != self.malformed {
            wrong.push(format!("failed: {places:?}; malformed: {:?}", self.malformed));
        }
        Ok(())
    }
}

/// A folder must hold these files, with this content, and no other.
fn compare_folder(
    sort: &str,
    folder: &Path,
    expected: BTreeMap<std::path::PathBuf, &String>,
    wrong: &mut Vec<String>,
) -> anyhow::Result<()> {
    let mut found = BTreeSet::new();
    let mut told = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path)?;
        match expected.get(&path) {
            None => told.push(format!("{sort} that nobody asked for: {}", path.display())),
            Some(whole) if **whole != without_date(&text) => {
                told.push(format!("{sort} that is not whole: {}", path.display()));
            }
            Some(_) => {}
        }
        found.insert(path);
    }
    let missing = expected.keys().filter(|path| !found.contains(*path));
    told.extend(missing.map(|path| format!("{sort} that is missing: {}", path.display())));
    if told.len() > TOLD_MAX {
        let more = told.len() - TOLD_MAX;
        told.truncate(TOLD_MAX);
        told.push(format!("… and {more} more of {sort}"));
    }
    wrong.extend(told);
    Ok(())
}

/// The text without its date, which is that of the job and known to the job alone.
fn without_date(text: &str) -> String {
    let lines = text.split_inclusive('\n');
    lines.filter(|line| !line.starts_with("Date: ")).collect()
}
