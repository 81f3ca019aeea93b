//! Which array of the original is which parameter of ours.

use super::Array;
use inn_core::{Backend, Element, Error, Layout, Params, Result, tensor::expect_finite};
use std::sync::Arc;

/// How an array of the original lies in a parameter of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    Whole,
    /// A kernel (c_out, c_in, ..) with every axis after the first two flipped.
    Kernel,
    /// A vector that is this row of a matrix.
    Row(usize),
    /// A matrix (inputs, outputs), with us (outputs, inputs).
    Transposed,
}

/// One array of the original.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its name there, such as `CL[1,2].RB.W1`.
    pub theirs: String,
    /// The parameter that holds it, such as `level0.step1.coupling.conv1.weight`.
    pub ours: String,
    /// How it lies there.
    pub form: Form,
}

/// The arrays of a layer or network of the original, in its order, and where each of them lies with us.
///
/// It maps whatever has one value for each parameter: weights, gradients, tangents. Layers are appended one after the other, each with the
/// name that it has there and the scope that it has here; an empty name is the top.
///
/// ```
/// use inn_networks::import::Correspondence;
///
/// let step = Correspondence::new().actnorm("AN", "actnorm").householder("CL.C", "mix").residual_block("CL.RB", "coupling");
/// assert_eq!(step.slots()[2].theirs, "CL.C.v1");
/// assert_eq!(step.slots()[5].ours, "coupling.conv1.weight");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Correspondence(Vec<Slot>);

impl Correspondence {
    /// No arrays.
    pub fn new() -> Self {
        Self::default()
    }

    /// The arrays, in the order of the original.
    pub fn slots(&self) -> &[Slot] {
        &self.0
    }

    fn push(mut self, (theirs, ours): (&str, &str), arrays: &[(&str, &str, Form)]) -> Self {
        self.0.extend(arrays.iter().map(|&(a, b, form)| Slot { theirs: join(theirs, a), ours: join(ours, b), form }));
        self
    }

    /// `ActNorm`: s, b.
    #[must_use]
    pub fn actnorm(self, theirs: &str, ours: &str) -> Self {
        self.push((theirs, ours), &[("s", "scale", Form::Whole), ("b", "bias", Form::Whole)])
    }

    /// `Conv1x1`: v1, v2, v3.
    #[must_use]
    pub fn householder(self, theirs: &str, ours: &str) -> Self {
        let row = |name, i| (name, "vectors", Form::Row(i));
        self.push((theirs, ours), &[row("v1", 0), row("v2", 1), row("v3", 2)])
    }

    /// `ResidualBlock`: W1, W2, W3, b1, b2.
    #[must_use]
    pub fn residual_block(self, theirs: &str, ours: &str) -> Self {
        let arrays = [
            ("W1", "conv1.weight", Form::Kernel),
            ("W2", "conv2.weight", Form::Kernel),
            ("W3", "conv3.weight", Form::Kernel),
            ("b1", "conv1.bias", Form::Whole),
            ("b2", "conv2.bias", Form::Whole),
        ];
        self.push((theirs, ours), &arrays)
    }

    /// `CouplingLayerGlow` and `ConditionalLayerGlow`: the mixing C and the residual block RB, with us `mix` and `coupling`.
    #[must_use]
    pub fn glow_coupling(self, theirs: &str, ours: &str) -> Self {
        self.householder(&join(theirs, "C"), &join(ours, "mix")).residual_block(&join(theirs, "RB"), &join(ours, "coupling"))
    }

    /// The dense block inside a coupling of `NetworkGlow(..; dense = true)`, of `layers` layers: weight and bias of each.
    #[must_use]
    pub fn dense_block(self, theirs: &str, ours: &str, layers: usize) -> Self {
        (0..layers).fold(self, |order, i| {
            let arrays = [("W", "weight", Form::Transposed), ("b", "bias", Form::Whole)];
            order.push((&join(theirs, &format!("layers[{}]", i + 1)), &join(ours, &format!("layer{i}"))), &arrays)
        })
    }

