//! What a power loss may leave, case by case.

use super::*;

const A: FileId = FileId(0);
const B: FileId = FileId(1);

/// A disk with two files, whose names are synced.
struct Bench {
    disk: Disk,
    at: usize,
}

impl Bench {
    fn new() -> Bench {
        let mut bench = Bench { disk: Disk::default(), at: 0 };
        bench.go(Event::Create { name: "a".to_owned(), file: A });
        bench.go(Event::Create { name: "b".to_owned(), file: B });
        bench.go(Event::SyncDirectory { since: 2, good: true });
        bench
    }

    fn go(&mut self, event: Event) {
        self.disk.apply(self.at, &event);
        self.at += 1;
    }

    fn write(&mut self, file: FileId, offset: u64, text: &str) {
        self.go(Event::Write { file, offset, bytes: text.into() });
    }

    fn resize(&mut self, file: FileId, length: u64) {
        self.go(Event::Resize { file, length });
    }

    fn sync(&mut self, file: FileId, good: bool) {
        self.go(Event::Sync { file, since: self.at, good });
    }

    fn file(&self, name: &str, keep: Keep) -> Option<String> {
        let image = self.disk.image(keep);
        image.files.get(name).map(|bytes| String::from_utf8(bytes.clone()).unwrap())
    }

    fn nothing(&self, name: &str) -> String {
        self.file(name, Keep::Nothing).unwrap()
    }

    fn everything(&self, name: &str) -> String {
        self.file(name, Keep::Everything).unwrap()
    }

    /// All that random images show of a file.
    fn random(&self, name: &str) -> std::collections::BTreeSet<String> {
        (0..2_000).filter_map(|seed| self.file(name, Keep::Random(seed))).collect()
    }
}

#[test]
fn what_is_not_synced_may_be_lost() {
    let mut bench = Bench::new();
    bench.write(A, 0, "one");
    assert_eq!((bench.nothing("a"), bench.everything("a")), (String::new(), "one".to_owned()));
    bench.sync(A, true);
    assert_eq!(bench.nothing("a"), "one");
    bench.write(A, 1, "xyz");
    assert_eq!((bench.nothing("a"), bench.everything("a")), ("one".to_owned(), "oxyz".to_owned()));
    assert_eq!(bench.disk.unsynced(), [A]);
}

#[test]
fn a_sync_covers_what_had_ended_when_it_began() {
    let mut bench = Bench::new();
    bench.write(A, 0, "one");
    let since = bench.at;
    bench.write(A, 0, "two");
    bench.go(Event::Sync { file: A, since, good: true });
    assert_eq!((bench.nothing("a"), bench.everything("a")), ("one".to_owned(), "two".to_owned()));
}

#[test]
fn a_sync_is_of_one_file() {
    let mut bench = Bench::new();
    bench.write(A, 0, "one");
    bench.write(B, 0, "two");
    bench.sync(B, true);
    assert_eq!((bench.nothing("a"), bench.nothing("b")), (String::new(), "two".to_owned()));
    bench.write(B, 0, "new");
    let only_a = (bench.file("a", Keep::Only(A)), bench.file("b", Keep::Only(A)));
    assert_eq!(only_a, (Some("one".to_owned()), Some("two".to_owned())));
}

#[test]
fn after_a_sync_that_failed_a_good_one_does_not_write_the_pages() {
    let mut bench = Bench::new();
    bench.write(A, 0, "old");
    bench.sync(A, true);
    bench.write(A, 0, "new");
    bench.sync(A, false);
    bench.sync(A, true);
    assert_eq!((bench.nothing("a"), bench.everything("a")), ("old".to_owned(), "new".to_owned()));
    // It may be there or not.
    assert_eq!(bench.random("a"), ["new".to_owned(), "old".to_owned()].into());
}

#[test]
fn a_page_that_is_written_again_after_a_sync_that_failed_is_written_whole() {
    let mut bench = Bench::new();
    let other_page = PAGE as u64;
    bench.write(A, 0, "one");
    bench.write(A, other_page, "two");
    bench.sync(A, false);
    bench.write(A, 3, "!");
    bench.sync(A, true);
    let kept = bench.nothing("a");
    assert_eq!(&kept[..4], "one!");
    assert_eq!(&kept[PAGE..], "\0\0\0", "the other page is clean");
    assert_eq!(&bench.everything("a")[PAGE..], "two");
}

#[test]
fn a_write_during_a_sync_that_fails_is_still_to_be_written() {
    let mut bench = Bench::new();
    let since = bench.at;
    bench.write(A, 0, "one");
    bench.go(Event::Sync { file: A, since, good: false });
    bench.sync(A, true);
    assert_eq!(bench.nothing("a"), "one");
}

