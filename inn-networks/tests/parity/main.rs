//! The numbers of the original library, InvertibleNetworks.jl 2.3.1, met by ours: f64 to 1e-9, f32 within rounding, its central differences
//! to 1e-5.
//!
//! A compact set of its cases lives in `tests/fixtures/parity`. `INN_PARITY_DIR` names a folder with more of them; then all its cases run, and
//! one that is not known is a failure. Every array of a case has to be compared or excluded with a
//! reason, and where we compute what is excluded, the original has to disagree.

mod cases;
mod compare;
mod frame;
mod maps;
mod ops;
mod oracle;
mod orders;
mod subjects;

use compare::Book;
use inn_networks::import::Source;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    let fixtures = || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity");
    std::env::var_os("INN_PARITY_DIR").map_or_else(fixtures, PathBuf::from)
}

/// The names of all cases of the folder.
fn names() -> Vec<String> {
    let name = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().strip_suffix(".safetensors").map(str::to_owned);
    let mut names: Vec<String> = std::fs::read_dir(folder()).unwrap().filter_map(|entry| name(entry.unwrap())).collect();
    names.sort();
    names
}

#[test]
fn every_case_agrees_with_the_original() {
    let (mut failures, mut compared, mut excluded, mut cases) = (Vec::new(), 0, 0, 0);
    println!("{:26} {:>5} {:>8} {:>8} {:>8} {:>5}", "case", "count", "f64", "f32", "fd", "excl.");
    for name in names() {
        let Some(subject) = cases::subject(&name) else {
            failures.push(format!("{name}: a case that this test does not know"));
            continue;
        };
        let source = Source::open(folder().join(format!("{name}.safetensors"))).unwrap();
        let mut book = Book::new(&name, &source, cases::exclusions(&name));
        subjects::check(&mut book, &name, &subject);
        println!("{}", book.close());
        (compared, excluded, cases) = (compared + book.comparisons, excluded + book.excluded, cases + 1);
        failures.append(&mut book.failures);
    }
    println!("{cases} cases, {compared} comparisons, {excluded} arrays excluded");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    assert!(cases >= 25 && compared >= 1000, "{cases} cases with {compared} comparisons: where are the others?");
}
