//! Write your own layer.
//!
//! A layer is a struct of settings and parameter handles with three functions: a check of shapes, the map, and its pullback, each for both
//! directions. Everything else follows from them: JVPs, Hessian products, reversal, training on any number type and device, files. This
//! page builds one, verifies it, puts it into a chain, trains it, saves it and loads it again.
//!
//! # The mathematics
//! A map that draws in the tails of the data, with one learned strength a = e^θ for each channel:
//! ```text
//! y = asinh(a x) / a,    x = sinh(a y) / a,    ℓ = Σ ln ∂y/∂x = -Σ ½ ln(1 + u²),    u = a x
//! ```
//! With r = √(1 + u²) the derivatives are ∂y/∂x = 1/r and ∂ℓ/∂x = -a u/r²; since ∂a/∂θ = a, those in θ at fixed x are
//! ∂y/∂θ = x/r - y and ∂ℓ/∂θ = -u²/r². The pullback of f from cotangents g of y and λ of ℓ is therefore
//! ```text
//! gx = (g - λ a u/r) / r,    gθ += Σ g (x/r - y) - λ u²/r².
//! ```
//! The inverse map takes y to x with log-determinant -ℓ. Its derivatives at fixed y are ∂x/∂y = r, ∂x/∂θ = r y - x,
//! ∂(-ℓ)/∂y = a u/r and ∂(-ℓ)/∂θ = a y u/r, which gives the other arm of the pullback.
//!
//! # The layer
//! One [`Kernel`](inn_core::Kernel) for the map and one for its pullback hold the formulas, for one number. The layer says which windows they
//! run over: a parameter is repeated over samples and pixels, λ over channels and pixels; sums over samples and pixels are added to the
//! gradient of the parameter, sums over channels and pixels to the log-determinant. `pull` gets (y, g) and leaves (x, gx) in their place.
//!
//! ```
//! use inn_core::kernel::UNIFORMS;
//! use inn_core::verify::Verify;
//! use inn_core::*;
//! use inn_layers::glow::{GlowStep, StepConfig, glow_step};
//! use inn_networks::files::{self, Metadata};
//! use inn_networks::optim::Schedule;
//! use inn_networks::train::{ArrayDataset, Options, Trainer};
//! use inn_ops::Cpu;
//!
//! struct Asinh(Param);
//! impl Asinh {
//!     fn new(scope: &mut Scope<'_>, channels: usize) -> Result<Self> {
//!         Ok(Self(scope.vector("strength", channels, Init::Constant(-1.0))?))
//!     }
//! }
//!
//! impl Invertible for Asinh {
//!     fn check(&self, _: Direction, facts: Facts<'_>, input: Shape) -> Result<Shape> {
//!         let expected = input.with_channels(facts.param(self.0)?.channels());
//!         error::expect_shape("input of Asinh", expected, input).map(|()| input)
//!     }
//!     fn map<B: Backend>(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, logdet: &mut ViewMut<'_, B>) -> Result<()> {
//!         let read = [at.param(self.0)?.over_pixels(x.shape())];
//!         at.backend().zip(&Map(dir), x.shape(), &read, &mut [x.update()], &mut [], &mut [logdet.update()])
//!     }
//!     fn pull<B: Backend>(
//!         &self, dir: Direction, at: &Inputs<'_, B>, y: &mut ViewMut<'_, B>, gy: &mut ViewMut<'_, B>, gl: View<'_, B>, grads: &mut Gradients<'_, B>,
//!     ) -> Result<()> {
//!         let (shape, mut gtheta) = (y.shape(), grads.param(self.0)?);
//!         let read = [at.param(self.0)?.over_pixels(shape), gl.over_channels(shape)];
//!         at.backend().zip(&Pull(dir), shape, &read, &mut [y.update(), gy.update()], &mut [gtheta.update()], &mut [])
//!     }
//! }
//!
//! /// x, y, u and r for a number on one side of the map. The logarithm is taken of what is above 1, where nothing cancels.
//! fn sides<T: Scalar>(from: Direction, a: T, v: T) -> (T, T, T, T) {
//!     let u = if from == Direction::Forward { a * v } else { ((a * v).exp() - (-a * v).exp()) * T::constant(0.5) };
//!     let r = (T::one() + u.square()).sqrt();
//!     let y = (u.abs() + r).ln() / a;
//!     (u / a, u.select_ge(T::zero(), y, -y), u, r)
//! }
//!
//! #[derive(Clone, Copy)]
//! struct Map(Direction);
//! impl Kernel for Map {
//!     const READ: usize = 1;
//!     const UPDATE: usize = 1;
//!     const SAMPLE_SUMS: usize = 1;
//!     fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], theta: &[T], state: &mut [T], _: &mut [T], logdet: &mut [T]) {
//!         let (x, y, _, r) = sides(self.0, theta[0].exp(), state[0]);
//!         state[0] = if self.0 == Direction::Forward { y } else { x };
//!         logdet[0] = T::constant(-self.0.sign()) * r.ln();
//!     }
//! }
//! #[derive(Clone, Copy)]
//! struct Pull(Direction);
//! impl Kernel for Pull {
//!     const READ: usize = 2;
//!     const UPDATE: usize = 2;
//!     const CHANNEL_SUMS: usize = 1;
//!     fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], read: &[T], state: &mut [T], gtheta: &mut [T], _: &mut [T]) {
//!         let (a, lambda, g) = (read[0].exp(), read[1], state[1]);
//!         let (x, y, u, r) = sides(self.0.flip(), a, state[0]);
//!         (state[0], state[1], gtheta[0]) = match self.0 {
//!             Direction::Forward => (x, (g - lambda * a * u / r) / r, g * (x / r - y) - lambda * (u / r).square()),
//!             Direction::Inverse => (y, g * r + lambda * a * u / r, g * (r * y - x) + lambda * a * y * u / r),
//!         };
//!     }
//! }
//!
//! // Verified: round trips, Taylor tests, dot tests, determinants, in both directions; in one dimension, then on images.
//! for shape in [Shape::new(3, 2, &[])?, Shape::new(2, 3, &[4, 5])?] {
//!     let (layer, layout) = Layout::build(|scope| Asinh::new(scope, shape.channels()))?;
//!     Verify::new(Cpu::<f64>::poisoned()).layer(&layer, &layout, shape)?.check()?;
//! }
//!
//! // In a network: flow steps with a layer of ours after each. The configuration is what a file keeps of it.
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Tailed { steps: usize }
//! impl Architecture for Tailed {
//!     const KIND: &'static str = "tailed";
//!     type Network = Chain<(GlowStep, Asinh)>;
//!     fn build(&self, scope: &mut Scope<'_>) -> Result<Self::Network> {
//!         Chain::build(scope, "step", self.steps, |scope, _| {
//!             Ok((glow_step(scope, 2, 0, None, &StepConfig::default())?, Asinh::new(scope, 2)?))
//!         })
//!     }
//! }
//!
//! // Trained on points with long tails: sinh of what is nearly normal.
//! let points = ndarray::Array2::from_shape_fn((400, 2), |(i, j)| {
//!     let u = (i as f32 + 0.5) * [0.618_034, 0.754_878][j] % 1.0;
//!     (1.5 * (u / (1.0 - u)).ln()).sinh()
//! });
//! let data = ArrayDataset::new(points)?;
//! let config = Tailed { steps: 2 };
//! let cpu = Cpu::<f32>::new();
//! let options = Options { epochs: 15, batch: 100, schedule: Schedule::constant(1e-2), ..Options::default() };
//! let mut trainer = Trainer::new(config.model(&cpu, 0)?, options)?;
//! trainer.fit(&data, None, &mut ())?;
//! let (first, last) = (trainer.records()[0].loss, trainer.evaluate(&data)?);
//! assert!(last < first - 3.0, "{last} nats after {first}");
//!
//! // Saved and loaded again, with its configuration.
//! # let folder = tempfile::tempdir().map_err(|e| Error::io("", e))?;
//! # let path = folder.path().join("tailed.safetensors");
//! let model = trainer.into_model()?;
//! files::save(&path, &config, &model, &Metadata::default())?;
//! let restored = files::load::<Tailed, _>(&path, &cpu)?;
//! assert_eq!(restored.config.steps, 2);
//! let x = Tensor::full(&cpu, Shape::new(1, 2, &[])?, 0.5)?;
//! assert_eq!(model.forward(x.duplicate()?)?.state.to_vec()?, restored.model.forward(x)?.state.to_vec()?);
//! # Ok::<(), inn_core::Error>(())
//! ```
//!
//! # What to keep in mind
//! - The check is the only place that refuses; `map` and `pull` may rely on it.
//! - No branch on a value: both arms of [`select_ge`](inn_core::Scalar::select_ge) are computed, and have to stay finite.
//! - Gradients are added to what is there.
//! - A layer with a network inside is a [`Coupling`](inn_layers::Coupling) with another [`Transform`](inn_layers::coupling::Transform), seldom a
//!   new layer.
