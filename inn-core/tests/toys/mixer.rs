//! A layer that carries an external operator, that operator, and the same convolution as a conditioner.

use super::Defect;
use inn_core::kernel::UNIFORMS;
use inn_core::{
    Backend, Conditioner, Conv, Direction, Error, Facts, Gradients, Init, Inputs, Invertible, Kernel, LinearOperator, Param, Result, Saved,
    Scalar, Scope, Shape, Tensor, View, ViewMut, Write,
};

/// Two lanes: x_2 += θ ⊙ A x_1 with A from outside; ℓ = 0.
pub struct Mixer {
    theta: Param,
    lane: usize,
}

impl Mixer {
    pub fn new(scope: &mut Scope<'_>, lane: usize) -> Result<Self> {
        Ok(Self { theta: scope.vector("strength", lane, Init::Constant(1.0))?, lane })
    }

    /// t = A x_1.
    fn product<B: Backend>(&self, at: &Inputs<'_, B>, x: View<'_, B>) -> Result<Tensor<B>> {
        let lane = x.channels(0..self.lane);
        let mut t = Tensor::scratch(at.backend(), lane.shape())?;
        at.operator()?.apply(at.backend(), lane, &mut t.view_mut(), Write::Set)?;
        Ok(t)
    }
}

impl Invertible for Mixer {
    fn check(&self, _: Direction, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        facts.param(self.theta)?;
        if input.channels() != 2 * self.lane {
            return Err(Error::shape("input of the mixer", format!("{} channels", 2 * self.lane), input));
        }
        let Some((domain, range)) = facts.operator else {
            return Err(Error::Missing { layer: "mixer".into(), what: "a linear operator".into() });
        };
        let expected = input.with_channels(self.lane).with_batch(1);
        inn_core::error::expect_shape("domain of the operator", expected, domain)?;
        inn_core::error::expect_shape("range of the operator", expected, range)?;
        Ok(input)
    }

    fn map<B: Backend>(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, _: &mut ViewMut<'_, B>) -> Result<()> {
        let t = self.product(at, x.view())?;
        let read = [at.param(self.theta)?.over_pixels(t.shape()), t.view()];
        let mut moved = x.channels(self.lane..2 * self.lane);
        at.backend().zip(&AddProduct(dir.sign()), t.shape(), &read, &mut [moved.update()], &mut [], &mut [])
    }

    fn pull<B: Backend>(
        &self,
        dir: Direction,
        at: &Inputs<'_, B>,
        y: &mut ViewMut<'_, B>,
        gy: &mut ViewMut<'_, B>,
        gl: View<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()> {
        let mut unused = Tensor::zeros(at.backend(), gl.shape())?;
        self.map(dir.flip(), at, y, &mut unused.view_mut())?;
        let mut t = self.product(at, y.view())?;
        let shape = t.shape();
        let read = [at.param(self.theta)?.over_pixels(shape), gy.view().channels(self.lane..2 * self.lane)];
        let sums = grads.theta.update(&[self.theta])?;
        at.backend().zip(&PullProduct(dir.sign()), shape, &read, &mut [t.view_mut().update()], &mut [sums], &mut [])?;
        at.operator()?.apply_adjoint(at.backend(), t.view(), &mut gy.channels(0..self.lane), Write::Add)
    }
}

/// x ±= θ t.
#[derive(Clone, Copy)]
struct AddProduct(f64);
impl Kernel for AddProduct {
    const READ: usize = 2;
    const UPDATE: usize = 1;
    fn uniforms(&self) -> [f64; UNIFORMS] {
        [self.0, 0.0, 0.0, 0.0]
    }
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], read: &[T], x: &mut [T], _: &mut [T], _: &mut [T]) {
        x[0] = x[0] + u[0] * read[0] * read[1];
    }
}

