//! The model of a disk under a page cache: what a power loss may leave of files, by what was written and synced.
//!
//! # What is modelled
//! - A write is in the cache from its end on, and visible to every process. Nothing is on the disk for sure before
//!   a sync of its file has succeeded that began after the write's end.
//! - The unit of the cache is a page of 4 KiB. Of a page that is not synced the disk may hold any state that it has
//!   had in the cache since its last sync, and of two such states each sector of 512 bytes its own (a torn page).
//!   A write never damages the sectors beside it.
//! - The length of a file changes in order. A file never shows bytes from before it was cut.
//! - A sync that fails leaves the pages clean: they may be on the disk or not, and no later sync writes them, until
//!   someone writes to that page again. So it is on ext4 and XFS. A later sync of the file tells of no error.
//! - A new name, the removal of one and a rename are on the disk for sure when the directory was synced, and before
//!   that in their order. This is more than POSIX promises, and less than a file system with a journal does: there a
//!   sync of the new file itself is enough.
//!
//! # What is not modelled
//! Disks that lie about syncs, sectors that rot, file systems that bring back old contents in the cache after an
//! error (Btrfs), and memory maps: SQLite's shared memory is left out of the images, as it is made anew after a crash.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::power::record::{Event, FileId};

/// Bytes of a page in the cache.
const PAGE: usize = 4096;

/// Bytes that a disk writes whole.
const SECTOR: usize = 512;

/// The files with all that may be on the disk of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    files: BTreeMap<FileId, File>,
    names: BTreeMap<String, FileId>,
    /// Changes of names that are not on the disk for sure, in their order, each with its instant.
    renames: Vec<(usize, Rename)>,
}

#[derive(Clone, Debug)]
enum Rename {
    Put(String, FileId),
    Take(String),
}

#[derive(Clone, Debug, Default)]
struct File {
    pages: Vec<Page>,
    /// The length on the disk, and those that came later, each with its instant.
    length: u64,
    lengths: Vec<(usize, u64)>,
}

#[derive(Clone, Debug)]
struct Page {
    /// What is on the disk for sure.
    durable: Box<[u8; PAGE]>,
    /// What came later, in its order.
    changes: Vec<Change>,
    /// Changes before this instant met a sync that failed: they are no reason to write the page.
    clean_before: usize,
}

#[derive(Clone, Debug)]
struct Change {
    at: usize,
    offset: usize,
    /// The bytes; of a cut, zeros up to the end of the page.
    bytes: Box<[u8]>,
    is_cut: bool,
}

/// What of the unsynced a power loss leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Keep {
    /// Nothing.
    Nothing,
    /// Everything.
    Everything,
    /// All of one file and nothing of the others.
    Only(FileId),
    /// Of each page any state that it has had, or two of them in sectors; by this seed.
    Random(u64),
}

/// Files as they are after a power loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
}

impl Image {
    /// A number that differs when the files do.
    pub(crate) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.files.hash(&mut hasher);
        hasher.finish()
    }
}

impl Disk {
    /// Goes on by an event, which is the `at`th.
    pub(crate) fn apply(&mut self, at: usize, event: &Event) {
        match event {
            Event::Create { name, file } => {
                self.files.entry(*file).or_default();
                self.renames.push((at, Rename::Put(name.clone(), *file)));
            }
            Event::Remove { name } => self.renames.push((at, Rename::Take(name.clone()))),
            Event::Rename { from, to, file } => {
                // One step of the directory, so both have the same instant.
                self.renames.push((at, Rename::Put(to.clone(), *file)));
                self.renames.push((at, Rename::Take(from.clone())));
            }
            Event::Write { file, offset, bytes } => {
                self.files.entry(*file).or_default().write(at, *offset, bytes);
            }
            Event::Resize { file, length } => {
                self.files.entry(*file).or_default().resize(at, *length);
            }
            Event::Sync { file, since, good: true } => {
                self.files.entry(*file).or_default().synced(*since);
            }
            Event::Sync { file, since, good: false } => {
                self.files.entry(*file).or_default().sync_failed(*since);
            }
            Event::SyncDirectory { since, good: true } => {
                let done = self.renames.partition_point(|(at, _)| at < since);
                for (_, rename) in self.renames.drain(..done) {
                    rename.apply(&mut self.names);
                }
            }
            Event::SyncDirectory { good: false, .. } | Event::Tell(_) => {}
        }
    }

