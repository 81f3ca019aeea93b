//! A suite that names its instruction set with `INN_SIMD` and silently runs on another one would say nothing: here it fails.

use inn_ops::simd::{Level, level};

#[test]
fn the_level_in_use_is_the_one_that_was_asked_for() {
    let widest = Level::available().next().unwrap();
    let Ok(name) = std::env::var("INN_SIMD") else {
        assert_eq!(level(), widest);
        return;
    };
    let asked = Level::ALL.into_iter().find(|level| format!("{level:?}").eq_ignore_ascii_case(name.trim()));
    let Some(asked) = asked else { panic!("INN_SIMD={name}: expected one of {:?}", Level::ALL) };
    assert!(asked.is_available(), "INN_SIMD={name}: this machine has {:?} only", Level::available().collect::<Vec<_>>());
    assert_eq!(level(), asked, "INN_SIMD={name} has no effect");
}
