//! Memory of a gradient step, counted by the allocator: it does not grow with depth, and `peak_bytes` says what it is.

use inn_core::{Architecture, Given, Layout, LinearOperator, Memory, Shape, Tensor, gradient_memory, gradient_memory_with_operator};
use inn_layers::conditioner::{NetConfig, ResidualConfig, SymmetricConfig};
use inn_layers::glow::StepConfig;
use inn_layers::hint::HintConfig;
use inn_layers::lanes::LaneConfig;
use inn_linop::Identity;
use inn_networks::encoder::ObservationConfig;
use inn_networks::hyperbolic::HyperbolicLayerConfig;
use inn_networks::irim::LoopLayerConfig;
use inn_networks::optim::{Average, Kept, Moments, Optimizer, add_squared_norm, clip_scale};
use inn_networks::summary::Reduce;
use inn_networks::{
    ConcatenatedGlowConfig, ConditionalGlowConfig, GlowConfig, HyperbolicConfig, IrimLoopConfig, MultiscaleConditionalHintConfig,
    MultiscaleHintConfig, PyramidConfig, SummarizedGlowConfig, SummarizedHintConfig, SummaryConfig,
};
use inn_ops::Cpu;
use std::alloc::{GlobalAlloc, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The system's allocator with a count of bytes alive and their highest value.
struct Counting;

static ALIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn enter(bytes: usize) {
    let alive = ALIVE.fetch_add(bytes, Relaxed) + bytes;
    PEAK.fetch_max(alive, Relaxed);
}

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: std::alloc::Layout) -> *mut u8 {
        enter(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: std::alloc::Layout) -> *mut u8 {
        enter(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: std::alloc::Layout) {
        ALIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: std::alloc::Layout, new: usize) -> *mut u8 {
        enter(new);
        ALIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, new) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What the allocator saw at most in a gradient step, parameters, gradients and input included, and what was predicted.
#[derive(Clone, Copy)]
struct Measured {
    counted: usize,
    memory: Memory,
    /// The same on one thread, where it does not depend on which thread takes what when.
    alone: usize,
    /// Parameters of the network, by name.
    entries: usize,
}

fn measure<A: Architecture + Sync>(config: &A, input: Shape, conditions: impl IntoIterator<Item = Shape>) -> Measured {
    measure_with(config, input, conditions, None)
}

fn measure_with<A: Architecture + Sync>(
    config: &A,
    input: Shape,
    conditions: impl IntoIterator<Item = Shape>,
    operator: Option<&dyn LinearOperator<Cpu<f32>>>,
) -> Measured {
    let conditions: Vec<Shape> = conditions.into_iter().collect();
    // What lives on the heap, and the working memory of threads, which they keep in pages that the allocator does not see.
    let start = || (ALIVE.load(Relaxed), Cpu::<f32>::new().footprint().threads);
    let step = |(heap, pages): (usize, usize)| {
        let cpu = Cpu::<f32>::new();
        let model = config.model(&cpu, 0).unwrap();
        let mut grads = model.zeros().unwrap();
        let given: Vec<_> = conditions.iter().map(|&shape| Tensor::full(&cpu, shape, 0.3).unwrap()).collect();
        let x = Tensor::full(&cpu, input, 0.1).unwrap();
        let call = model.with(Given { operator, ..Given::conditions(&given) });
        // The peak of the step itself: starting values were drawn on the host.
        PEAK.store(ALIVE.load(Relaxed), Relaxed);
        let y = call.forward(x).unwrap();
        let gy = y.state.duplicate().unwrap();
        let gl = y.logdet.duplicate().unwrap();
        call.backward(y.state, gy, &gl, &mut grads).unwrap();
        // The backend's large buffers are pages of its own, which the allocator does not see.
        let footprint = cpu.footprint();
        let counted = PEAK.load(Relaxed) - heap - footprint.small + footprint.most + footprint.threads - pages;
        let (layer, layout) = (model.layer(), model.layout());
        let memory = match operator {
            None => gradient_memory(&cpu, layer, layout, input, &conditions),
            Some(a) => gradient_memory_with_operator(&cpu, layer, layout, input, &conditions, (a.domain(), a.range())),
        };
        let memory = memory.unwrap();
        assert_eq!(footprint.most, memory.total() - memory.threads, "the buffers, in use and kept");
        (counted, memory, layout.entries().len())
    };
    // What is set up once in a process is not part of a step; working memory of new threads is. Threads that end would give theirs back.
    step((0, 0));
    let pool = |threads| Box::leak(Box::new(rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()));
    // A second step finds the working memory of its thread as large as it gets, whenever in the first one that came about.
    let one = pool(1);
    let before = start();
    let (alone, ..) = one.install(|| [step(before), step(before)][1]);
    let two = pool(2);
    let before = start();
    let (counted, memory, entries) = two.install(|| step(before));
    Measured { counted, memory, alone, entries }
}

fn glow(steps: usize, channels: usize) -> GlowConfig {
    let net = NetConfig::Residual(ResidualConfig { hidden: 32, last_gain: 0.1, ..ResidualConfig::default() });
    GlowConfig { channels, steps, step: StepConfig { net, ..StepConfig::default() }, ..GlowConfig::default() }
}

fn hyperbolic(depth: usize) -> HyperbolicConfig {
    let block = SymmetricConfig { hidden: Some(8), alpha: 0.2, ..SymmetricConfig::default() };
    HyperbolicConfig { channels: 8, rank: 3, layers: vec![HyperbolicLayerConfig::default(); depth], block }
}

fn expect_predicted(name: &str, m: &Measured) {
    let predicted = m.memory.total();
    println!("{name}: counted {} bytes, predicted {predicted}: {}", m.counted, m.memory);
    assert!(m.counted * 100 <= predicted * 106, "{name}: {predicted} bytes were predicted and {} used", m.counted);
    assert!(m.counted * 100 >= predicted * 90, "{name}: {predicted} bytes were predicted and only {} used", m.counted);
}

/// Bytes that a parameter takes beside its values, and the layer around it; 300 to 520 were seen.
const ENTRY: usize = 640;

fn predicted_and_flat() {
    let image = Shape::new(8, 3, &[96, 96]).unwrap();
    let glows = [2, 16].map(|steps| measure(&glow(steps, 3), image, None));
    glows.iter().for_each(|m| expect_predicted("Glow", m));

    let volume = Shape::new(1, 16, &[32, 36, 32]).unwrap();
    let hyperbolics = [6, 30].map(|depth| measure(&hyperbolic(depth), volume, None));
    hyperbolics.iter().for_each(|m| expect_predicted("hyperbolic", m));

    let net = NetConfig::Residual(ResidualConfig { hidden: 16, last_gain: 0.5, ..ResidualConfig::default() });
    let condition = PyramidConfig { channels: 2, net: Some(net), features: 8 };
    let conditional = |steps| ConditionalGlowConfig { flow: glow(steps, 1), condition: condition.clone() };
    let (x, c) = (Shape::new(8, 1, &[64, 64]).unwrap(), Shape::new(8, 2, &[64, 64]).unwrap());
    let conditionals = [2, 16].map(|steps| measure(&conditional(steps), x, Some(c)));
    conditionals.iter().for_each(|m| expect_predicted("conditional Glow", m));

    let families = [("Glow", glows), ("hyperbolic", hyperbolics), ("conditional Glow", conditionals)];
    for (name, [shallow, deep]) in families.into_iter().chain(inference()) {
        // The buffers of a step, which `measure` has seen to be as predicted.
        let [few, many] = [shallow, deep].map(|m| m.memory.total() - m.memory.parameters - m.memory.gradients);
        assert_eq!(few, many, "{name}: working memory grows with depth");
        let [few, many] = [shallow, deep].map(|m| m.alone - m.memory.parameters - m.memory.gradients);
        // What a layer is on the host: names, extents and places of its parameters.
        let description = ENTRY * (deep.entries - shallow.entries);
        println!("{name}: {few} bytes of working memory, {many} with depth, where {description} may describe more layers");
        assert!(many <= few + description, "{name}: {few} bytes of working memory became {many} with depth");
        let [few, many] = [shallow, deep].map(|m| m.counted - m.memory.parameters - m.memory.gradients);
        // On two threads, which of them grows its working memory when depends on the moment.
        assert!(many * 100 <= few * 108, "{name}: {few} bytes of working memory became {many} with depth, on two threads");
    }
}

/// The networks of inference, two depths of each.
fn inference() -> Vec<(&'static str, [Measured; 2])> {
    let net = || NetConfig::Residual(ResidualConfig { hidden: 16, last_gain: 0.1, ..ResidualConfig::default() });
    let hint = || HintConfig { net: net(), ..HintConfig::default() };
    let image = |channels| Shape::new(8, channels, &[160, 160]).unwrap();
    let scales = |steps| MultiscaleHintConfig { levels: 2, steps, hint: hint(), ..MultiscaleHintConfig::default() };
    let pairs = |steps| MultiscaleConditionalHintConfig { steps, hint: hint(), ..MultiscaleConditionalHintConfig::default() };
    let layer = || LoopLayerConfig::Additive(LaneConfig { net: net(), ..LaneConfig::default() });
    let unrolled = |iterations| IrimLoopConfig { iterations, layer: layer(), ..IrimLoopConfig::default() };
    let physics = Identity::<Cpu<f32>>::new(image(1).with_batch(1));
    let condition = PyramidConfig { channels: 8, ..PyramidConfig::default() };
    let summarized = |steps| SummarizedGlowConfig {
        summary: SummaryConfig { channels: 2, net: net(), ..SummaryConfig::default() },
        glow: ConditionalGlowConfig { flow: GlowConfig { levels: 2, ..glow(steps, 1) }, condition: condition.clone() },
    };
    let series = |features| SummaryConfig { channels: 2, rank: 1, net: net(), features, reduce: Reduce::Mean, ..SummaryConfig::default() };
    let field = ObservationConfig::Pyramid(PyramidConfig { channels: 2, ..PyramidConfig::default() });
    let concatenated = |steps| ConcatenatedGlowConfig {
        flow: GlowConfig { levels: 2, ..glow(steps, 1) },
        observations: vec![field.clone(), ObservationConfig::Summary(series(4))],
    };
    let keep = SummaryConfig { channels: 2, net: net(), features: 1, ..SummaryConfig::default() };
    let given = |steps| SummarizedHintConfig {
        observations: vec![keep.clone(), series(1)],
        hint: MultiscaleConditionalHintConfig { channels: 2, ..pairs(steps) },
    };
    let observed = || [image(2), Shape::new(8, 2, &[100]).unwrap()];
    let families = vec![
        ("multiscale HINT", [1, 4].map(|n| measure(&scales(n), image(3), None))),
        // Small buffers of a layer are kept for the next, so there are two layers at least.
        ("multiscale conditional HINT", [2, 5].map(|n| measure(&pairs(n), image(2), None))),
        ("i-RIM loop", [1, 8].map(|n| measure_with(&unrolled(n), image(4), Some(image(1)), Some(&physics)))),
        ("concatenated Glow", [1, 4].map(|n| measure(&concatenated(n), image(1), observed()))),
        ("summarized HINT", [1, 4].map(|n| measure(&given(n), image(2), observed()))),
        ("summarized Glow", [1, 4].map(|n| measure(&summarized(n), image(1), Some(image(2))))),
    ];
    families.iter().for_each(|(name, both)| both.iter().for_each(|m| expect_predicted(name, m)));
    families
}

fn a_plan_stores_nothing() {
    // A network whose state alone would be 48 GiB is planned on any machine.
    let (input, config) = (Shape::new(64, 3, &[8192, 8192]).unwrap(), glow(4, 3));
    let cpu = Cpu::<f32>::new();
    let (layer, layout) = Layout::build(|scope| inn_core::Architecture::build(&config, scope)).unwrap();
    PEAK.store(ALIVE.load(Relaxed), Relaxed);
    let before = ALIVE.load(Relaxed);
    let memory = gradient_memory(&cpu, &layer, &layout, input, &[]).unwrap();
    assert!(PEAK.load(Relaxed) - before < 1 << 20);
    assert!(memory.total() > 2 * 4 * input.len() && memory.total() < 5 * 4 * input.len(), "{memory}");
}

/// Bytes that are allocated after the tenth and after the thousandth step of a training: gradient, norm, update, average.
fn tenth_and_thousandth<A: Architecture + Sync>(config: &A, input: Shape, condition: Option<Shape>, threads: usize) -> [usize; 2] {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let cpu = Cpu::<f32>::new();
        let mut model = config.model(&cpu, 0).unwrap();
        let conditions: Vec<_> = condition.iter().map(|&shape| Tensor::full(&cpu, shape, 0.3).unwrap()).collect();
        let x = Tensor::full(&cpu, input, 0.1).unwrap();
        let mut average = Average::new(0.99, model.params()).unwrap();
        let mut moments = Moments::new(Optimizer::adam_w(0.01), model.params()).unwrap();
        let mut kept = Kept::new(model.params(), &moments, Some(&average)).unwrap();
        let mut grads = model.zeros().unwrap();
        let mut square = Tensor::zeros(&cpu, Shape::per_sample(1)).unwrap();
        let gl = Tensor::full(&cpu, Shape::per_sample(input.batch()), -1.0 / input.batch() as f64).unwrap();
        let mut seen = [0; 2];
        for step in 1..=1000 {
            grads.fill(0.0).unwrap();
            let call = model.with(Given::conditions(&conditions));
            let z = call.forward(x.duplicate().unwrap()).unwrap().state;
            let gz = z.duplicate().unwrap();
            call.backward(z, gz, &gl, &mut grads).unwrap();
            square.view_mut().fill(&cpu, 0.0).unwrap();
            add_squared_norm(&grads, square.view_mut().update()).unwrap();
            let scale = clip_scale(square.to_f64().unwrap()[0].sqrt(), Some(1.0));
            moments.step_keeping(model.params_mut(), &grads, 1e-4, scale, Some(&mut average), &mut kept).unwrap();
            if step == 10 || step == 1000 {
                seen[usize::from(step > 10)] = ALIVE.load(Relaxed);
            }
        }
        assert!(square.to_f64().unwrap()[0].is_finite());
        seen
    })
}

