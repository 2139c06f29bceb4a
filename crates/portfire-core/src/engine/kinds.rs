//! Kinds: since when no live server has a handler of one, which is what the grace of its jobs counts from.
//!
//! A claim gives a server jobs of the kinds that it [has]. A job of another kind that it meets is set aside, on
//! the shelf of its queue and kind: it keeps its state, place, priority and instants, so a server that has the kind
//! takes it as if nobody had met it before. That is a place, not a state: no transition, no history, no counter.
//!
//! Each shelf keeps an instant, its clock: since when no live server has had the kind, as it was at the last look. What
//! is true now follows from that and from the servers, which are kept for a day after their death. So nothing has to be
//! written when a lease lapses, and it does not matter how often anybody looks.

use crate::clock::Timestamp;
use crate::job::KindName;

/// Whether a server that states these kinds has a handler of one. A server that states none may have any.
pub fn has(stated: &[KindName], kind: &KindName) -> bool {
    stated.is_empty() || stated.contains(kind)
}

/// A server, alive or dead, as far as kinds go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handlers {
    /// The kinds that it states.
    pub kinds: Vec<KindName>,
    /// When its lease ends or has ended, or its death if that came before.
    pub until: Timestamp,
}

impl Handlers {
    /// Those of a server whose lease ends then, and which has died then.
    pub fn new(
        kinds: Vec<KindName>,
        lease_until: Timestamp,
        died_at: Option<Timestamp>,
    ) -> Handlers {
        let until = died_at.map_or(lease_until, |died_at| died_at.min(lease_until));
        Handlers { kinds, until }
    }
}

/// Until when the last of these servers has a handler of a kind; `None` when none ever had.
pub fn had_until(servers: &[Handlers], kind: &KindName) -> Option<Timestamp> {
    servers.iter().filter(|server| has(&server.kinds, kind)).map(|server| server.until).max()
}

/// The clock of a shelf now: since when no live server has the kind, `None` while one has. `before` is the clock as it
/// was written last.
pub fn missing_since(
    before: Option<Timestamp>,
    had_until: Option<Timestamp>,
    now: Timestamp,
) -> Option<Timestamp> {
    match had_until {
        Some(until) if until > now => None,
        Some(until) => Some(before.map_or(until, |before| before.max(until))),
        None => Some(before.unwrap_or(now)),
    }
}

/// The clock of a shelf that comes to be now.
pub fn first_clock(had_until: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    missing_since(None, had_until, now).map(|_| now)
}

/// The clocks of all shelves when a server comes, or comes back, after a time in which none was alive: that time does
/// not count. Who was off for a weekend does not find jobs failed because the program without the handler was started
/// before the one that has it. `clock` is as [`missing_since`] says; answers `None` when a server is alive.
pub fn resumed(
    servers: &[Handlers],
    now: Timestamp,
) -> Option<impl Fn(Option<Timestamp>) -> Option<Timestamp> + use<>> {
    let last = servers.iter().map(|server| server.until).max();
    if last.is_some_and(|last| last > now) {
        return None;
    }
    Some(move |clock: Option<Timestamp>| {
        let counted = match (clock, last) {
            (Some(since), Some(last)) => last.since(since),
            _ => std::time::Duration::ZERO,
        };
        clock.map(|_| now.saturating_sub(counted))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn kind(name: &str) -> KindName {
        KindName::stored(name.to_owned())
    }

    fn server(kinds: &[&str], until: i64) -> Handlers {
        let kinds = kinds.iter().map(|name| kind(name)).collect();
        Handlers::new(kinds, at(until), None)
    }

    #[test]
    fn who_states_nothing_has_every_kind() {
        assert!(has(&[], &kind("a")));
        assert!(has(&[kind("b"), kind("a")], &kind("a")));
        assert!(!has(&[kind("b")], &kind("a")));
    }

    #[test]
    fn a_kind_is_had_until_the_last_server_with_it_ends() {
        let servers = [server(&["a"], 10), server(&["a", "b"], 20), server(&["c"], 90)];
        assert_eq!(had_until(&servers, &kind("a")), Some(at(20)));
        assert_eq!(had_until(&servers, &kind("d")), None);
        assert_eq!(had_until(&[server(&[], 5)], &kind("d")), Some(at(5)));
        let dead = Handlers::new(Vec::new(), at(30), Some(at(12)));
        assert_eq!(dead.until, at(12));
        let lapsed = Handlers::new(Vec::new(), at(30), Some(at(50)));
        assert_eq!(lapsed.until, at(30));
    }

    #[test]
    fn the_clock_counts_from_when_the_last_server_with_the_kind_went() {
        let now = at(100);
        let table = [
            (Some(at(10)), Some(at(101)), None),
            (Some(at(10)), Some(at(100)), Some(at(100))),
            (Some(at(10)), Some(at(60)), Some(at(60))),
            (Some(at(80)), Some(at(60)), Some(at(80))),
            (None, Some(at(60)), Some(at(60))),
            (Some(at(10)), None, Some(at(10))),
            (None, None, Some(at(100))),
        ];
        for (before, had, since) in table {
            assert_eq!(missing_since(before, had, now), since, "{before:?}, {had:?}");
        }
        assert_eq!(first_clock(Some(at(60)), now), Some(now), "its jobs have not waited before");
        assert_eq!(first_clock(Some(at(160)), now), None);
    }

    #[test]
    fn a_time_without_any_server_does_not_count() {
        let now = at(1_000);
        assert!(resumed(&[server(&["a"], 1_001)], now).is_none());
        let after = resumed(&[server(&["a"], 100), server(&["b"], 90)], now).unwrap();
        assert_eq!(after(Some(at(70))), Some(at(970)), "30 s had passed");
        assert_eq!(after(Some(at(200))), Some(now));
        assert_eq!(after(None), None);
        let unknown = resumed(&[], now).unwrap();
        assert_eq!(unknown(Some(at(70))), Some(now));
    }
}
