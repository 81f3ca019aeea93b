//! Layers one after the other: lists, named chains, tuples.

use crate::backend::{Backend, Direction};
use crate::error::{Error, Result};
use crate::layer::{Facts, Gradients, Inputs, Invertible, Setup};
use crate::params::Scope;
use crate::shape::Shape;
use crate::view::{View, ViewMut};
use crate::visit::{Visitor, named, part};

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
    fn walk<B: Backend, V: Visitor<B>>(
        &self,
        path: &str,
        dir: Direction,
        at: &Inputs<'_, B>,
        x: &mut ViewMut<'_, B>,
        visitor: &mut V,
    ) -> Result<()> {
        walk!(dir, self.len(), i => self[i].walk(&part(path, i), dir, at, x, visitor))
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
    fn walk<B: Backend, V: Visitor<B>>(
        &self,
        path: &str,
        dir: Direction,
        at: &Inputs<'_, B>,
        x: &mut ViewMut<'_, B>,
        visitor: &mut V,
    ) -> Result<()> {
        walk!(dir, self.links.len(), i => self.links[i].1.walk(&named(path, &self.links[i].0), dir, at, x, visitor))
    }
    fn name(&self) -> String {
        format!("Chain of {}", self.links.len())
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
            fn walk<B: Backend, V: Visitor<B>>(
                &self,
                path: &str,
                dir: Direction,
                at: &Inputs<'_, B>,
                x: &mut ViewMut<'_, B>,
                visitor: &mut V,
            ) -> Result<()> {
                match dir {
                    Direction::Forward => { $(self.$index.walk(&part(path, $index), dir, at, x, visitor)?;)+ }
                    Direction::Inverse => { $(self.$reversed.walk(&part(path, $reversed), dir, at, x, visitor)?;)+ }
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