    /// The files that a power loss may have changed: with something that is not on the disk for sure.
    pub(crate) fn unsynced(&self) -> Vec<FileId> {
        let is_open = |file: &File| {
            !file.lengths.is_empty() || file.pages.iter().any(|page| !page.changes.is_empty())
        };
        self.files.iter().filter(|(_, file)| is_open(file)).map(|(id, _)| *id).collect()
    }

    /// Whether names have changed that may not be on the disk.
    pub(crate) fn has_new_names(&self) -> bool {
        !self.renames.is_empty()
    }

    /// The files after a power loss.
    pub(crate) fn image(&self, keep: Keep) -> Image {
        let mut dice = Dice(match keep {
            Keep::Random(seed) => seed,
            _ => 0,
        });
        let renames = match keep {
            Keep::Nothing => 0,
            Keep::Everything | Keep::Only(_) => self.renames.len(),
            Keep::Random(_) => {
                let kept = dice.of(self.renames.len() + 1);
                // A rename is there as a whole or not at all.
                let cut = |at: usize| self.renames[at - 1].0 == self.renames[at].0;
                if kept > 0 && kept < self.renames.len() && cut(kept) { kept + 1 } else { kept }
            }
        };
        let mut names = self.names.clone();
        self.renames[..renames].iter().for_each(|(_, rename)| rename.clone().apply(&mut names));
        let files = names.into_iter().map(|(name, id)| {
            let file = &self.files[&id];
            let bytes = match keep {
                Keep::Nothing => file.after(&mut |_| Choice::Oldest, 0),
                Keep::Everything => file.after(&mut |_| Choice::Newest, file.lengths.len()),
                Keep::Only(kept) if kept == id => {
                    file.after(&mut |_| Choice::Newest, file.lengths.len())
                }
                Keep::Only(_) => file.after(&mut |_| Choice::Oldest, 0),
                Keep::Random(_) => {
                    // As often as not the length is the last: else most of what was written lies behind the end.
                    let lengths = match dice.of(2) {
                        0 => file.lengths.len(),
                        _ => dice.of(file.lengths.len() + 1),
                    };
                    file.after(&mut |states| dice.choice(states), lengths)
                }
            };
            (name, bytes)
        });
        Image { files: files.collect() }
    }
}

impl Rename {
    fn apply(self, names: &mut BTreeMap<String, FileId>) {
        match self {
            Rename::Put(name, file) => drop(names.insert(name, file)),
            Rename::Take(name) => drop(names.remove(&name)),
        }
    }
}

/// Which of the states of a page are on the disk.
enum Choice {
    Oldest,
    Newest,
    /// The one with so many changes.
    One(usize),
    /// Of each sector one of the two, as the bits say.
    Torn(usize, usize, u64),
}

impl File {
    fn cached_length(&self) -> u64 {
        self.lengths.last().map_or(self.length, |(_, length)| *length)
    }

    fn write(&mut self, at: usize, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        if end > self.cached_length() {
            self.lengths.push((at, end));
        }
        let mut offset = offset as usize;
        let mut bytes = bytes;
        while !bytes.is_empty() {
            let within = offset % PAGE;
            let (now, later) = bytes.split_at(bytes.len().min(PAGE - within));
            let change = Change { at, offset: within, bytes: now.into(), is_cut: false };
            self.page(offset / PAGE).changes.push(change);
            offset += now.len();
            bytes = later;
        }
    }

    fn page(&mut self, number: usize) -> &mut Page {
        while self.pages.len() <= number {
            let durable = Box::new([0; PAGE]);
            self.pages.push(Page { durable, changes: Vec::new(), clean_before: 0 });
        }
        &mut self.pages[number]
    }

