//! Locks between processes: one holder, a lease, and a fence that only rises.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use portfire_core::lock::LOCK_NAME_BYTES_MAX;
use portfire_core::{InvalidJob, LockAnswer, LockRecord, LockRequest, StorageError};

use crate::odd;
use crate::stage::{DAY, Stage, secs};

/// A free lock is held by who asks, and free again when it is given back.
pub async fn lock_acquire_release(s: Stage) {
    let now = s.now().await;
    let LockAnswer::Held { fence, until } = s.acquire("l", "a", secs(10)).await else { panic!() };
    assert!(until >= now.saturating_add(secs(10)));
    assert_eq!(s.acquire("l", "b", secs(10)).await, LockAnswer::Taken { until });
    assert_eq!(s.release("l", fence).await, LockAnswer::Released);
    let LockAnswer::Held { fence: next, .. } = s.acquire("l", "b", secs(10)).await else {
        panic!("it is free again")
    };
    assert!(next > fence);
}

/// Of 64 threads that take a lock in turn no two are inside at once.
pub async fn lock_exclusive_64_threads(s: Stage) {
    let inside = Arc::new(AtomicU64::new(0));
    let handle = tokio::runtime::Handle::current();
    let threads: Vec<_> = (0..64)
        .map(|n| {
            let (s, inside, handle) = (s.clone(), inside.clone(), handle.clone());
            std::thread::spawn(move || handle.block_on(take_once(&s, &format!("t{n}"), &inside)))
        })
        .collect();
    let fences = tokio::task::spawn_blocking(move || {
        threads.into_iter().map(|thread| thread.join().expect("inside alone")).collect::<Vec<_>>()
    });
    let mut fences = fences.await.expect("the threads end");
    fences.sort_unstable();
    fences.dedup();
    assert_eq!(fences.len(), 64, "each grant has a fence of its own");
}

async fn take_once(s: &Stage, owner: &str, inside: &AtomicU64) -> u64 {
    let mut wakeups = s.storage().wakeups();
    loop {
        match s.acquire("l", owner, secs(3_600)).await {
            LockAnswer::Held { fence, .. } => {
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "nobody else is inside");
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Ordering::SeqCst);
                assert_eq!(s.release("l", fence).await, LockAnswer::Released);
                return fence;
            }
            LockAnswer::Taken { .. } => s.heard(wakeups.control(), "the lock given back").await,
            other => panic!("{other:?}"),
        }
    }
}

/// Nobody waits in the storage: a lock that is taken is answered at once, with the instant at which it is
/// free at the latest. How long one tries is the business of who asks.
pub async fn lock_timeout(s: Stage) {
    let LockAnswer::Held { until, .. } = s.acquire("l", "a", secs(10)).await else { panic!() };
    for _ in 0..3 {
        assert_eq!(s.acquire("l", "b", secs(10)).await, LockAnswer::Taken { until });
        s.advance(secs(3)).await;
    }
    s.advance(secs(1)).await;
    assert!(matches!(s.acquire("l", "b", secs(10)).await, LockAnswer::Held { .. }));
}

/// A lock is free the moment its lease ends, also when its holder says nothing.
pub async fn lock_expires(s: Stage) {
    let fence = s.hold("l", "a", secs(10)).await;
    s.advance(secs(10)).await;
    assert_eq!(s.storage().locks().await.expect("read"), [], "a lapsed lock is not held");
    let next = s.hold("l", "b", secs(10)).await;
    assert!(next > fence);
    s.advance(secs(9)).await;
    assert!(matches!(s.acquire("l", "a", secs(10)).await, LockAnswer::Taken { .. }));
}

/// Each grant of any lock has a higher fence than all before it.
pub async fn lock_fence_monotonic(s: Stage) {
    let mut last = 0;
    for round in 0..20 {
        let name = ["a", "b", "c"][round % 3];
        let fence = s.hold(name, &format!("o{round}"), secs(10)).await;
        assert!(fence > last, "{fence} after {last}");
        last = fence;
        match round % 2 {
            0 => drop(s.release(name, fence).await),
            _ => s.advance(secs(10)).await,
        }
        s.clean(10).await;
    }
}

/// A release under another fence changes nothing: the lock stays with its holder.
pub async fn lock_release_by_other_noop(s: Stage) {
    let old = s.hold("l", "a", secs(10)).await;
    s.advance(secs(10)).await;
    let fence = s.hold("l", "b", secs(10)).await;
    for wrong in [old, fence + 1, 0, u64::MAX] {
        assert_eq!(s.release("l", wrong).await, LockAnswer::Lost);
    }
    assert_eq!(s.release("other", fence).await, LockAnswer::Lost);
    assert!(matches!(s.acquire("l", "c", secs(10)).await, LockAnswer::Taken { .. }));
    assert_eq!(s.release("l", fence).await, LockAnswer::Released);
    assert_eq!(s.release("l", fence).await, LockAnswer::Lost, "it was given back");
}

/// A renewal holds the lock for its lease from now, and a shorter one for less.
pub async fn lock_renew_extends(s: Stage) {
    let fence = s.hold("l", "a", secs(10)).await;
    s.advance(secs(9)).await;
    let now = s.now().await;
    let LockAnswer::Held { fence: same, until } = s.renew("l", fence, secs(10)).await else {
        panic!()
    };
    assert_eq!(same, fence);
    assert!(until >= now.saturating_add(secs(10)));
    s.advance(secs(9)).await;
    assert!(matches!(s.acquire("l", "b", secs(10)).await, LockAnswer::Taken { .. }));
    s.renew("l", fence, Duration::from_millis(1)).await;
    s.advance(Duration::from_millis(1)).await;
    assert!(matches!(s.acquire("l", "b", secs(10)).await, LockAnswer::Held { .. }));
}