fn a_thousand_steps_end_where_the_tenth_did() {
    let net = NetConfig::Residual(ResidualConfig { hidden: 8, last_gain: 0.1, ..ResidualConfig::default() });
    let flow = GlowConfig {
        channels: 1,
        levels: 2,
        steps: 1,
        step: StepConfig { net: net.clone(), ..StepConfig::default() },
        ..GlowConfig::default()
    };
    let images = ConditionalGlowConfig { flow, condition: PyramidConfig { channels: 1, net: Some(net), features: 4 } };
    let image = Shape::new(2, 1, &[8, 8]).unwrap();
    let dense = GlowConfig::dense(2, 2);
    for threads in [1, 2] {
        for (name, [tenth, thousandth]) in [
            ("conditional Glow", tenth_and_thousandth(&images, image, Some(image), threads)),
            ("dense Glow", tenth_and_thousandth(&dense, Shape::new(32, 2, &[]).unwrap(), None, threads)),
        ] {
            println!("{name} on {threads} threads: {tenth} bytes after 10 steps, {thousandth} after 1,000");
            // A second thread may take its first large task, and the scratch for it, after the tenth step.
            let room = if threads == 1 { 0 } else { 1 << 20 };
            assert!(thousandth <= tenth + room, "{name} on {threads} threads: {tenth} bytes became {thousandth}");
        }
    }
}

/// One test, so that nothing else allocates meanwhile.
#[test]
fn memory_is_what_was_predicted_and_flat_in_depth_and_in_time() {
    predicted_and_flat();
    a_plan_stores_nothing();
    a_thousand_steps_end_where_the_tenth_did();
}