    fn resize(&mut self, at: usize, length: u64) {
        if length == self.cached_length() {
            return;
        }
        let first = length as usize / PAGE;
        for (number, page) in self.pages.iter_mut().enumerate().skip(first) {
            let offset = if number == first { length as usize % PAGE } else { 0 };
            let bytes = vec![0; PAGE - offset].into();
            page.changes.push(Change { at, offset, bytes, is_cut: true });
        }
        self.lengths.push((at, length));
    }

    /// Whatever ended before `since` is on the disk, but for pages that a failed sync has left clean.
    fn synced(&mut self, since: usize) {
        let lengths = self.lengths.partition_point(|(at, _)| *at < since);
        if let Some((_, length)) = self.lengths.drain(..lengths).next_back() {
            self.length = length;
        }
        for page in &mut self.pages {
            let done = page.changes.partition_point(|change| change.at < since);
            let is_dirty = page.changes[..done].iter().any(|change| change.at >= page.clean_before);
            // That a page was cut is part of the file's length.
            let cut = page.changes[..done].iter().rposition(|change| change.is_cut);
            let done = if is_dirty { done } else { cut.map_or(0, |cut| cut + 1) };
            if done > 0 {
                page.durable = page.state(done);
                page.changes.drain(..done);
            }
        }
    }

    fn sync_failed(&mut self, since: usize) {
        for page in &mut self.pages {
            page.clean_before = page.clean_before.max(since);
        }
    }

    /// The bytes after a power loss that leaves so many changes of the length, and of each page what is chosen among
    /// its states.
    fn after(&self, choose: &mut dyn FnMut(usize) -> Choice, lengths: usize) -> Vec<u8> {
        let length = match lengths {
            0 => self.length,
            some => self.lengths[some - 1].1,
        } as usize;
        // Cuts before this instant are on the disk, and none after it.
        let cut_before = self.lengths.get(lengths).map_or(usize::MAX, |(at, _)| *at);
        let mut bytes = vec![0; length];
        for (page, into) in self.pages.iter().zip(bytes.chunks_mut(PAGE)) {
            let cuts = |change: &Change| change.is_cut && change.at < cut_before;
            let least = page.changes.iter().rposition(cuts).map_or(0, |cut| cut + 1);
            let is_later = |change: &Change| change.is_cut && change.at >= cut_before;
            let most = page.changes.iter().position(is_later).unwrap_or(page.changes.len());
            let most = most.max(least);
            let state = |number: usize| page.state(least + number);
            let chosen = match choose(most - least + 1) {
                Choice::Oldest => state(0),
                Choice::Newest => state(most - least),
                Choice::One(number) => state(number),
                Choice::Torn(one, other, bits) => {
                    let (mut one, other) = (state(one), state(other));
                    let sectors = one.chunks_mut(SECTOR).zip(other.chunks(SECTOR)).enumerate();
                    for (number, (into, from)) in sectors {
                        if bits >> number & 1 == 1 {
                            into.copy_from_slice(from);
                        }
                    }
                    one
                }
            };
            into.copy_from_slice(&chosen[..into.len()]);
        }
        bytes
    }
}

impl Page {
    /// The page with so many of its changes.
    fn state(&self, changes: usize) -> Box<[u8; PAGE]> {
        let mut state = self.durable.clone();
        for Change { offset, bytes, .. } in &self.changes[..changes] {
            state[*offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        state
    }
}

/// Chance that can be repeated: `SplitMix64`.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    pub(crate) fn of(&mut self, count: usize) -> usize {
        (self.roll() % count as u64) as usize
    }

    fn choice(&mut self, states: usize) -> Choice {
        if states == 1 {
            return Choice::Oldest;
        }
        match self.of(4) {
            0 => Choice::Oldest,
            1 => Choice::Newest,
            2 => Choice::One(self.of(states)),
            _ => Choice::Torn(self.of(states), self.of(states), self.roll()),
        }
    }
}

#[cfg(test)]
mod tests;