/// A renewal after the lease has ended fails, whether or not another holds the lock by then.
pub async fn lock_renew_after_loss_fails(s: Stage) {
    let fence = s.hold("l", "a", secs(10)).await;
    s.advance(secs(10)).await;
    assert_eq!(s.renew("l", fence, secs(10)).await, LockAnswer::Lost);
    assert_eq!(s.release("l", fence).await, LockAnswer::Lost);
    let next = s.hold("l", "b", secs(10)).await;
    assert_eq!(s.renew("l", fence, secs(10)).await, LockAnswer::Lost);
    assert!(matches!(s.renew("l", next, secs(10)).await, LockAnswer::Held { .. }));
    assert_eq!(s.renew("never", next, secs(10)).await, LockAnswer::Lost);
}

/// Its holder gets its own grant again, renewed: a repeat after a lost answer is harmless.
pub async fn lock_acquire_again_renews(s: Stage) {
    let fence = s.hold("l", "a", secs(10)).await;
    s.advance(secs(6)).await;
    assert_eq!(s.hold("l", "a", secs(10)).await, fence);
    s.advance(secs(6)).await;
    assert!(matches!(s.acquire("l", "b", secs(10)).await, LockAnswer::Taken { .. }));
    s.advance(secs(4)).await;
    let anew = s.hold("l", "a", secs(10)).await;
    assert!(anew > fence, "a grant that had ended is another one");
}

/// Who waits for a lock hears that it was given back.
pub async fn lock_waiter_woken(s: Stage) {
    let fence = s.hold("l", "a", secs(10)).await;
    let mut wakeups = s.storage().wakeups();
    s.release("l", fence).await;
    s.heard(wakeups.control(), "the lock given back").await;
    assert!(matches!(s.acquire("l", "b", secs(10)).await, LockAnswer::Held { .. }));
}

/// Any text names a lock and its owner, and no two texts the same.
pub async fn lock_names_with_odd_chars(s: Stage) {
    let texts: Vec<&str> = odd::TEXTS.iter().copied().filter(|text| !text.is_empty()).collect();
    let long = "é".repeat(127);
    let texts = texts.into_iter().chain(["a", "A", "a ", " a", "a\0b", "a\0", &long]);
    let mut names: Vec<String> = texts.map(str::to_owned).collect();
    for name in &names {
        s.hold(name, name, secs(10)).await;
    }
    for name in &names {
        let taken = s.acquire(name, "another", secs(10)).await;
        assert!(matches!(taken, LockAnswer::Taken { .. }), "{name:?}: {taken:?}");
    }
    names.sort();
    let locks = s.storage().locks().await.expect("read");
    assert_eq!(locks.iter().map(|lock| lock.name.clone()).collect::<Vec<_>>(), names);
    assert!(locks.iter().all(|lock| lock.owner == lock.name));
    for lock in locks {
        assert_eq!(s.release(&lock.name, lock.fence).await, LockAnswer::Released);
    }
}

/// The locks that are held are listed by name, with their holders.
pub async fn locks_are_listed(s: Stage) {
    assert_eq!(s.storage().locks().await.expect("read"), []);
    let mut expected = Vec::new();
    for (name, owner) in [("b", "x"), ("a", "y"), ("c", "x")] {
        let LockAnswer::Held { fence, until } = s.acquire(name, owner, secs(10)).await else {
            panic!("it is free")
        };
        let (name, owner) = (name.to_owned(), owner.to_owned());
        expected.push(LockRecord { name, owner, fence, until });
    }
    expected.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(s.storage().locks().await.expect("read"), expected);
    s.release("a", expected[0].fence).await;
    assert_eq!(s.storage().locks().await.expect("read"), expected[1..]);
}

/// Names and owners have 1 to 255 bytes, leases 1 ms to a day; all else is refused.
pub async fn lock_bounds(s: Stage) {
    let long = "x".repeat(LOCK_NAME_BYTES_MAX + 1);
    let max = "x".repeat(LOCK_NAME_BYTES_MAX);
    let refused = [
        ("", "a", secs(1)),
        (&*long, "a", secs(1)),
        ("l", "", secs(1)),
        ("l", &*long, secs(1)),
        ("l", "a", Duration::ZERO),
        ("l", "a", Duration::from_micros(999)),
        ("l", "a", DAY + Duration::from_millis(1)),
    ];
    for (name, owner, lease) in refused {
        let (name, owner) = (name.to_owned(), owner.to_owned());
        let request = LockRequest::Acquire { name, owner, lease };
        let answer = s.storage().lock(request).await;
        assert!(
            matches!(answer, Err(StorageError::Invalid(InvalidJob::Lock { .. }))),
            "{answer:?}"
        );
    }
    let fence = s.hold(&max, &max, DAY).await;
    let request = LockRequest::Renew { name: max.clone(), fence, lease: DAY + secs(1) };
    let answer = s.storage().lock(request).await;
    assert!(matches!(answer, Err(StorageError::Invalid(InvalidJob::Lock { .. }))), "{answer:?}");
    assert_eq!(s.release(&max, fence).await, LockAnswer::Released);
}

/// A lock has nothing to do with jobs, servers and queues: no counter knows of it.
pub async fn lock_is_no_job(s: Stage) {
    let before = s.counts().await;
    let fence = s.hold("default", "a", DAY).await;
    assert_eq!(s.counts().await, before);
    let server = s.server("a").await;
    let id = s.enqueue_one().await;
    server.claim_job(id).await;
    s.lapse().await;
    s.rescue().await;
    assert!(matches!(s.renew("default", fence, secs(5)).await, LockAnswer::Held { .. }));
}
