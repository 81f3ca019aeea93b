//! Couplings that preserve volume although they scale.

use super::Transform;
use inn_core::kernel::UNIFORMS;
use inn_core::{
    Backend, Conditioner, Direction, Error, Facts, Gradients, Inputs, Kernel, Result, Saved, Scalar, Shape, Tensor, View, ViewMut,
};
use inn_ops::ScaleMap;

/// y = exp(v) x + t from coefficients (v, t) whose v sum to zero over a sample, as [`Centered`] makes them: the log-determinant is 0.
///
/// With g the cotangent of y: gx = exp(v) g, gt = g, gv = exp(v) x g. For the inverse map, with a = exp(-v) gx: gy = a, gt = -a, gv = -gx x.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct VolumePreserving;

impl Transform for VolumePreserving {
    const OUTPUTS: usize = 2;
    const HAS_LOGDET: bool = false;

    #[inline(always)]
    fn map<T: Scalar>(&self, dir: Direction, out: &[T], moved: &mut T) -> T {
        *moved = match dir {
            Direction::Forward => out[0].exp() * *moved + out[1],
            Direction::Inverse => (*moved - out[1]) * (-out[0]).exp(),
        };
        T::zero()
    }

    #[inline(always)]
    fn pull<T: Scalar>(&self, dir: Direction, _: T, moved: &mut T, g: &mut T, out: &mut [T]) {
        let (v, t) = (out[0], out[1]);
        match dir {
            Direction::Forward => {
                let (x, gx) = ((*moved - t) * (-v).exp(), v.exp() * *g);
                (out[0], out[1]) = (gx * x, *g);
                (*moved, *g) = (x, gx);
            }
            Direction::Inverse => {
                let (x, a) = (*moved, (-v).exp() * *g);
                (out[0], out[1]) = (-(*g * x), -a);
                (*moved, *g) = (v.exp() * x + t, a);
            }
        }
    }
}

/// A conditioner (u, t) whose first half becomes log-scales that sum to zero over every sample (GIN; Sorrenson, Rother & Köthe 2020,
/// arXiv:2001.04872, section 3.2).
///
/// ```text
/// v_i = ψ(u_i) - m,    m = (1/n) Σ_j ψ(u_j)      n = the values of u in a sample, channels and pixels
/// ```
/// The paper sets the last log-scale to minus the sum of the others, which may be as large as all of them together; subtracting the mean spans the
/// same maps and keeps |v| below twice the bound of ψ. Where only one value is moved, v is 0.
///
/// # VJP
/// From the cotangent g of v, with ḡ its mean over the sample: gu_i = ψ'(u_i) (g_i - ḡ). u is kept from the forward pass.
#[derive(Clone, Debug)]
pub struct Centered<N> {
    /// The network that says (u, t).
    pub net: N,
    /// ψ.
    pub scale: ScaleMap,
}

impl<N> Centered<N> {
    /// Adds the mean of ψ(u), or of u as it is, over each sample to a fresh tensor.
    fn mean<B: Backend>(&self, backend: &B, scale: Option<ScaleMap>, u: View<'_, B>) -> Result<Tensor<B>> {
        let shape = u.shape();
        let mut mean = Tensor::zeros(backend, Shape::per_sample(shape.batch()))?;
        let kernel = Mean { scale, weight: 1.0 / shape.sample_len().max(1) as f64 };
        backend.zip(&kernel, shape, &[u], &mut [], &mut [], &mut [mean.view_mut().update()])?;
        Ok(mean)
    }
}

impl<N: Conditioner> Conditioner for Centered<N> {
    fn check(&self, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        self.scale.validate()?;
        let output = self.net.check(facts, input)?;
        if output.channels().is_multiple_of(2) {
            Ok(output)
        } else {
            Err(Error::shape("output of a centered conditioner", "an even number of channels", output))
        }
    }

    fn hidden_bytes<B: Backend>(&self, at: &Inputs<'_, B>, x: View<'_, B>, save: bool) -> Result<usize> {
        // Without u, which is half of what the coupling counts for its coefficients: a tile is an estimate.
        self.net.hidden_bytes(at, x, save)
    }

    fn forward<B: Backend>(&self, at: &Inputs<'_, B>, x: View<'_, B>, out: &mut ViewMut<'_, B>) -> Result<Saved<B>> {
        let backend = at.backend();
        let mut saved = self.net.forward(at, x, out)?;
        let half = out.shape().channels() / 2;
        let mut v = out.channels(0..half);
        let shape = v.shape();
        let mut u = Tensor::scratch(backend, shape)?;
        u.view_mut().assign(backend, v.view())?;
        let mean = self.mean(backend, Some(self.scale), u.view())?;
        let read = [mean.view().over_channels(shape)];
        backend.zip(&Center(self.scale), shape, &read, &mut [v.update()], &mut [], &mut [])?;
        saved.0.push(u);
        Ok(saved)
    }

    fn vjp<B: Backend>(
        &self,
        at: &Inputs<'_, B>,
        x: View<'_, B>,
        mut saved: Saved<B>,
        gout: &mut ViewMut<'_, B>,
        gx: &mut ViewMut<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()> {
        let backend = at.backend();
        let Some(u) = saved.0.pop() else {
            return Err(Error::backend(backend.name(), "expected the values saved by forward"));
        };
        {
            let mut g = gout.channels(0..u.shape().channels());
            let mean = self.mean(backend, None, g.view())?;
            let read = [u.view(), mean.view().over_channels(u.shape())];
            backend.zip(&PullCenter(self.scale), u.shape(), &read, &mut [g.update()], &mut [], &mut [])?;
        }
        drop(u);
        self.net.vjp(at, x, saved, gout, gx, grads)
    }
}

/// The mean of ψ(u), or of u, over a sample.
#[derive(Clone, Copy)]
struct Mean {
    scale: Option<ScaleMap>,
    weight: f64,
}
impl Kernel for Mean {
    const READ: usize = 1;
    const UPDATE: usize = 0;
    const SAMPLE_SUMS: usize = 1;
    fn uniforms(&self) -> [f64; UNIFORMS] {
        [self.weight, 0.0, 0.0, 0.0]
    }
    #[inline(always)]
    fn eval<T: Scalar>(&self, u: &[T; UNIFORMS], read: &[T], _: &mut [T], _: &mut [T], sums: &mut [T]) {
        sums[0] = u[0] * self.scale.map_or(read[0], |scale| scale.log_scale(read[0]));
    }
}

/// v = ψ(v) - mean.
#[derive(Clone, Copy)]
struct Center(ScaleMap);
impl Kernel for Center {
    const READ: usize = 1;
    const UPDATE: usize = 1;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], read: &[T], update: &mut [T], _: &mut [T], _: &mut [T]) {
        update[0] = self.0.log_scale(update[0]) - read[0];
    }
}

/// g = ψ'(u) (g - mean).
#[derive(Clone, Copy)]
struct PullCenter(ScaleMap);
impl Kernel for PullCenter {
    const READ: usize = 2;
    const UPDATE: usize = 1;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], read: &[T], update: &mut [T], _: &mut [T], _: &mut [T]) {
        update[0] = self.0.log_scale_derivative(read[0]) * (update[0] - read[1]);
    }
}
