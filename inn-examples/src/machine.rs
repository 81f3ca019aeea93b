//! What this machine is, and how many multiply-adds in f32 it does at most.

use inn_core::{Error, Result};
use inn_ops::simd::Level;
use serde::Serialize;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// A machine and its peak; a multiply-add counts as two operations.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The name of the processor; empty where the system does not say.
    pub processor: String,
    /// The widest vectors that the kernels of this workspace have here.
    pub instructions: &'static str,
    /// Threads of the second figure.
    pub threads: usize,
    /// GFLOP/s of one thread.
    pub one_thread_gflops: f64,
    /// GFLOP/s of all threads together.
    pub all_threads_gflops: f64,
}

impl Machine {
    /// Measures for about `2 * seconds`, with as many threads as the pool that this is called from.
    ///
    /// # Errors
    /// [`Error::Config`]: `seconds` is not positive, or the system gives no threads.
    pub fn measure(seconds: f64) -> Result<Self> {
        let level = Level::available().next().unwrap_or(Level::Scalar);
        let threads = rayon::current_num_threads();
        let peak = |threads| peak(level, threads, seconds);
        Ok(Self {
            processor: processor(),
            instructions: name(level),
            threads,
            one_thread_gflops: peak(1)?,
            all_threads_gflops: peak(threads)?,
        })
    }

    /// Takes the peaks of another measurement where they are higher.
    pub fn keep_best(&mut self, other: &Self) {
        self.one_thread_gflops = self.one_thread_gflops.max(other.one_thread_gflops);
        self.all_threads_gflops = self.all_threads_gflops.max(other.all_threads_gflops);
    }
}

/// As `INN_SIMD` spells it.
pub fn name(level: Level) -> &'static str {
    match level {
        Level::Avx512 => "avx512",
        Level::Avx2 => "avx2",
        Level::Neon => "neon",
        Level::Scalar => "scalar",
    }
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map(|(_, name)| name.trim().to_owned()).unwrap_or_default()
}

/// The best of five spells: what else runs on the machine only ever takes away.
fn peak(level: Level, threads: usize, seconds: f64) -> Result<f64> {
    let spell = Duration::try_from_secs_f64(seconds / 5.0).map_err(|e| Error::config("seconds", e))?;
    if spell.is_zero() {
        return Err(Error::config("seconds", format!("expected a number above 0, got {seconds}")));
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(|e| Error::config("threads", e))?;
    let together = || pool.broadcast(|_| rate(level, spell)).iter().sum::<f64>();
    Ok((0..5).map(|_| together()).fold(0.0, f64::max) / 1e9)
}

/// Operations a second of this thread.
fn rate(level: Level, spell: Duration) -> f64 {
    const ROUNDS: usize = 20_000;
    let (start, mut operations) = (Instant::now(), 0);
    while start.elapsed() < spell {
        operations += burn(level, ROUNDS);
    }
    operations as f64 / start.elapsed().as_secs_f64()
}

/// Independent chains: more than the latency of a multiply-add times the units that do them, and few enough for the registers.
const CHAINS: usize = 12;

/// Does multiply-adds in registers, and answers how many operations they were.
fn burn(level: Level, rounds: usize) -> usize {
    let (lanes, sum) = match level {
        // SAFETY: only levels that are available get here.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => (16, unsafe { avx512(rounds) }),
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => (8, unsafe { avx2(rounds) }),
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        Level::Neon => (4, unsafe { neon(rounds) }),
        _ => (16, scalar(rounds)),
    };
    black_box(sum);
    2 * CHAINS * lanes * rounds
}

/// A factor below 1, so that the chains stay finite; the compiler must not know it.
fn factor() -> f32 {
    black_box(0.75)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512(rounds: usize) -> f32 {
    use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_reduce_add_ps, _mm512_set1_ps};
    let mut sums = [_mm512_set1_ps(0.0); CHAINS];
    for i in 0..CHAINS {
        sums[i] = _mm512_set1_ps(black_box(i as f32));
    }
    let factor = _mm512_set1_ps(factor());
    for _ in 0..rounds {
        for i in 0..CHAINS {
            sums[i] = _mm512_fmadd_ps(sums[i], factor, factor);
        }
    }
    let mut total = 0.0;
    for sum in sums {
        total += _mm512_reduce_add_ps(sum);
    }
    total
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(rounds: usize) -> f32 {
    use std::arch::x86_64::{_mm256_cvtss_f32, _mm256_fmadd_ps, _mm256_set1_ps};
    let mut sums = [_mm256_set1_ps(0.0); CHAINS];
    for i in 0..CHAINS {
        sums[i] = _mm256_set1_ps(black_box(i as f32));
    }
    let factor = _mm256_set1_ps(factor());
    for _ in 0..rounds {
        for i in 0..CHAINS {
            sums[i] = _mm256_fmadd_ps(sums[i], factor, factor);
        }
    }
    let mut total = 0.0;
    for sum in sums {
        // All lanes are alike.
        total += _mm256_cvtss_f32(sum);
    }
    total
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
fn neon(rounds: usize) -> f32 {
    use std::arch::aarch64::{vaddvq_f32, vdupq_n_f32, vfmaq_f32};
    let mut sums = [vdupq_n_f32(0.0); CHAINS];
    for i in 0..CHAINS {
        sums[i] = vdupq_n_f32(black_box(i as f32));
    }
    let factor = vdupq_n_f32(factor());
    for _ in 0..rounds {
        for i in 0..CHAINS {
            sums[i] = vfmaq_f32(factor, sums[i], factor);
        }
    }
    let mut total = 0.0;
    for sum in sums {
        total += vaddvq_f32(sum);
    }
    total
}

/// Left to the compiler to vectorize, without fused operations.
fn scalar(rounds: usize) -> f32 {
    let mut sums = [[0.0; 16]; CHAINS];
    for (i, sum) in sums.iter_mut().enumerate() {
        *sum = [black_box(i as f32); 16];
    }
    let factor = factor();
    for _ in 0..rounds {
        for lane in sums.iter_mut().flatten() {
            *lane = *lane * factor + factor;
        }
    }
    sums.iter().flatten().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_converge_on_every_level() {
        // x = 0.75 x + 0.75 has its fixed point at 3, in every chain.
        assert!((scalar(200) / (16 * CHAINS) as f32 - 3.0).abs() < 1e-5);
        for level in Level::available() {
            assert!(burn(level, 200) > 0);
        }
        #[cfg(target_arch = "x86_64")]
        if Level::Avx2.is_available() {
            // SAFETY: available.
            assert!((unsafe { avx2(200) } / CHAINS as f32 - 3.0).abs() < 1e-5);
        }
    }

    #[test]
    fn a_machine_has_a_peak_and_time_must_be_positive() {
        let machine = Machine::measure(0.01).unwrap();
        assert!(machine.one_thread_gflops > 0.0 && machine.all_threads_gflops > 0.0);
        for bad in [0.0, -1.0, f64::NAN] {
            assert!(Machine::measure(bad).unwrap_err().to_string().contains("seconds"));
        }
    }
}
