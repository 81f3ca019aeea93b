//! The harness itself: each deliberate defect is caught by the checks that name it, and the healthy twin passes.

mod toys;

use inn_core::verify::{Report, Rule, Verify};
use inn_core::{Error, Layout, Shape};
use inn_ops::Cpu;
use std::collections::BTreeSet;
use toys::{Blur, BlurNet, ConditionalScale, Defect};

fn layer(defect: Defect) -> Report {
    let shape = Shape::new(3, 2, &[4]).unwrap();
    let (layer, layout) = Layout::build(|scope| ConditionalScale::new(scope, 2, defect)).unwrap();
    Verify::new(Cpu::<f64>::poisoned()).conditions(&[shape]).layer(&layer, &layout, shape).unwrap()
}

fn conditioner(defect: Defect) -> Report {
    let (net, layout) = Layout::build(|scope| BlurNet::new(scope, defect)).unwrap();
    Verify::new(Cpu::<f64>::poisoned()).conditioner(&net, &layout, Shape::new(2, 1, &[7]).unwrap()).unwrap()
}

fn operator(defect: Defect) -> Report {
    let cpu = Cpu::<f64>::poisoned();
    Verify::new(cpu.clone()).operator(&Blur::new(&cpu, 7, defect)).unwrap()
}

/// Of the derivative in one block: what a wrong gradient breaks.
fn derivative(block: &str) -> Vec<String> {
    let mut names: Vec<String> = ["taylor in", "slope in", "jvp against vjp in"].map(|check| format!("{check} {block}")).into();
    names.push("jvp against vjp, jointly".into());
    names
}

/// Exactly the checks of `expected` fail, in one direction or both, and the error names them.
fn caught(report: &Report, expected: &[String]) {
    let strip = |name: &str| name.trim_start_matches("forward: ").trim_start_matches("inverse: ").to_owned();
    let failed: BTreeSet<String> = report.failed().map(|row| strip(&row.name)).collect();
    assert_eq!(failed, expected.iter().cloned().collect(), "\n{report}");
    let Err(Error::Verification(message)) = report.check() else { panic!("{report}") };
    assert!(expected.iter().all(|name| message.contains(name)), "{message}");
}

fn and(names: &[Vec<String>], more: &[&str]) -> Vec<String> {
    names.concat().into_iter().chain(more.iter().map(|&name| name.to_owned())).collect()
}

#[test]
fn the_healthy_twins_pass() {
    for report in [layer(Defect::None), conditioner(Defect::None), operator(Defect::None)] {
        report.check().unwrap();
        assert!(report.rows.iter().all(|row| row.passed && row.rule != Rule::Skipped), "{report}");
    }
}

#[test]
fn a_flipped_sign_in_one_gradient() {
    caught(&layer(Defect::Sign), &derivative("scale"));
}

#[test]
fn a_gradient_that_was_forgotten() {
    caught(&layer(Defect::Condition), &derivative("condition 0"));
    caught(&layer(Defect::Shift), &derivative("shift"));
}

/// No difference sees it, and the product that is wrong is smaller than the rounding of F: the dot test alone can tell.
#[test]
fn a_gradient_that_is_small_and_was_forgotten() {
    layer(Defect::Faint).check().unwrap();
    caught(&layer(Defect::FaintShift), &["jvp against vjp in shift".into()]);
}

#[test]
fn a_log_determinant_without_value_or_without_gradient() {
    let both = [derivative("scale"), derivative("condition 0")];
    caught(&layer(Defect::LogdetValue), &and(&both, &["log-determinant against the dense Jacobian"]));
    caught(&layer(Defect::LogdetGradient), &and(&both, &[]));
}

#[test]
fn a_dropped_factor_of_the_mean() {
    caught(&layer(Defect::MeanFactor), &and(&[derivative("scale"), derivative("condition 0")], &[]));
}

#[test]
fn what_overwrites_instead_of_adding() {
    caught(&layer(Defect::Overwrite), &["gradients accumulate".into()]);
    caught(&layer(Defect::OverwriteLogdet), &["log-determinant is added".into()]);
    caught(&conditioner(Defect::Overwrite), &["gradients accumulate".into()]);
    caught(&conditioner(Defect::OverwriteInput), &["gradients accumulate".into()]);
    caught(&operator(Defect::WriteAdd), &["product: adds where asked to".into()]);
}

#[test]
fn an_adjoint_that_is_off_by_one_pixel() {
    caught(&conditioner(Defect::Pixel), &derivative("x"));
    caught(&operator(Defect::Pixel), &["adjoint".into()]);
}

#[test]
fn an_operator_that_is_not_linear() {
    caught(&operator(Defect::Affine), &["adjoint".into(), "product: linear".into()]);
}

#[test]
fn a_wrong_inverse() {
    let more = ["round trip", "pull recovers the state", "pull recovers the tangent"];
    caught(&layer(Defect::Inverse), &and(&[derivative("shift")], &more));
}

/// The gradient is right, and the differences of it say so; the tangent is not.
#[test]
fn a_value_that_passes_through_the_host() {
    caught(
        &layer(Defect::HostConstant),
        &[
            "jvp against vjp in shift",
            "jvp against vjp, jointly",
            "jvp of the state against differences",
            "pull recovers the tangent",
            "Hessian product against differences",
        ]
        .map(String::from),
    );
}

#[test]
fn scratch_that_is_read_and_samples_that_leak() {
    let first = |report: &Report| report.failed().next().unwrap().name.clone();
    assert_eq!(first(&layer(Defect::Scratch)), "forward: same bits twice");
    let report = layer(Defect::Leak);
    for name in ["forward: samples are independent", "inverse: samples are independent"] {
        assert!(report.failed().any(|row| row.name == name), "{report}");
    }
}

/// A value that rounds differently is within one tolerance and not within another.
#[test]
fn single_precision_is_compared_and_not_verified_by_itself() {
    let shape = Shape::new(3, 2, &[4]).unwrap();
    let (layer, layout) = Layout::build(|scope| ConditionalScale::new(scope, 2, Defect::None)).unwrap();
    let verify = Verify::new(Cpu::<f64>::new()).conditions(&[shape]);
    let agreement = |tolerance| verify.agrees_with(&Cpu::<f32>::new(), &layer, &layout, shape, tolerance).unwrap();
    agreement(1e-5).check().unwrap();
    assert!(agreement(1e-12).check().is_err());
    let single = Verify::new(Cpu::<f32>::new()).conditions(&[shape]).layer(&layer, &layout, shape);
    assert!(matches!(single, Err(Error::Config { .. })));
}

/// A check that would take too long says that it did not run.
#[test]
fn large_samples_skip_the_dense_jacobian_visibly() {
    let shape = Shape::new(1, 3, &[10, 10]).unwrap();
    let (layer, layout) = Layout::build(|scope| ConditionalScale::new(scope, 3, Defect::None)).unwrap();
    let report = Verify::new(Cpu::<f64>::poisoned()).seed(4).conditions(&[shape]).layer(&layer, &layout, shape).unwrap();
    report.check().unwrap();
    assert_eq!(report.rows.iter().filter(|row| row.rule == Rule::Skipped).count(), 2);
    assert!(report.to_string().contains("skipped"));
}