#[test]
fn each_page_goes_its_own_way_and_may_be_torn() {
    let mut bench = Bench::new();
    let pages = |letter: char| String::from(letter).repeat(2 * PAGE);
    bench.write(A, 0, &pages('a'));
    bench.sync(A, true);
    bench.write(A, 0, &pages('b'));
    bench.write(A, 0, &pages('c'));
    let seen = bench.random("a");
    let of = |text: &str| {
        let letters = |part: &str| part.chars().collect::<std::collections::BTreeSet<_>>();
        (letters(&text[..PAGE]), letters(&text[PAGE..]))
    };
    let seen: std::collections::BTreeSet<_> = seen.iter().map(|text| of(text)).collect();
    assert!(seen.contains(&(['a'].into(), ['b'].into())), "two states side by side");
    assert!(seen.iter().any(|(one, _)| *one == ['a', 'c'].into()), "a torn page");
    // Sectors are whole.
    let torn = bench.random("a").into_iter().find(|text| of(text).0.len() == 2).unwrap();
    for sector in torn.as_bytes().chunks(SECTOR) {
        assert!(sector.iter().all(|byte| *byte == sector[0]));
    }
}

#[test]
fn the_length_changes_in_order_and_nothing_from_before_a_cut_comes_back() {
    let mut bench = Bench::new();
    bench.write(A, 0, "secret");
    bench.sync(A, true);
    bench.resize(A, 2);
    bench.resize(A, 6);
    bench.write(A, 4, "xy");
    assert_eq!((bench.nothing("a"), bench.everything("a")), ("secret".into(), "se\0\0xy".into()));
    let seen = bench.random("a");
    let expected = ["secret", "se", "se\0\0\0\0", "se\0\0xy"].map(str::to_owned);
    assert_eq!(seen, expected.into());
    bench.sync(A, true);
    assert_eq!(bench.random("a"), ["se\0\0xy".to_owned()].into());
}

#[test]
fn a_file_that_was_cut_and_synced_stays_cut_though_its_pages_are_clean() {
    let mut bench = Bench::new();
    bench.write(A, 0, "secret");
    bench.sync(A, false);
    bench.resize(A, 0);
    bench.sync(A, true);
    bench.resize(A, 6);
    bench.sync(A, true);
    assert_eq!(bench.random("a"), ["\0".repeat(6)].into());
}

#[test]
fn names_change_in_order_and_for_sure_with_a_sync_of_the_directory() {
    let mut bench = Bench::new();
    bench.write(A, 0, "old");
    bench.sync(A, true);
    bench.go(Event::Remove { name: "a".to_owned() });
    let c = FileId(2);
    bench.go(Event::Create { name: "a".to_owned(), file: c });
    bench.write(c, 0, "new");
    bench.sync(c, true);
    // The file is synced, its name is not.
    assert_eq!((bench.nothing("a"), bench.everything("a")), ("old".to_owned(), "new".to_owned()));
    let seen: std::collections::BTreeSet<_> =
        (0..200).map(|seed| bench.file("a", Keep::Random(seed))).collect();
    assert_eq!(seen, [None, Some("old".to_owned()), Some("new".to_owned())].into());
    bench.go(Event::SyncDirectory { since: bench.at, good: false });
    assert_eq!(bench.nothing("a"), "old");
    bench.go(Event::SyncDirectory { since: bench.at, good: true });
    assert_eq!(bench.nothing("a"), "new");
}

#[test]
fn a_rename_is_whole() {
    let mut bench = Bench::new();
    bench.write(A, 0, "one");
    bench.sync(A, true);
    bench.go(Event::Rename { from: "a".to_owned(), to: "b".to_owned(), file: A });
    for seed in 0..200 {
        let image = bench.disk.image(Keep::Random(seed)).files;
        let names: Vec<&str> = image.keys().map(String::as_str).collect();
        assert!(names == ["a", "b"] || names == ["b"] && image["b"] == b"one", "{image:?}");
    }
}

#[test]
fn images_are_known_by_their_digest() {
    let mut bench = Bench::new();
    bench.write(A, 0, "one");
    let digest = |bench: &Bench, keep| bench.disk.image(keep).digest();
    assert_ne!(digest(&bench, Keep::Nothing), digest(&bench, Keep::Everything));
    bench.sync(A, true);
    assert_eq!(digest(&bench, Keep::Nothing), digest(&bench, Keep::Everything));
    assert_eq!(digest(&bench, Keep::Random(1)), digest(&bench, Keep::Random(2)));
}