    /// `ResNet` without normalization: the convolutions of each of its `blocks` residual blocks, then the last one if it is there.
    #[must_use]
    pub fn resnet(self, theirs: &str, ours: &str, blocks: usize, last: bool) -> Self {
        let arrays = [("W", "weight", Form::Kernel), ("b", "bias", Form::Whole)];
        let units = (0..blocks).flat_map(|i| {
            let unit = move |k: usize| (format!("blocks[{}].conv{k}", i + 1), format!("block{i}.conv{k}"));
            [unit(1), unit(2)]
        });
        let end = last.then(|| (format!("blocks[{}]", blocks + 1), "last".to_owned()));
        units.chain(end).fold(self, |order, (a, b)| order.push((&join(theirs, &a), &join(ours, &b)), &arrays))
    }

    /// `AffineLayer`: s, b.
    #[must_use]
    pub fn affine_layer(self, theirs: &str, ours: &str) -> Self {
        self.actnorm(theirs, ours)
    }

    /// `CouplingLayerIRIM`: C and RB, with us `mix` and `coupling`.
    #[must_use]
    pub fn irim_coupling(self, theirs: &str, ours: &str) -> Self {
        self.glow_coupling(theirs, ours)
    }

    /// `CouplingLayerHINT` on `channels` channels, a power of two: CL of each depth, which are shared, then C if it is there.
    #[must_use]
    pub fn hint_coupling(self, theirs: &str, ours: &str, channels: usize, mixed: bool) -> Self {
        let (mut order, mut depth, mut size) = (self, 0, channels);
        loop {
            order = order.residual_block(&join(theirs, &format!("CL[{}].RB", depth + 1)), &join(ours, &format!("coupling{depth}_{size}")));
            if size <= 4 {
                break;
            }
            (depth, size) = (depth + 1, size / 2);
        }
        if mixed { order.householder(&join(theirs, "C"), &join(ours, "mix")) } else { order }
    }

    /// `ConditionalLayerHINT` on lanes of `channels` channels: CL_X, CL_Y, CL_YX, then C_X and C_Y if they are there.
    #[must_use]
    pub fn conditional_hint(self, theirs: &str, ours: &str, channels: usize, mixed: bool) -> Self {
        let order = self
            .hint_coupling(&join(theirs, "CL_X"), &join(ours, "x"), channels, false)
            .hint_coupling(&join(theirs, "CL_Y"), &join(ours, "y"), channels, false)
            .residual_block(&join(theirs, "CL_YX.RB"), &join(ours, "coupling"));
        if !mixed {
            return order;
        }
        order.householder(&join(theirs, "C_X"), &join(ours, "x.mix")).householder(&join(theirs, "C_Y"), &join(ours, "y.mix"))
    }

    /// `ConditionalResidualBlock`: W0, W1, W2, W3, b0, b1, b2.
    #[must_use]
    pub fn conditional_residual_block(self, theirs: &str, ours: &str) -> Self {
        let arrays = [
            ("W0", "embed.weight", Form::Whole),
            ("W1", "conv1.weight", Form::Kernel),
            ("W2", "conv2.weight", Form::Kernel),
            ("W3", "conv3.weight", Form::Kernel),
            ("b0", "embed.bias", Form::Whole),
            ("b1", "conv1.bias", Form::Whole),
            ("b2", "conv2.bias", Form::Whole),
        ];
        self.push((theirs, ours), &arrays)
    }

    /// `HyperbolicLayer`: W, b.
    #[must_use]
    pub fn hyperbolic_layer(self, theirs: &str, ours: &str) -> Self {
        self.push((theirs, ours), &[("W", "weight", Form::Kernel), ("b", "bias", Form::Whole)])
    }

