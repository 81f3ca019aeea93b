//! The resident set of this process, now and at its highest.
//!
//! On Linux the kernel keeps both (`VmRSS` and `VmHWM` in `/proc/self/status`), and writing 5 to `/proc/self/clear_refs` sets the highest
//! mark back to the present. Where it does not, a thread looks every millisecond.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes of the resident set now; `None` where the system does not say.
pub fn resident() -> Option<u64> {
    #[cfg(target_os = "linux")]
    return status("VmRSS:");
    #[cfg(not(target_os = "linux"))]
    return memory_stats::memory_stats().map(|m| m.physical_mem as u64);
}

/// A size in `/proc/self/status`, in bytes.
fn status(key: &str) -> Option<u64> {
    parse(&std::fs::read_to_string("/proc/self/status").ok()?, key)
}

fn parse(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The highest resident set since [`start`](Self::start).
pub struct Peak {
    sampler: Option<Sampler>,
}

struct Sampler {
    highest: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Peak {
    /// Begins to watch.
    pub fn start() -> Self {
        let reset = std::fs::write("/proc/self/clear_refs", "5").is_ok() && status("VmHWM:").is_some();
        Self { sampler: (!reset).then(Sampler::start) }
    }

    /// Bytes; `None` where the system does not say.
    pub fn bytes(&self) -> Option<u64> {
        match &self.sampler {
            None => status("VmHWM:"),
            Some(sampler) => resident().map(|now| sampler.highest.fetch_max(now, Ordering::Relaxed).max(now)),
        }
    }
}

impl Sampler {
    fn start() -> Self {
        let (highest, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, ended) = (highest.clone(), stop.clone());
        let thread = std::thread::Builder::new().spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                seen.fetch_max(resident().unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Self { highest, stop, thread: thread.ok() }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A sampler that panicked has nothing more to say.
            let _ = thread.join();
        }
    }
}

/// Megabytes (10⁶ bytes).
pub fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(mib: usize) -> Vec<u8> {
        let mut bytes = vec![0; mib << 20];
        bytes.iter_mut().step_by(512).for_each(|b| *b = 1);
        bytes
    }

    /// What one test touches would be in what another measures.
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

    #[test]
    fn the_peak_outlives_what_caused_it_and_a_new_watch_forgets_it() {
        let _alone = ALONE.lock();
        let Some(before) = resident() else { return };
        let watch = Peak::start();
        let bytes = touch(128);
        assert!(resident().unwrap() >= before + (100 << 20));
        // The sampling fallback needs a moment to look.
        std::thread::sleep(Duration::from_millis(20));
        drop(std::hint::black_box(bytes));
        let peak = watch.bytes().unwrap();
        assert!(peak >= before + (100 << 20), "{peak} after {before}");
        let later = Peak::start().bytes().unwrap();
        assert!(later + (64 << 20) < peak, "{later} is not below {peak}");
    }

    #[test]
    fn a_sampler_sees_a_peak() {
        let _alone = ALONE.lock();
        let Some(before) = resident() else { return };
        let watch = Peak { sampler: Some(Sampler::start()) };
        let bytes = touch(96);
        std::thread::sleep(Duration::from_millis(50));
        drop(std::hint::black_box(bytes));
        assert!(watch.bytes().unwrap() >= before + (64 << 20));
    }

    #[test]
    fn reads_the_status_file() {
        let text = "Name:\tx\nVmHWM:\t    1024 kB\nVmRSS:\t     512 kB\n";
        assert_eq!((parse(text, "VmHWM:"), parse(text, "VmRSS:"), parse(text, "VmSwap:")), (Some(1 << 20), Some(512 << 10), None));
    }
}
