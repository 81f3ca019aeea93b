//! Counts of tests, summed over the summary lines of test programs.

use std::fmt;

/// How many tests had which end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Held.
    pub passed: usize,
    /// Did not hold.
    pub failed: usize,
    /// Were ignored.
    pub skipped: usize,
}

impl Counts {
    /// Adds what a line says if it is the summary of a test program, such as
    /// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s`.
    pub fn read(&mut self, line: &str) {
        let Some((_, summary)) = line.split_once("test result: ") else { return };
        let number = |what: &str| {
            let words: Vec<&str> = summary.split([' ', ';', '.']).filter(|w| !w.is_empty()).collect();
            words.windows(2).find(|pair| pair[1] == what).and_then(|pair| pair[0].parse::<usize>().ok())
        };
        if let (Some(passed), Some(failed), Some(skipped)) = (number("passed"), number("failed"), number("ignored")) {
            *self += Self { passed, failed, skipped };
        }
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_summaries_and_nothing_else() {
        let mut counts = Counts::default();
        for line in [
            "running 4 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: \u{1b}[31mFAILED\u{1b}(B\u{1b}[m. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
            "test says_passed ... ok",
            "test result: unknown",
        ] {
            counts.read(line);
        }
        assert_eq!(counts, Counts { passed: 13, failed: 2, skipped: 1 });
        assert_eq!(counts.to_string(), "13 passed, 2 failed, 1 skipped");
    }
}