/// t becomes its cotangent ±θ g; Σ ±t g is that of θ.
#[derive(Clone, Copy)]
struct PullProduct(f64);
impl Kernel for PullProduct {
    const READ: usize = 2;
    const UPDATE: usize = 1;
    const CHANNEL_SUMS: usize = 1;
    fn uniforms(&self) -> [f64; UNIFORMS] {
        [self.0, 0.0, 0.0, 0.0]
    }
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], read: &[T], t: &mut [T], sums: &mut [T], _: &mut [T]) {
        let g = u[0] * read[1];
        (sums[0], t[0]) = (g * t[0], g * read[0]);
    }
}

const TAPS: Conv = Conv { stride: 1, padding: 1 };

/// A convolution with three taps on one axis, the same for all samples, as an operator.
pub struct Blur<B: Backend> {
    shape: Shape,
    weight: Tensor<B>,
    /// The weight of the adjoint.
    back: Tensor<B>,
    defect: Defect,
}

impl<B: Backend> Blur<B> {
    pub fn new(backend: &B, length: usize, defect: Defect) -> Self {
        let kernel = Shape::new(1, 1, &[3]).unwrap();
        let taps = [0.7, -0.4, 0.2];
        let back = if defect == Defect::Pixel { [-0.4, 0.2, 0.0] } else { taps };
        let weight = |taps: &[f64]| Tensor::from_f64(backend, kernel, taps).unwrap();
        Self { shape: Shape::new(1, 1, &[length]).unwrap(), weight: weight(&taps), back: weight(&back), defect }
    }
}

impl<B: Backend> LinearOperator<B> for Blur<B> {
    fn domain(&self) -> Shape {
        self.shape
    }
    fn range(&self) -> Shape {
        self.shape
    }
    fn apply(&self, backend: &B, x: View<'_, B>, y: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
        let write = if self.defect == Defect::WriteAdd { Write::Set } else { write };
        backend.conv(TAPS, x, self.weight.view(), y, write)?;
        if self.defect == Defect::Affine {
            let mut one = Tensor::full(backend, y.shape(), 1.0)?;
            y.axpy(backend, 1.0, one.view_mut().view())?;
        }
        Ok(())
    }
    fn apply_adjoint(&self, backend: &B, y: View<'_, B>, x: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
        backend.conv_input(TAPS, y, self.back.view(), x, write)
    }
}

/// The convolution as a conditioner with the taps as a parameter.
pub struct BlurNet {
    taps: Param,
    defect: Defect,
}

impl BlurNet {
    pub fn new(scope: &mut Scope<'_>, defect: Defect) -> Result<Self> {
        Ok(Self { taps: scope.weight("taps", 1, 1, &[3], Init::Normal(0.5))?, defect })
    }
}

impl Conditioner for BlurNet {
    fn check(&self, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        TAPS.output(input, facts.param(self.taps)?)
    }
    fn hidden_bytes<B: Backend>(&self, _: &Inputs<'_, B>, _: View<'_, B>, _: bool) -> Result<usize> {
        Ok(0)
    }
    fn forward<B: Backend>(&self, at: &Inputs<'_, B>, x: View<'_, B>, out: &mut ViewMut<'_, B>) -> Result<Saved<B>> {
        at.backend().conv(TAPS, x, at.param(self.taps)?, out, Write::Set)?;
        Ok(Saved(Vec::new()))
    }
    fn vjp<B: Backend>(
        &self,
        at: &Inputs<'_, B>,
        x: View<'_, B>,
        _: Saved<B>,
        gout: &mut ViewMut<'_, B>,
        gx: &mut ViewMut<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()> {
        let backend = at.backend();
        let write = |defect| if self.defect == defect { Write::Set } else { Write::Add };
        backend.conv_weight(TAPS, x, gout.view(), &mut grads.param(self.taps)?, write(Defect::Overwrite))?;
        let mut window = at.param(self.taps)?.window();
        if self.defect == Defect::Pixel {
            // One tap further; what follows a parameter is zero.
            window.offset += 1;
        }
        let taps = View::new(at.theta.buffer(), window)?;
        backend.conv_input(TAPS, gout.view(), taps, gx, write(Defect::OverwriteInput))
    }
}
