//! How the programs end and print.

use serde::Serialize;
use std::process::ExitCode;

/// Exit status 0, or the error as one line on the standard error stream and exit status 1.
pub fn finish<E: std::fmt::Display>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a value as one line of JSON.
///
/// # Errors
/// [`inn_core::Error::Config`]: the value cannot be written as JSON.
pub fn print_json<T: Serialize>(value: &T) -> inn_core::Result<()> {
    let line = serde_json::to_string(value).map_err(|e| inn_core::Error::config("output", e))?;
    println!("{line}");
    Ok(())
}

/// The median; NaN of an empty list.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.get(sorted.len() / 2), sorted.get(sorted.len().saturating_sub(1) / 2)) {
        (Some(upper), Some(lower)) => 0.5 * (upper + lower),
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }
}
