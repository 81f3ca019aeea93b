//! Layers made of layers: tuples, lists, named chains, parts of the channels, reversal, scales.

use crate::backend::{Backend, Direction, Squeeze};
use crate::error::{Error, Result};
use crate::layer::{Facts, Gradients, Inputs, Invertible, Setup};
use crate::params::Scope;
use crate::shape::Shape;
use crate::view::{View, ViewMut};
use std::ops::Range;

/// Delegates every method of [`Invertible`] to an inner layer, with the direction as `$dir` turns it.
macro_rules! delegate {
    ($self:ident => $inner:expr, $dir:ident => $turned:expr) => {
        fn check(&$self, $dir: Direction, facts: Facts<'_>, input: Shape) -> Result<Shape> {
            $inner.check($turned, facts, input)
        }
        fn map<B: Backend>(&$self, $dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, logdet: &mut ViewMut<'_, B>) -> Result<()> {
            $inner.map($turned, at, x, logdet)
        }
        fn pull<B: Backend>(
            &$self,
            $dir: Direction,
            at: &Inputs<'_, B>,
            y: &mut ViewMut<'_, B>,
            gy: &mut ViewMut<'_, B>,
            gl: View<'_, B>,
            grads: &mut Gradients<'_, B>,
        ) -> Result<()> {
            $inner.pull($turned, at, y, gy, gl, grads)
        }
        fn initialize<B: Backend>(&$self, $dir: Direction, at: &mut Setup<'_, B>, x: &mut ViewMut<'_, B>) -> Result<()> {
            $inner.initialize($turned, at, x)
        }
    };
}

impl<L: Invertible> Invertible for &L {
    delegate!(self => (**self), dir => dir);
    fn name(&self) -> String {
        (**self).name()
    }
}

impl<L: Invertible> Invertible for Box<L> {
    delegate!(self => (**self), dir => dir);
    fn name(&self) -> String {
        (**self).name()
    }
}

/// A layer seen from its other side: forward is the inverse, and the log-determinant changes its sign.
///
/// Complete in every mode, since every mode has a direction. Reversing twice is the layer itself. It is a view:
/// `Reversed(&layer)` copies nothing.
#[derive(Clone, Copy, Debug)]
pub struct Reversed<L>(pub L);

impl<L: Invertible> Invertible for Reversed<L> {
    delegate!(self => self.0, dir => dir.flip());
    fn name(&self) -> String {
        format!("Reversed {}", self.0.name())
    }
}

/// A layer on a range of the channels; the others stay as they are. Lanes are such ranges.
#[derive(Clone, Debug)]
pub struct On<L> {
    /// Which channels.
    pub channels: Range<usize>,
    /// The layer that acts on them.
    pub layer: L,
}

impl<L: Invertible> Invertible for On<L> {
    fn check(&self, dir: Direction, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        if self.channels.end > input.channels() || self.channels.is_empty() {
            return Err(Error::shape(self.name(), format!("more than {} channels", self.channels.end.max(1) - 1), input));
        }
        let part = input.with_channels(self.channels.len());
        let output = self.layer.check(dir, facts, part)?;
        if output != part {
            return Err(Error::config(self.name(), format!("expected a layer that keeps the shape {part}, got {output}")));
        }
        Ok(input)
    }
    fn map<B: Backend>(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, logdet: &mut ViewMut<'_, B>) -> Result<()> {
        self.layer.map(dir, at, &mut x.channels(self.channels.clone()), logdet)
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
        let range = self.channels.clone();
        self.layer.pull(dir, at, &mut y.channels(range.clone()), &mut gy.channels(range), gl, grads)
    }
    fn initialize<B: Backend>(&self, dir: Direction, at: &mut Setup<'_, B>, x: &mut ViewMut<'_, B>) -> Result<()> {
        self.layer.initialize(dir, at, &mut x.channels(self.channels.clone()))
    }
    fn name(&self) -> String {
        format!("{} on channels {:?}", self.layer.name(), self.channels)
    }
}

/// A list of layers, the first applied first, in the given direction: `walk!(dir, n, i => body)` runs `body` for i in the order of `dir`.
macro_rules! walk {
    ($dir:expr, $n:expr, $i:ident => $body:expr) => {
        match $dir {
            Direction::Forward => (0..$n).try_for_each(|$i| $body),
            Direction::Inverse => (0..$n).rev().try_for_each(|$i| $body),
        }
    };
}

