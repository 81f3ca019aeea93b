//! Random architectures, in f64: the public harness in both directions (round trips, dot tests, dense log-determinants), files that restore
//! them, and refusals with a typed error; nothing panics. An architecture is a function of its seed.

use crate::any::Any;
use crate::draw::{Draw, KINDS};
use inn_core::verify::Verify;
use inn_core::{Architecture, Error, Given, Layout, LinearOperator, Result, Scope, Shape, Tensor};
use inn_linop::Matrix;
use inn_networks::files::{self, Metadata};
use inn_ops::Cpu;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a seed stands for; rebuilt from a file by drawing again.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Recipe {
    seed: u64,
    wild: bool,
}

struct Plan {
    network: Any,
    shape: Shape,
    conditions: Vec<Shape>,
    operator: Option<Matrix<Cpu<f64>>>,
    drawn: [usize; KINDS],
}

impl Recipe {
    fn draw(&self) -> Draw {
        Draw::new(self.seed, self.wild)
    }

    /// Networks by their settings more than half of the time, else layers.
    fn plan(&self, scope: &mut Scope<'_>) -> Result<Plan> {
        let mut draw = self.draw();
        let (network, shape) = match self.seed % 16 {
            0 => draw.glow().build(scope, Any::Glow)?,
            1 => draw.conditional().build(scope, Any::ConditionalGlow)?,
            2 => draw.hyperbolic().build(scope, Any::HyperbolicNet)?,
            3 => draw.hints().build(scope, Any::Hints)?,
            4 => draw.pair().build(scope, Any::Pair)?,
            5 => draw.pairs().build(scope, Any::Pairs)?,
            6 => draw.summarized().build(scope, |network| Any::Summarized(Box::new(network)))?,
            7 => draw.solver().build(scope, Any::Loop)?,
            8 => draw.concatenated().build(scope, |network| Any::Concatenated(Box::new(network)))?,
            9 => draw.summarized_hint().build(scope, |network| Any::SummarizedHint(Box::new(network)))?,
            _ => draw.composition(scope)?,
        };
        Ok(Plan { network, shape, conditions: draw.conditions, operator: draw.operator, drawn: draw.drawn })
    }
}

/// Builds settings as one type.
trait AsAny<N> {
    fn build(self, scope: &mut Scope<'_>, any: impl FnOnce(N) -> Any) -> Result<(Any, Shape)>;
}

impl<A: Architecture> AsAny<A::Network> for (A, Shape) {
    fn build(self, scope: &mut Scope<'_>, any: impl FnOnce(A::Network) -> Any) -> Result<(Any, Shape)> {
        Ok((any(self.0.build(scope)?), self.1))
    }
}

impl Architecture for Recipe {
    const KIND: &'static str = "random";
    type Network = Any;
    fn build(&self, scope: &mut Scope<'_>) -> Result<Any> {
        Ok(self.plan(scope)?.network)
    }
}

fn values(shape: Shape) -> Tensor<Cpu<f64>> {
    let values: Vec<f64> = (0..shape.len()).map(|i| (i as f64 * 1.7 + 0.3).sin()).collect();
    Tensor::from_f64(&Cpu::poisoned(), shape, &values).unwrap()
}

/// Saves a network that has seen data and loads it: the same settings, parameters and map, bit by bit.
fn comes_back<A: Architecture + PartialEq>(config: &A, plan: &Plan) -> Result<()> {
    let shape = plan.shape;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.safetensors");
    let cpu = Cpu::poisoned();
    let mut model = config.model(&cpu, 7)?;
    let conditions: Vec<_> = plan.conditions.iter().map(|&c| values(c)).collect();
    let given = Given { operator: plan.operator.as_ref().map(|a| a as &dyn LinearOperator<_>), ..Given::conditions(&conditions) };
    model.initialize(values(shape), given)?;
    files::save(&path, config, &model, &Metadata::default())?;
    let restored = files::load::<A, _>(&path, &cpu)?;
    assert!(restored.config == *config && restored.model.is_initialized());
    assert_eq!(restored.model.params().to_flat()?, model.params().to_flat()?);
    let (a, b) = (model.with(given).forward(values(shape))?, restored.model.with(given).forward(values(shape))?);
    assert_eq!(a.state.to_vec()?, b.state.to_vec()?);
    assert_eq!(a.logdet.to_vec()?, b.logdet.to_vec()?);
    Ok(())
}

/// The harness and the file, for one seed; the message of what went wrong.
fn examine(recipe: &Recipe) -> Result<Plan> {
    let (plan, layout) = Layout::build(|scope| recipe.plan(scope))?;
    let verify = Verify::new(Cpu::<f64>::poisoned()).conditions(&plan.conditions);
    let verify = plan.operator.iter().fold(verify, |verify, operator| verify.with_operator(operator));
    verify.layer(&plan.network, &layout, plan.shape)?.check()?;
    comes_back(recipe, &plan)?;
    let mut draw = recipe.draw();
    match recipe.seed % 16 {
        0 => comes_back(&draw.glow().0, &plan)?,
        1 => comes_back(&draw.conditional().0, &plan)?,
        2 => comes_back(&draw.hyperbolic().0, &plan)?,
        3 => comes_back(&draw.hints().0, &plan)?,
        4 => comes_back(&draw.pair().0, &plan)?,
        5 => comes_back(&draw.pairs().0, &plan)?,
        6 => comes_back(&draw.summarized().0, &plan)?,
        7 => comes_back(&draw.solver().0, &plan)?,
        8 => comes_back(&draw.concatenated().0, &plan)?,
        9 => comes_back(&draw.summarized_hint().0, &plan)?,
        _ => {}
    }
    Ok(plan)
}

/// Examines a range of seeds; which layers came up.
fn sweep(seeds: std::ops::Range<u64>) -> [usize; KINDS] {
    let (mut drawn, mut failures) = ([0; KINDS], Vec::new());
    for seed in seeds {
        let recipe = Recipe { seed, wild: false };
        match catch_unwind(AssertUnwindSafe(|| examine(&recipe))) {
            Ok(Ok(plan)) => drawn.iter_mut().zip(plan.drawn).for_each(|(a, b)| *a += b),
            Ok(Err(e)) => failures.push(format!("seed {seed}: {e}")),
            Err(_) => failures.push(format!("seed {seed} panicked")),
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    drawn
}

#[test]
fn seeds_0_to_150() {
    let drawn = sweep(0..150);
    assert!(drawn.iter().all(|&n| n > 0), "every kind of layer is drawn: {drawn:?}");
}

#[test]
fn seeds_150_to_300() {
    sweep(150..300);
}

#[test]
fn what_does_not_fit_is_refused_with_a_typed_error() {
    let (mut refused, mut passed, mut failures) = (0, 0, Vec::new());
    for seed in 0..200 {
        let recipe = Recipe { seed, wild: true };
        match catch_unwind(AssertUnwindSafe(|| examine(&recipe))) {
            Ok(Ok(_)) => passed += 1,
            Ok(Err(Error::Shape { .. } | Error::Config { .. } | Error::Missing { .. })) => refused += 1,
            Ok(Err(e)) => failures.push(format!("seed {seed}: {e}")),
            Err(_) => failures.push(format!("seed {seed} panicked")),
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    assert!(refused > 20 && passed > 20, "{refused} refused, {passed} passed");
}
