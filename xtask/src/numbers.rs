//! Numbers for people.

/// The median; NaN of an empty list.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.get(sorted.len() / 2), sorted.get(sorted.len().saturating_sub(1) / 2)) {
        (Some(upper), Some(lower)) => 0.5 * (upper + lower),
        _ => f64::NAN,
    }
}

/// Three digits, in milliseconds below one second.
pub fn seconds(value: f64) -> String {
    let (value, unit) = if value < 1.0 { (1e3 * value, "ms") } else { (value, "s") };
    let digits = match value {
        v if v < 10.0 => 2,
        v if v < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

/// Whole megabytes, with a separator between thousands.
pub fn megabytes(value: f64) -> String {
    let whole = value.round() as u64;
    if whole < 1000 { format!("{whole} MB") } else { format!("{},{:03} MB", whole / 1000, whole % 1000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_thousands() {
        assert_eq!(
            [0.0012345, 0.0512, 0.246, 1.234, 16.08, 123.4].map(seconds),
            ["1.23 ms", "51.2 ms", "246 ms", "1.23 s", "16.1 s", "123 s"]
        );
        assert_eq!([0.4, 19.6, 1234.5, 23_005.0].map(megabytes), ["0 MB", "20 MB", "1,235 MB", "23,005 MB"]);
        assert_eq!(median(&[3.0, 1.0, 2.0, 10.0]), 2.5);
        assert!(median(&[]).is_nan());
    }
}
