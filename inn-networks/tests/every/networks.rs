//! Random settings of networks, each with a shape that it takes.

use crate::draw::Draw;
use inn_core::{Odd, Shape};
use inn_layers::conditioner::{DenseConfig, NetConfig};
use inn_layers::hint::HintConfig;
use inn_layers::hyperbolic::Resize;
use inn_layers::lanes::LaneConfig;
use inn_layers::permute::Permute;
use inn_linop::Matrix;
use inn_networks::encoder::ObservationConfig;
use inn_networks::hyperbolic::HyperbolicLayerConfig;
use inn_networks::irim::LoopLayerConfig;
use inn_networks::summary::Reduce;
use inn_networks::{
    ConcatenatedGlowConfig, ConditionalGlowConfig, ConditionalHintConfig, GlowConfig, HyperbolicConfig, IrimLoopConfig,
    MultiscaleConditionalHintConfig, MultiscaleHintConfig, PyramidConfig, SummarizedGlowConfig, SummarizedHintConfig, SummaryConfig,
};
use inn_ops::{Activation, Cpu};

impl Draw {
    /// Multiples of `unit`, or of anything if wild.
    fn extents(&mut self, rank: usize, unit: usize) -> Vec<usize> {
        (0..rank).map(|_| if self.wild { self.int(1, 5) } else { unit * self.int(1, [1, 2, 1, 1][rank]) }).collect()
    }

    /// Conditional HINT has lanes of their own to mix, or none.
    fn lane_hint(&mut self) -> HintConfig {
        let permute = if self.wild { self.permute() } else { self.pick(&[Permute::None, Permute::Full]) };
        HintConfig { permute, ..self.hint() }
    }

    /// A flow with random settings, and a shape that it takes.
    pub fn glow(&mut self) -> (GlowConfig, Shape) {
        let rank = self.int(0, 3);
        let levels = self.int(1, 2);
        let squeeze = (rank > 0 && !self.one_in(4)).then(|| self.squeeze());
        let odd = self.pick(&[Odd::Refuse, Odd::Carry]);
        let channels = self.int(if squeeze.is_some() && !self.wild { 1 } else { 2 }, [9, 3, 2, 1][rank].max(2));
        let split = squeeze.is_some() && self.one_in(2);
        let config = GlowConfig { channels, rank, levels, steps: self.int(1, 2), squeeze, odd, split, step: self.step() };
        let unit = if squeeze.is_some() { 1 << levels } else { 1 };
        let extents: Vec<usize> = (0..rank)
            .map(|axis| match odd {
                _ if self.wild => self.int(1, 5),
                Odd::Refuse => unit * self.int(1, if axis == 0 { 2 } else { 1 }),
                Odd::Carry => unit + self.int(0, 1),
            })
            .collect();
        (config, Shape::new(self.int(1, 2), channels, &extents).unwrap())
    }

    /// A conditional flow with random settings, with the shapes that it takes.
    pub fn conditional(&mut self) -> (ConditionalGlowConfig, Shape) {
        let (flow, shape) = self.glow();
        let channels = self.int(1, 3);
        let condition = PyramidConfig { channels, net: self.one_in(2).then(|| self.net()), features: self.int(1, 3) };
        self.conditions = vec![shape.with_channels(channels)];
        (ConditionalGlowConfig { flow, condition }, shape)
    }

    /// A leapfrog network with random settings, and a shape that it takes.
    pub fn hyperbolic(&mut self) -> (HyperbolicConfig, Shape) {
        let rank = self.int(1, 3);
        let mut layers = vec![HyperbolicLayerConfig::default(); self.int(1, 3)];
        let channels = self.int(1, 3);
        if self.one_in(2) {
            layers.push(HyperbolicLayerConfig { resize: Resize::Coarsen, hidden: Some(self.int(1, 3)) });
            layers.push(HyperbolicLayerConfig { resize: self.pick(&[Resize::Keep, Resize::Refine]), hidden: None });
        }
        let extents: Vec<usize> =
            (0..rank).map(|_| if self.wild { self.int(1, 4) } else { 2 * self.int(1, [2, 2, 1][rank - 1]) }).collect();
        let config = HyperbolicConfig { channels, rank, layers, block: self.block() };
        (config, Shape::new(self.int(1, 2), 2 * channels, &extents).unwrap())
    }

    pub fn hints(&mut self) -> (MultiscaleHintConfig, Shape) {
        let (GlowConfig { channels, rank, levels, steps, squeeze, odd, split, .. }, shape) = self.glow();
        (MultiscaleHintConfig { channels, rank, levels, steps, squeeze, odd, split, hint: self.hint() }, shape)
    }

    pub fn pair(&mut self) -> (ConditionalHintConfig, Shape) {
        let (rank, channels) = (self.int(0, 3), self.int(if self.wild { 1 } else { 2 }, 4));
        let config = ConditionalHintConfig { channels, rank, depth: self.int(1, 2), hint: self.lane_hint() };
        let extents = self.extents(rank, 2);
        (config, Shape::new(self.int(1, 2), 2 * channels, &extents).unwrap())
    }

