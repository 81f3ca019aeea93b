//! A convolution and its two adjoints, ready to be timed.

use crate::random::fill;
use inn_core::{Backend, Conv, Result, Shape, Tensor, Write};
use inn_ops::Cpu;
use serde::Serialize;

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// y = w * x.
    Forward,
    /// The cotangent of x from that of y.
    InputGradient,
    /// The cotangent of w from that of y.
    WeightGradient,
}

impl Operation {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Forward, Self::InputGradient, Self::WeightGradient];
}

/// A convolution with one kernel extent, stride and padding on all axes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Samples.
    pub batch: usize,
    /// Channels of x.
    pub inputs: usize,
    /// Channels of y.
    pub outputs: usize,
    /// Extent of the kernel.
    pub kernel: usize,
    /// Pixels between places of the kernel; the padding is half the kernel.
    pub stride: usize,
    /// Extents of x.
    pub extents: Vec<usize>,
}

/// A [`Problem`] with tensors of random numbers.
pub struct Convolution {
    cpu: Cpu<f32>,
    conv: Conv,
    x: Tensor<Cpu<f32>>,
    w: Tensor<Cpu<f32>>,
    y: Tensor<Cpu<f32>>,
}

impl Convolution {
    /// Draws the numbers.
    ///
    /// # Errors
    /// A size of zero, or a kernel larger than the padded input.
    pub fn new(problem: &Problem) -> Result<Self> {
        let cpu = Cpu::new();
        let conv = Conv { stride: problem.stride, padding: problem.kernel / 2 };
        let x_shape = Shape::new(problem.batch, problem.inputs, &problem.extents)?;
        let w_shape = Shape::new(problem.outputs, problem.inputs, &vec![problem.kernel; problem.extents.len()])?;
        let random = |shape: Shape, seed| {
            let mut tensor = Tensor::zeros(&cpu, shape)?;
            fill(tensor.slice_mut(), seed);
            Ok(tensor)
        };
        let (x, w, y) = (random(x_shape, 0)?, random(w_shape, 1)?, random(conv.output(x_shape, w_shape)?, 2)?);
        Ok(Self { cpu, conv, x, w, y })
    }

    /// Operations of each of the three: a multiply-add counts as two, those on zero padding included
    /// (2 · batch · outputs · inputs · kernel · pixels of y).
    pub fn operations(&self) -> f64 {
        2.0 * (self.y.shape().len() * self.w.shape().sample_len()) as f64
    }

    /// Runs one of them once.
    ///
    /// # Errors
    /// What the backend returns.
    pub fn run(&mut self, operation: Operation) -> Result<()> {
        let Self { cpu, conv, x, w, y } = self;
        match operation {
            Operation::Forward => cpu.conv(*conv, x.view(), w.view(), &mut y.view_mut(), Write::Set),
            Operation::InputGradient => cpu.conv_input(*conv, y.view(), w.view(), &mut x.view_mut(), Write::Set),
            Operation::WeightGradient => cpu.conv_weight(*conv, x.view(), y.view(), &mut w.view_mut(), Write::Set),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_operations_and_refuses_what_does_not_fit() {
        let problem = Problem { batch: 2, inputs: 3, outputs: 5, kernel: 3, stride: 2, extents: vec![7, 4] };
        let mut convolution = Convolution::new(&problem).unwrap();
        assert_eq!(convolution.operations(), 2.0 * (2 * 5 * 3 * 9 * 4 * 2) as f64);
        Operation::ALL.into_iter().for_each(|operation| convolution.run(operation).unwrap());
        assert!(Convolution::new(&Problem { batch: 0, ..problem }).is_err());
    }
}