impl<L: Invertible> Invertible for Vec<L> {
    fn check(&self, dir: Direction, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        let mut shape = input;
        walk!(dir, self.len(), i => {
            shape = self[i].check(dir, facts, shape)?;
            Ok(())
        })?;
        Ok(shape)
    }
    fn map<B: Backend>(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, logdet: &mut ViewMut<'_, B>) -> Result<()> {
        walk!(dir, self.len(), i => self[i].map(dir, at, x, logdet))
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
        walk!(dir.flip(), self.len(), i => self[i].pull(dir, at, y, gy, gl, grads))
    }
    fn initialize<B: Backend>(&self, dir: Direction, at: &mut Setup<'_, B>, x: &mut ViewMut<'_, B>) -> Result<()> {
        walk!(dir, self.len(), i => self[i].initialize(dir, at, x))
    }
}

/// A sequence of named layers, the first applied first: the composition L_n ∘ ... ∘ L_1.
///
/// Its log-determinant is the sum of theirs. A [`Trail`](crate::trail::Trail) is told of every layer that is passed.
#[derive(Clone, Debug)]
pub struct Chain<L> {
    links: Vec<(String, L)>,
}

impl<L> Chain<L> {
    /// Builds `count` layers in the scopes `{name}0`, `{name}1`, ...
    ///
    /// # Errors
    /// What `build` returns.
    pub fn build(
        scope: &mut Scope<'_>,
        name: &str,
        count: usize,
        mut build: impl FnMut(&mut Scope<'_>, usize) -> Result<L>,
    ) -> Result<Self> {
        let mut links = Vec::with_capacity(count);
        for i in 0..count {
            let mut scope = scope.sub(format!("{name}{i}"));
            let path = scope.path().to_owned();
            links.push((path, build(&mut scope, i)?));
        }
        Ok(Self { links })
    }

    /// From layers with names.
    pub fn from_layers(links: impl IntoIterator<Item = (String, L)>) -> Self {
        Self { links: links.into_iter().collect() }
    }

    /// The layers with their names, in the order of application.
    pub fn links(&self) -> &[(String, L)] {
        &self.links
    }

    /// Number of layers.
    pub fn len(&self) -> usize {
        self.links.len()
    }

    /// Whether it is the identity.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }
}

impl<L: Invertible> Invertible for Chain<L> {
    fn check(&self, dir: Direction, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        let mut shape = input;
        walk!(dir, self.links.len(), i => {
            shape = self.links[i].1.check(dir, facts, shape)?;
            Ok::<_, Error>(())
        })?;
        Ok(shape)
    }
    fn map<B: Backend>(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, logdet: &mut ViewMut<'_, B>) -> Result<()> {
        walk!(dir, self.links.len(), i => {
            let (name, layer) = &self.links[i];
            if let Some(trail) = at.trail {
                trail.leave(at.backend(), name, x)?;
            }
            layer.map(dir, at, x, logdet)
        })
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
        walk!(dir.flip(), self.links.len(), i => {
            self.links[i].1.pull(dir, at, y, gy, gl, grads)?;
            match at.trail {
                Some(trail) => trail.come_back(at.backend(), y),
                None => Ok(()),
            }
        })
    }
    fn initialize<B: Backend>(&self, dir: Direction, at: &mut Setup<'_, B>, x: &mut ViewMut<'_, B>) -> Result<()> {
        walk!(dir, self.links.len(), i => self.links[i].1.initialize(dir, at, x))
    }
    fn name(&self) -> String {
        format!("Chain of {}", self.links.len())
    }
}

/// Squeezes and unsqueezes: halves the extents, multiplies the channels. Log-determinant 0, adjoint = inverse.
impl Invertible for Squeeze {
    fn check(&self, dir: Direction, _: Facts<'_>, input: Shape) -> Result<Shape> {
        self.output(dir, input)
    }
    fn map<B: Backend>(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, _: &mut ViewMut<'_, B>) -> Result<()> {
        at.backend().squeeze(*self, dir, x)
    }
    fn pull<B: Backend>(
        &self,
        dir: Direction,
        at: &Inputs<'_, B>,
        y: &mut ViewMut<'_, B>,
        gy: &mut ViewMut<'_, B>,
        _: View<'_, B>,
        _: &mut Gradients<'_, B>,
    ) -> Result<()> {
        at.backend().squeeze(*self, dir.flip(), y)?;
        at.backend().squeeze(*self, dir.flip(), gy)
    }
    fn name(&self) -> String {
        format!("{self:?} squeeze")
    }
}

/// A multiscale network: at each scale squeeze, map, and leave part of the channels alone from there on (Dinh et al. 2017, section 3.6).
///
/// The state keeps its buffer and its shape: the channels that go on are a window, the others simply stay. The latent of a sample is
/// therefore per sample by construction, in the order [X_L; Z_{L-1}; ...; Z_1] where Z_i left after scale i, and the inverse needs
/// to know nothing but the shape.
#[derive(Clone, Debug)]
pub struct Multiscale<L> {
    /// Spatial axes of the data, which the numbers of channels depend on.
    pub rank: usize,
    /// The scales, finest first.
    pub scales: Vec<Scale<L>>,
}

/// One scale of a [`Multiscale`] network.
#[derive(Clone, Debug)]
pub struct Scale<L> {
    /// Applied first, if any.
    pub squeeze: Option<Squeeze>,
    /// What happens at this scale.
    pub layer: L,
    /// How many channels go on to the next scale; the rest is latent.
    pub keep: usize,
}

impl<L: Invertible> Multiscale<L> {
    fn descend<B: Backend>(
        scales: &[Scale<L>],
        dir: Direction,
        at: &Inputs<'_, B>,
        x: &mut ViewMut<'_, B>,
        logdet: &mut ViewMut<'_, B>,
    ) -> Result<()> {
        let Some((scale, rest)) = scales.split_first() else { return Ok(()) };
        let backend = at.backend();
        squeezed(scale.squeeze, backend, [x], |[x]| {
            let deeper = |x: &mut ViewMut<'_, B>, logdet: &mut ViewMut<'_, B>| {
                if rest.is_empty() { Ok(()) } else { Self::descend(rest, dir, at, &mut x.channels(0..scale.keep), logdet) }
            };
            match dir {
                Direction::Forward => {
                    scale.layer.map(dir, at, x, logdet)?;
                    deeper(x, logdet)
                }
                Direction::Inverse => {
                    deeper(x, logdet)?;
                    scale.layer.map(dir, at, x, logdet)
                }
            }
        })
    }

