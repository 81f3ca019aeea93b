//! A conditional scale.

use super::Defect;
use inn_core::kernel::UNIFORMS;
use inn_core::{
    Backend, Direction, Error, Facts, Gradients, Init, Inputs, Invertible, Kernel, Param, Result, Scalar, Scope, Shape, Tensor, View,
    ViewMut,
};

/// y = exp(ψ) x + t with ψ = s + tanh(c) for a condition c like x; ℓ = Σ ψ.
pub struct ConditionalScale {
    scale: Param,
    shift: Param,
    channels: usize,
    defect: Defect,
}

impl ConditionalScale {
    pub fn new(scope: &mut Scope<'_>, channels: usize, defect: Defect) -> Result<Self> {
        let scale = scope.vector("scale", channels, Init::Constant(0.0))?;
        let shift = scope.vector("shift", channels, Init::Constant(0.0))?;
        Ok(Self { scale, shift, channels, defect })
    }
}

impl Invertible for ConditionalScale {
    fn check(&self, _: Direction, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        facts.param(self.scale)?;
        facts.param(self.shift)?;
        if input.channels() != self.channels {
            return Err(Error::shape("input of the toy", format!("{} channels", self.channels), input));
        }
        let condition = facts.condition("toy", 0, input.batch())?;
        inn_core::error::expect_shape("condition 0", input.with_batch(condition.batch()), condition)?;
        Ok(input)
    }

    fn map<B: Backend>(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, logdet: &mut ViewMut<'_, B>) -> Result<()> {
        let (shape, backend) = (x.shape(), at.backend());
        let mut shift = Tensor::scratch(backend, Shape::per_channel(self.channels))?;
        match self.defect {
            Defect::HostConstant => {
                let window = at.param(self.shift)?.window();
                let arena = backend.read(at.theta.buffer())?;
                shift = Tensor::from_slice(backend, window.shape, &arena[window.offset..window.end()])?;
            }
            Defect::Scratch => {}
            _ => shift.view_mut().assign(backend, at.param(self.shift)?)?,
        }
        if self.defect == Defect::OverwriteLogdet {
            logdet.fill(backend, 0.0)?;
        }
        if self.defect == Defect::Leak && shape.batch() > 1 {
            let mut sum = Tensor::zeros(backend, shape.with_batch(1))?;
            sum.view_mut().axpy(backend, 0.1, x.view().samples(1..2))?;
            x.samples(0..1).axpy(backend, dir.sign(), sum.view())?;
        }
        let read = [at.param(self.scale)?.over_pixels(shape), shift.view().over_pixels(shape), at.condition(0)?];
        backend.zip(&Map(dir, self.defect), shape, &read, &mut [x.update()], &mut [], &mut [logdet.update()])
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
        let (shape, backend) = (y.shape(), at.backend());
        let (scale, shift) = (at.param(self.scale)?.over_pixels(shape), at.param(self.shift)?.over_pixels(shape));
        if self.defect == Defect::Overwrite {
            grads.param(self.scale)?.fill(backend, 0.0)?;
        }
        let read = [scale, shift, at.condition(0)?, gl.over_channels(shape)];
        let mut gc = grads.conditions[0].view_mut();
        let sums = grads.theta.update(&[self.scale, self.shift])?;
        let mut update = [y.update(), gy.update(), gc.update()];
        backend.zip(&Pull(dir, self.defect), shape, &read, &mut update, &mut [sums], &mut [])
    }
}

#[derive(Clone, Copy)]
struct Map(Direction, Defect);
impl Kernel for Map {
    const READ: usize = 3;
    const UPDATE: usize = 1;
    const SAMPLE_SUMS: usize = 1;
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], read: &[T], x: &mut [T], _: &mut [T], logdet: &mut [T]) {
        let (psi, t) = (read[0] + read[2].tanh(), self.1.weight::<T>() * read[1]);
        (x[0], logdet[0]) = match self.0 {
            Direction::Forward => (psi.exp() * x[0] + t, psi),
            Direction::Inverse if self.1 == Defect::Inverse => (x[0] * (-psi).exp(), -psi),
            Direction::Inverse => ((x[0] - t) * (-psi).exp(), -psi),
        };
        if self.1 == Defect::LogdetValue {
            logdet[0] = T::zero();
        }
    }
}

#[derive(Clone, Copy)]
struct Pull(Direction, Defect);
impl Kernel for Pull {
    const READ: usize = 4;
    const UPDATE: usize = 3;
    const CHANNEL_SUMS: usize = 2;
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], read: &[T], update: &mut [T], sums: &mut [T], _: &mut [T]) {
        let tanh = read[2].tanh();
        let weight = self.1.weight::<T>();
        let (psi, t) = (read[0] + tanh, weight * read[1]);
        let gl = match self.1 {
            Defect::LogdetGradient => T::zero(),
            Defect::MeanFactor => T::one(),
            _ => read[3],
        };
        let (state, g) = (update[0], update[1]);
        let gpsi;
        (update[0], update[1], gpsi, sums[1]) = match self.0 {
            Direction::Forward => {
                let (x, gx) = ((state - t) * (-psi).exp(), psi.exp() * g);
                (x, gx, gx * x + gl, g)
            }
            Direction::Inverse => {
                let a = (-psi).exp() * g;
                (psi.exp() * state + t, a, -(g * state + gl), -a)
            }
        };
        sums[1] = weight * sums[1];
        sums[0] = if self.1 == Defect::Sign { -gpsi } else { gpsi };
        if matches!(self.1, Defect::Shift | Defect::FaintShift) {
            sums[1] = T::zero();
        }
        if self.1 != Defect::Condition {
            update[2] = update[2] + gpsi * (T::one() - tanh.square());
        }
    }
}
