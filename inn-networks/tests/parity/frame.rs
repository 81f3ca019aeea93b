//! How the original's inputs and outputs lie in the state of ours.

use inn_core::{Backend, Direction, Shape, Squeeze, Tensor};
use inn_networks::import::Array;
use inn_ops::split::half;
use inn_ops::{Cpu, CpuElement};

/// The arrays of one side of a map.
#[derive(Clone, Copy, Debug)]
pub enum Side {
    /// One array, the state.
    State,
    /// Two arrays of as many channels, lanes of the state; `swapped` when the second is the lower lane.
    Lanes { swapped: bool },
    /// Two arrays, the first of one channel: an image and its memory.
    Image,
    /// The output of a network that is not invertible: the upper channels, above `inputs` that are kept.
    Output { inputs: usize },
    /// The latents of a multiscale network with the data's shape `data`, or that of each of two lanes: one vector a lane, each part over the whole
    /// batch, finest first. `splits` of the levels are split; without any the vector is the state of the last level.
    Latents { lanes: usize, data: Shape, squeeze: Squeeze, levels: usize, splits: usize },
}

impl Side {
    /// How many arrays.
    pub fn arrays(self) -> usize {
        match self {
            Self::State | Self::Output { .. } => 1,
            Self::Lanes { .. } | Self::Image => 2,
            Self::Latents { lanes, .. } => lanes,
        }
    }

    /// The state that holds `arrays`.
    pub fn join<T: CpuElement>(self, cpu: &Cpu<T>, arrays: &[&Array]) -> Tensor<Cpu<T>> {
        match (self, arrays) {
            (Self::State, [x]) => x.tensor(cpu).unwrap(),
            (Self::Lanes { swapped }, [a, b]) => {
                let (lower, upper) = if swapped { (b, a) } else { (a, b) };
                stack(&lower.tensor(cpu).unwrap(), &upper.tensor(cpu).unwrap())
            }
            (Self::Image, [image, memory]) => stack(&image.tensor(cpu).unwrap(), &memory.tensor(cpu).unwrap()),
            (Self::Output { inputs }, [y]) => {
                let y = y.tensor(cpu).unwrap();
                stack(&Tensor::zeros(cpu, y.shape().with_channels(inputs)).unwrap(), &y)
            }
            (Self::Latents { data, squeeze, levels, splits, .. }, lanes) => {
                let lane = |array: &Array| {
                    let values: Vec<T> = array.values.iter().map(|&v| T::from_f64(v)).collect();
                    gather(cpu, data, squeeze, (levels, splits), &mut &values[..])
                };
                lanes[1..].iter().fold(lane(lanes[0]), |state, array| stack(&state, &lane(array)))
            }
            _ => panic!("{} arrays for {self:?}", arrays.len()),
        }
    }

    /// The arrays in a state.
    pub fn split<T: CpuElement>(self, state: Tensor<Cpu<T>>) -> Vec<Array> {
        let channels = state.shape().channels();
        match self {
            Self::State => vec![array(&state)],
            Self::Lanes { swapped } => {
                let [lower, upper] = halves(&state).map(|lane| array(&lane));
                if swapped { vec![upper, lower] } else { vec![lower, upper] }
            }
            Self::Image => vec![array(&part(&state, 0..1)), array(&part(&state, 1..channels))],
            Self::Output { inputs } => vec![array(&part(&state, inputs..channels))],
            Self::Latents { lanes, squeeze, levels, splits, .. } => {
                let lane = |state| {
                    let mut values = Vec::new();
                    scatter(state, squeeze, (levels, splits), &mut values);
                    Array { dims: vec![values.len()], values }
                };
                if lanes == 1 { vec![lane(state)] } else { halves(&state).map(lane).into() }
            }
        }
    }
}

fn halves<T: CpuElement>(state: &Tensor<Cpu<T>>) -> [Tensor<Cpu<T>>; 2] {
    let channels = state.shape().channels();
    [part(state, 0..channels / 2), part(state, channels / 2..channels)]
}

/// The values of a tensor.
pub fn array<T: CpuElement>(x: &Tensor<Cpu<T>>) -> Array {
    Array { dims: x.shape().dims(), values: x.to_f64().unwrap() }
}

fn part<T: CpuElement>(x: &Tensor<Cpu<T>>, channels: std::ops::Range<usize>) -> Tensor<Cpu<T>> {
    let mut out = Tensor::scratch(x.backend(), x.shape().with_channels(channels.len())).unwrap();
    out.view_mut().assign(x.backend(), x.view().channels(channels)).unwrap();
    out
}

/// [a; b] along the channels.
fn stack<T: CpuElement>(a: &Tensor<Cpu<T>>, b: &Tensor<Cpu<T>>) -> Tensor<Cpu<T>> {
    let (n, m) = (a.shape().channels(), b.shape().channels());
    let mut out = Tensor::scratch(a.backend(), a.shape().with_channels(n + m)).unwrap();
    out.view_mut().channels(0..n).assign(a.backend(), a.view()).unwrap();
    out.view_mut().channels(n..n + m).assign(a.backend(), b.view()).unwrap();
    out
}

fn squeezed<T: CpuElement>(squeeze: Squeeze, dir: Direction, mut x: Tensor<Cpu<T>>) -> Tensor<Cpu<T>> {
    let shape = squeeze.output(dir, x.shape()).unwrap();
    let cpu = x.backend().clone();
    cpu.squeeze(squeeze, dir, &mut x.view_mut()).unwrap();
    x.reshape(shape).unwrap()
}

/// Appends Z_1, Z_2, .. and the rest, each over the whole batch. Of `levels` levels `splits` are split.
fn scatter<T: CpuElement>(x: Tensor<Cpu<T>>, squeeze: Squeeze, (levels, splits): (usize, usize), into: &mut Vec<f64>) {
    if levels == 0 {
        return into.extend(x.to_f64().unwrap());
    }
    let x = squeezed(squeeze, Direction::Forward, x);
    let channels = x.shape().channels();
    let keep = if splits > 0 { half(channels) } else { channels };
    if keep < channels {
        into.extend(part(&x, keep..channels).to_f64().unwrap());
    }
    scatter(part(&x, 0..keep), squeeze, (levels - 1, splits.saturating_sub(1)), into);
}

fn gather<T: CpuElement>(
    cpu: &Cpu<T>,
    shape: Shape,
    squeeze: Squeeze,
    (levels, splits): (usize, usize),
    from: &mut &[T],
) -> Tensor<Cpu<T>> {
    let mut take = |shape: Shape| {
        let (head, tail) = from.split_at(shape.len());
        *from = tail;
        Tensor::from_slice(cpu, shape, head).unwrap()
    };
    if levels == 0 {
        return take(shape);
    }
    let shape = squeeze.output(Direction::Forward, shape).unwrap();
    let keep = if splits > 0 { half(shape.channels()) } else { shape.channels() };
    let latent = (keep < shape.channels()).then(|| take(shape.with_channels(shape.channels() - keep)));
    let rest = gather(cpu, shape.with_channels(keep), squeeze, (levels - 1, splits.saturating_sub(1)), from);
    let x = match latent {
        Some(latent) => stack(&rest, &latent),
        None => rest,
    };
    squeezed(squeeze, Direction::Inverse, x)
}