    pub fn pairs(&mut self) -> (MultiscaleConditionalHintConfig, Shape) {
        let rank = self.int(1, 3);
        let squeeze = (!self.one_in(4)).then(|| self.squeeze());
        let (levels, steps, split) = (self.int(1, if rank == 3 { 1 } else { 2 }), self.int(1, 2), squeeze.is_some() && self.one_in(2));
        let channels = self.int(if squeeze.is_some() || self.wild { 1 } else { 2 }, 2);
        let extents = self.extents(rank, if squeeze.is_some() { 1 << levels } else { 1 });
        let config = MultiscaleConditionalHintConfig { channels, rank, levels, steps, squeeze, split, hint: self.lane_hint() };
        (config, Shape::new(self.int(1, 2), 2 * channels, &extents).unwrap())
    }

    /// A summary network, and an observation of the state's resolution or of another shape and rank. Vectors are not repeated over extents.
    fn summary(&mut self, state: Shape, reduce: Reduce, features: usize) -> SummaryConfig {
        let dense = |hidden| DenseConfig { hidden: vec![hidden], activation: Activation::Tanh, ..DenseConfig::default() };
        let observation = match reduce {
            Reduce::Keep => state.with_channels(self.int(1, 3)),
            _ => self.shape().with_batch(state.batch()),
        };
        let (channels, rank, net) = match reduce {
            Reduce::Flatten => (observation.sample_len(), 0, NetConfig::Dense(dense(self.int(1, 4)))),
            _ => (observation.channels(), observation.rank(), self.net()),
        };
        let head = (reduce == Reduce::Mean && self.one_in(2)).then(|| dense(self.int(1, 3)));
        self.conditions.push(observation);
        SummaryConfig { channels, rank, net, features, reduce, head, refine: 0, extents: vec![] }
    }

    pub fn summarized(&mut self) -> (SummarizedGlowConfig, Shape) {
        let (mut glow, shape) = self.conditional();
        let features = self.int(1, 3);
        glow.condition.channels = features;
        let reduce = self.pick(&[Reduce::Keep, Reduce::Mean, Reduce::Flatten]);
        self.conditions.clear();
        let summary = self.summary(shape, reduce, features);
        let extents = if reduce == Reduce::Keep { vec![] } else { shape.spatial().to_vec() };
        (SummarizedGlowConfig { summary: SummaryConfig { extents, ..summary }, glow }, shape)
    }

    /// A field at every level, vectors beside it, and at times another field.
    pub fn concatenated(&mut self) -> (ConcatenatedGlowConfig, Shape) {
        let (ConditionalGlowConfig { flow, condition }, shape) = self.conditional();
        let mut observations = vec![ObservationConfig::Pyramid(condition.clone())];
        for _ in 0..self.int(1, 2) {
            let (reduce, features) = (self.pick(&[Reduce::Mean, Reduce::Flatten]), self.int(1, 3));
            observations.push(ObservationConfig::Summary(self.summary(shape, reduce, features)));
        }
        if self.one_in(2) {
            self.conditions.push(self.conditions[0]);
            observations.push(ObservationConfig::Pyramid(condition));
        }
        (ConcatenatedGlowConfig { flow, observations }, shape)
    }

    /// Conditional HINT on one lane, the other made of a field and at times a vector.
    pub fn summarized_hint(&mut self) -> (SummarizedHintConfig, Shape) {
        let (mut hint, both) = self.pairs();
        if let NetConfig::Residual(net) = &mut hint.hint.net {
            // A lane's network moves x by way of the next step's: with wide kernels on few pixels by no more than rounding can hide.
            (net.outer_kernel, net.last_gain) = (net.outer_kernel.min(3), 1.0);
        }
        let shape = both.with_channels(hint.channels);
        let kept = if self.one_in(2) { hint.channels } else { hint.channels.div_ceil(2) };
        let mut observations = vec![self.summary(shape, Reduce::Keep, kept)];
        if kept < hint.channels {
            let (reduce, features) = (self.pick(&[Reduce::Mean, Reduce::Flatten]), hint.channels - kept);
            observations.push(self.summary(shape, reduce, features));
        }
        (SummarizedHintConfig { observations, hint }, shape)
    }

    /// With an operator from one channel of the state to a few numbers, which are the condition.
    pub fn solver(&mut self) -> (IrimLoopConfig, Shape) {
        let rank = self.int(0, 3);
        let (channels, extents) = (self.int(if self.wild { 1 } else { 2 }, 5), self.extents(rank, 2));
        let layer = if self.one_in(2) {
            let (net, scale, permute) = (self.net(), self.scale(), self.permute());
            LoopLayerConfig::Additive(LaneConfig { net, scale, permute, reflections: self.int(1, 3) })
        } else {
            LoopLayerConfig::Hint(self.hint())
        };
        let link = self.pick(&[Activation::Identity, Activation::Tanh, Activation::Softplus]);
        let shape = Shape::new(self.int(1, 2), channels, &extents).unwrap();
        let (image, data) = (shape.with_batch(1).with_channels(1), self.int(1, 5));
        let values: Vec<f64> = (0..data * image.len()).map(|i| (i as f64 * 2.3 + 0.4).sin() * 0.5).collect();
        let matrix = Matrix::new(&Cpu::poisoned(), data, image.len(), &values).unwrap();
        self.operator = Some(matrix.between(image, Shape::per_channel(data)).unwrap());
        self.conditions = vec![Shape::rows(shape.batch(), data)];
        (IrimLoopConfig { channels, rank, iterations: self.int(1, 2), link, layer }, shape)
    }
}