    /// Takes the arrays of the original into parameters of `layout`.
    ///
    /// # Errors
    /// Another number of arrays, axes that do not fit, a value that is not finite or does not fit the element type, and a parameter
    /// that no array sets.
    pub fn load<B: Backend>(&self, backend: &B, layout: &Arc<Layout>, arrays: &[&Array]) -> Result<Params<B>> {
        if arrays.len() != self.0.len() {
            let names = self.0.first().zip(self.0.last()).map_or(String::new(), |(a, b)| format!(" ({} .. {})", a.theirs, b.theirs));
            return Err(Error::shape("arrays of the original", format!("{} arrays{names}", self.0.len()), arrays.len()));
        }
        let mut host = vec![0.0; layout.len()];
        let mut set = vec![false; layout.len()];
        for (slot, array) in self.0.iter().zip(arrays) {
            let place = self.place(layout, slot)?;
            let name = format!("{} (our {})", slot.theirs, slot.ours);
            if array.dims != place.dims || array.values.len() != place.range.len() {
                return Err(Error::shape(name, format!("{:?}", place.dims), format!("{:?}", array.dims)));
            }
            expect_finite(&name, &array.values)?;
            let narrowed: Vec<B::Elem> = array.values.iter().map(|&v| B::Elem::from_f64(v)).collect();
            expect_finite(&name, &narrowed)?;
            set[place.range.clone()].fill(true);
            place.load(&array.values, &mut host[place.range.clone()]);
        }
        match layout.entries().iter().find(|e| set[e.range()].iter().any(|set| !set)) {
            None => Params::from_flat(backend, layout, &host),
            Some(entry) => {
                let reason = "no array of the original sets all of it; expected a network that the original has".into();
                Err(Error::Parameter { name: entry.name().into(), reason })
            }
        }
    }

    /// The way back: parameters, or gradients of them, as arrays of the original. Waits for the device.
    ///
    /// # Errors
    /// Parameters of another network.
    pub fn store<B: Backend>(&self, params: &Params<B>) -> Result<Vec<Array>> {
        let host = params.to_flat()?;
        let array = |slot| {
            let place = self.place(params.layout(), slot)?;
            let mut values = vec![0.0; place.range.len()];
            place.store(&host[place.range.clone()], &mut values);
            Ok(Array { dims: place.dims, values })
        };
        self.0.iter().map(array).collect()
    }

    fn place(&self, layout: &Layout, slot: &Slot) -> Result<Place> {
        let refuse =
            |reason: &str| Error::Parameter { name: slot.ours.clone(), reason: format!("{reason} for the original's {}", slot.theirs) };
        let entry = layout.find(&slot.ours).ok_or_else(|| refuse("expected such a parameter"))?;
        let (mut dims, mut range) = (entry.dims().to_vec(), entry.range());
        let mut order = Order::Reversed(1);
        match (slot.form, &dims[..]) {
            (Form::Whole, _) => {}
            (Form::Kernel, [_, _, kernel @ ..]) => order = Order::Reversed(kernel.iter().product()),
            (Form::Row(i), &[rows, columns]) if i < rows => {
                range = range.start + i * columns..range.start + (i + 1) * columns;
                dims = vec![columns];
            }
            (Form::Transposed, &[outputs, inputs]) => {
                order = Order::Transposed { inputs, outputs };
                dims = vec![inputs, outputs];
            }
            (form, _) => return Err(refuse(&format!("expected a parameter that has the form {form:?}, got axes {dims:?}"))),
        }
        Ok(Place { dims, range, order })
    }
}

/// The name of a part; an empty path is the top.
fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Where an array lies in a flat parameter vector.
struct Place {
    dims: Vec<usize>,
    range: std::ops::Range<usize>,
    order: Order,
}

/// How its values are ordered there.
enum Order {
    /// Each run of so many values is reversed: flipping every axis of a kernel is that, and its own inverse.
    Reversed(usize),
    /// (inputs, outputs) is (outputs, inputs) with us.
    Transposed { inputs: usize, outputs: usize },
}

impl Place {
    fn load(&self, theirs: &[f64], ours: &mut [f64]) {
        match self.order {
            Order::Reversed(taps) => reverse(taps, theirs, ours),
            Order::Transposed { outputs, .. } => transpose(outputs, theirs, ours),
        }
    }

    fn store(&self, ours: &[f64], theirs: &mut [f64]) {
        match self.order {
            Order::Reversed(taps) => reverse(taps, ours, theirs),
            Order::Transposed { inputs, .. } => transpose(inputs, ours, theirs),
        }
    }
}

fn reverse(taps: usize, from: &[f64], to: &mut [f64]) {
    for (from, to) in from.chunks(taps).zip(to.chunks_mut(taps)) {
        from.iter().rev().zip(to).for_each(|(from, to)| *to = *from);
    }
}

/// `from` has rows of `columns` values.
fn transpose(columns: usize, from: &[f64], to: &mut [f64]) {
    for (column, to) in to.chunks_mut(from.len() / columns.max(1)).enumerate() {
        from.iter().skip(column).step_by(columns).zip(to).for_each(|(from, to)| *to = *from);
    }
}
