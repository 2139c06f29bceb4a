//! What a measurement is made of: percentiles, and what the operating system says about this process.

use std::time::Duration;

/// Three percentiles of many durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Percentiles {
    pub(super) p50: Duration,
    pub(super) p95: Duration,
    pub(super) p99: Duration,
}

impl Percentiles {
    /// The percentiles, by the nearest rank; `None` of nothing.
    pub(super) fn of(mut durations: Vec<Duration>) -> Option<Percentiles> {
        durations.sort_unstable();
        let rank = |percent: usize| {
            let rank = (durations.len() * percent).div_ceil(100).max(1);
            durations.get(rank - 1).copied()
        };
        Some(Percentiles { p50: rank(50)?, p95: rank(95)?, p99: rank(99)? })
    }
}

/// What this process used between two moments; `None` where the system does not tell.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    pub(super) peak_bytes: Option<u64>,
    pub(super) bytes_written: Option<u64>,
    /// Of the storage in this process.
    pub(super) commits: Option<u64>,
    /// Only measured for `idle`; there it is the point.
    pub(super) cpu: Option<Duration>,
}

impl Figures {
    /// Takes those of another time together with these.
    pub(super) fn add(&mut self, other: Figures) {
        let sum = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
        self.peak_bytes = self.peak_bytes.max(other.peak_bytes);
        self.bytes_written = sum(self.bytes_written, other.bytes_written);
        self.commits = sum(self.commits, other.commits);
    }
}

/// The moment from which on figures count.
#[derive(Debug)]
pub(super) struct Since {
    commits: Option<u64>,
    bytes_written: Option<u64>,
    cpu: Option<Duration>,
}

impl Since {
    /// From now on, when the storage has made so many commits. Forgets the peak of memory before.
    pub(super) fn now(commits: Option<u64>) -> Since {
        system::forget_peak();
        Since { commits, bytes_written: system::bytes_written(), cpu: system::cpu() }
    }

    /// What was used until now, when the storage has made so many commits.
    pub(super) fn figures(&self, commits: Option<u64>) -> Figures {
        let written = system::bytes_written().zip(self.bytes_written);
        Figures {
            peak_bytes: system::peak_bytes(),
            // Nothing at all is what a file system in memory reports, not what was measured.
            bytes_written: written.map(|(now, then)| now.saturating_sub(then)).filter(|&b| b > 0),
            commits: commits.zip(self.commits).map(|(now, then)| now.saturating_sub(then)),
            cpu: None,
        }
    }

    /// As [`figures`](Self::figures), with the processor time, and with no bytes being an answer.
    pub(super) fn figures_of_idleness(&self, commits: Option<u64>) -> Figures {
        let written = system::bytes_written().zip(self.bytes_written);
        Figures {
            bytes_written: written.map(|(now, then)| now.saturating_sub(then)),
            cpu: system::cpu().zip(self.cpu).map(|(now, then)| now.saturating_sub(then)),
            ..self.figures(commits)
        }
    }
}

/// Bytes that this process has given to its disks since it began.
pub(super) fn bytes_written() -> Option<u64> {
    system::bytes_written()
}

/// Processor time of this process's threads that live now.
pub(super) fn cpu() -> Option<Duration> {
    system::cpu()
}

#[cfg(target_os = "linux")]
mod system {
    use std::fs;
    use std::time::Duration;

    /// Makes the peak begin anew. Where that is not permitted the peak is that of the whole process.
    pub(super) fn forget_peak() {
        let _ = fs::write("/proc/self/clear_refs", "5");
    }

    pub(super) fn peak_bytes() -> Option<u64> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        Some(number_after(&status, "VmHWM:")? * 1024)
    }

    pub(super) fn bytes_written() -> Option<u64> {
        let io = fs::read_to_string("/proc/self/io").ok()?;
        number_after(&io, "\nwrite_bytes:")
    }

    /// Processor time of the threads that live now, to the nanosecond.
    pub(super) fn cpu() -> Option<Duration> {
        let mut nanoseconds = 0;
        for task in fs::read_dir("/proc/self/task").ok()?.flatten() {
            let Ok(line) = fs::read_to_string(task.path().join("schedstat")) else { continue };
            nanoseconds += line.split_whitespace().next()?.parse::<u64>().ok()?;
        }
        Some(Duration::from_nanos(nanoseconds))
    }

    fn number_after(text: &str, key: &str) -> Option<u64> {
        let rest = &text[text.find(key)? + key.len()..];
        rest.split_whitespace().next()?.parse().ok()
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::time::Duration;

    pub(super) fn forget_peak() {}

    pub(super) fn peak_bytes() -> Option<u64> {
        None
    }

    pub(super) fn bytes_written() -> Option<u64> {
        None
    }

    pub(super) fn cpu() -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let durations = (1..=200).rev().map(Duration::from_millis).collect();
        let percentiles = Percentiles::of(durations).unwrap();
        assert_eq!(percentiles.p50, Duration::from_millis(100));
        assert_eq!(percentiles.p95, Duration::from_millis(190));
        assert_eq!(percentiles.p99, Duration::from_millis(198));
        let one = Percentiles::of(vec![Duration::from_millis(7)]).unwrap();
        assert_eq!((one.p50, one.p99), (Duration::from_millis(7), Duration::from_millis(7)));
        assert_eq!(Percentiles::of(Vec::new()), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_tells_what_a_process_used() {
        let since = Since::now(Some(3));
        let figures = since.figures_of_idleness(Some(5));
        assert_eq!(figures.commits, Some(2));
        assert!(figures.peak_bytes.is_some_and(|bytes| bytes > 100_000));
        assert!(figures.bytes_written.is_some() && figures.cpu.is_some());
    }
}