    fn ascend<B: Backend>(
        scales: &[Scale<L>],
        dir: Direction,
        at: &Inputs<'_, B>,
        y: &mut ViewMut<'_, B>,
        gy: &mut ViewMut<'_, B>,
        gl: View<'_, B>,
        grads: &mut Gradients<'_, B>,
    ) -> Result<()> {
        let Some((scale, rest)) = scales.split_first() else { return Ok(()) };
        // Reborrowed, so that both views have one lifetime.
        let (mut y, mut gy) = (y.reborrow(), gy.reborrow());
        squeezed(scale.squeeze, at.backend(), [&mut y, &mut gy], |[y, gy]| {
            if dir == Direction::Inverse {
                scale.layer.pull(dir, at, y, gy, gl, grads)?;
            }
            if !rest.is_empty() {
                let keep = 0..scale.keep;
                Self::ascend(rest, dir, at, &mut y.channels(keep.clone()), &mut gy.channels(keep), gl, grads)?;
            }
            if dir == Direction::Forward {
                scale.layer.pull(dir, at, y, gy, gl, grads)?;
            }
            Ok(())
        })
    }
}

/// Squeezes views, calls `f`, and unsqueezes them. Both directions of a multiscale network see each scale squeezed.
fn squeezed<B: Backend, const N: usize>(
    squeeze: Option<Squeeze>,
    backend: &B,
    mut views: [&mut ViewMut<'_, B>; N],
    f: impl FnOnce([&mut ViewMut<'_, B>; N]) -> Result<()>,
) -> Result<()> {
    let Some(squeeze) = squeeze else { return f(views) };
    for view in &mut views {
        backend.squeeze(squeeze, Direction::Forward, view)?;
    }
    f(views.each_mut().map(|view| &mut **view))?;
    for view in &mut views {
        backend.squeeze(squeeze, Direction::Inverse, view)?;
    }
    Ok(())
}

impl<L: Invertible> Invertible for Multiscale<L> {
    fn check(&self, dir: Direction, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        if input.rank() != self.rank {
            return Err(Error::shape("input of the network", format!("{} spatial axes", self.rank), input));
        }
        let mut shape = input;
        for (i, scale) in self.scales.iter().enumerate() {
            if let Some(squeeze) = scale.squeeze {
                shape = squeeze.output(Direction::Forward, shape).map_err(|e| too_deep(e, i, self.scales.len(), input))?;
            }
            let output = scale.layer.check(dir, facts, shape)?;
            if output != shape {
                return Err(Error::config(format!("scale {i}"), format!("expected a layer that keeps the shape {shape}, got {output}")));
            }
            if i + 1 < self.scales.len() {
                if scale.keep == 0 || scale.keep > shape.channels() {
                    let expected = format!("1 to {} channels to keep", shape.channels());
                    return Err(Error::shape(format!("scale {i}"), expected, scale.keep));
                }
                shape = shape.with_channels(scale.keep);
            }
        }
        Ok(input)
    }
    fn map<B: Backend>(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, logdet: &mut ViewMut<'_, B>) -> Result<()> {
        Self::descend(&self.scales, dir, at, x, logdet)
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
        Self::ascend(&self.scales, dir, at, y, gy, gl, grads)
    }
    fn initialize<B: Backend>(&self, dir: Direction, at: &mut Setup<'_, B>, x: &mut ViewMut<'_, B>) -> Result<()> {
        initialize_scales(&self.scales, dir, at, x)
    }
    fn name(&self) -> String {
        format!("Multiscale of {}", self.scales.len())
    }
}

fn initialize_scales<L: Invertible, B: Backend>(
    scales: &[Scale<L>],
    dir: Direction,
    at: &mut Setup<'_, B>,
    x: &mut ViewMut<'_, B>,
) -> Result<()> {
    let Some((scale, rest)) = scales.split_first() else { return Ok(()) };
    let backend = at.theta.backend().clone();
    squeezed(scale.squeeze, &backend, [x], |[x]| {
        if dir == Direction::Forward {
            scale.layer.initialize(dir, at, x)?;
        }
        if !rest.is_empty() {
            initialize_scales(rest, dir, at, &mut x.channels(0..scale.keep))?;
        }
        if dir == Direction::Inverse {
            scale.layer.initialize(dir, at, x)?;
        }
        Ok(())
    })
}

/// Says how large an image has to be, where a squeeze said only that its own input was odd.
fn too_deep(e: Error, scale: usize, scales: usize, input: Shape) -> Error {
    match e {
        Error::Shape { .. } if input.rank() > 0 => Error::shape(
            format!("scale {scale} of {scales}"),
            format!("spatial extents that are multiples of {}", 1usize.checked_shl(scales as u32).unwrap_or(usize::MAX)),
            input,
        ),
        other => other,
    }
}

macro_rules! tuple {
    ($($layer:ident $index:tt),+; $($reversed:tt),+) => {
        /// Layers one after the other, the first applied first.
        impl<$($layer: Invertible),+> Invertible for ($($layer,)+) {
            fn check(&self, dir: Direction, facts: Facts<'_>, input: Shape) -> Result<Shape> {
                let mut shape = input;
                match dir {
                    Direction::Forward => { $(shape = self.$index.check(dir, facts, shape)?;)+ }
                    Direction::Inverse => { $(shape = self.$reversed.check(dir, facts, shape)?;)+ }
                }
                Ok(shape)
            }
            fn map<B: Backend>(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, logdet: &mut ViewMut<'_, B>) -> Result<()> {
                match dir {
                    Direction::Forward => { $(self.$index.map(dir, at, x, logdet)?;)+ }
                    Direction::Inverse => { $(self.$reversed.map(dir, at, x, logdet)?;)+ }
                }
                Ok(())
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
                match dir {
                    Direction::Forward => { $(self.$reversed.pull(dir, at, y, gy, gl, grads)?;)+ }
                    Direction::Inverse => { $(self.$index.pull(dir, at, y, gy, gl, grads)?;)+ }
                }
                Ok(())
            }
            fn initialize<B: Backend>(&self, dir: Direction, at: &mut Setup<'_, B>, x: &mut ViewMut<'_, B>) -> Result<()> {
                match dir {
                    Direction::Forward => { $(self.$index.initialize(dir, at, x)?;)+ }
                    Direction::Inverse => { $(self.$reversed.initialize(dir, at, x)?;)+ }
                }
                Ok(())
            }
            fn name(&self) -> String {
                [$(self.$index.name()),+].join(", ")
            }
        }
    };
}
tuple!(A 0, C 1; 1, 0);
tuple!(A 0, C 1, D 2; 2, 1, 0);
tuple!(A 0, C 1, D 2, E 3; 3, 2, 1, 0);
tuple!(A 0, C 1, D 2, E 3, F 4; 4, 3, 2, 1, 0);
tuple!(A 0, C 1, D 2, E 3, F 4, G 5; 5, 4, 3, 2, 1, 0);
tuple!(A 0, C 1, D 2, E 3, F 4, G 5, H 6; 6, 5, 4, 3, 2, 1, 0);
