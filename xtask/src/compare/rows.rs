//! What is compared, with the targets: each row is a case of one of this project's programs and the same case of its peers.
//!
//! A target ratio is the time to reach by the peer's time, both on the machine that the targets were set on: ratios carry over to another
//! machine better than times do.

/// The tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Gradient steps of Glow.
    Glow,
    /// Gradient steps of the 3D hyperbolic network.
    Hyperbolic,
    /// Convolutions and their adjoints.
    Convolution,
    /// Dense flows.
    Dense,
}

impl Group {
    /// All of them, in their order.
    pub const ALL: [Self; 4] = [Self::Glow, Self::Hyperbolic, Self::Convolution, Self::Dense];

    /// Heading of the table.
    pub fn title(self) -> &'static str {
        match self {
            Self::Glow => "A gradient step of Glow",
            Self::Hyperbolic => "A gradient step of the 3D hyperbolic network",
            Self::Convolution => "Convolutions",
            Self::Dense => "Dense flows",
        }
    }

    /// The peers, the one that targets refer to first.
    pub fn peers(self) -> &'static [&'static str] {
        match self {
            Self::Glow => &["normflows", "autograd", "memcnn"],
            Self::Hyperbolic => &["autograd"],
            Self::Convolution => &["torch"],
            Self::Dense => &["normflows"],
        }
    }
}

/// What a number in the line of a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Of time.
    Seconds,
    /// 10^9 operations a second.
    Gflops,
    /// Samples a second.
    Samples,
}

/// A figure of a row.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Its name in the table; empty where a row has one alone.
    pub label: &'static str,
    /// Its key in the line of JSON, the same on both sides.
    pub key: &'static str,
    /// What it counts.
    pub unit: Unit,
    /// Time to reach by the peer's time.
    pub ratio: Option<f64>,
    /// Operations of a step in convolutions and matrix products (of a sample where samples are counted, 10^9 for GFLOP/s).
    pub operations: f64,
}

/// A case.
#[derive(Clone, Debug)]
pub struct Row {
    /// For `--only`.
    pub name: String,
    /// Its table.
    pub group: Group,
    /// The case in words.
    pub case: String,
    /// The example that runs it, with its arguments.
    pub ours: (&'static str, String),
    /// The peers that can run it, with the arguments of `peers.py`.
    pub peers: Vec<(&'static str, String)>,
    /// What is compared.
    pub figures: Vec<Figure>,
    /// The resident set to stay below, in megabytes above that before the first step.
    pub memory: Option<f64>,
}

/// Forward, recomputation, and the two adjoints of each convolution: four passes where a framework that keeps activations does three.
const PASSES: f64 = 4.0;

/// All rows.
pub fn all() -> Vec<Row> {
    let mut rows = glow();
    rows.extend(hyperbolic());
    rows.extend(convolutions());
    rows.push(dense());
    rows
}

struct Glow {
    name: &'static str,
    case: &'static str,
    batch: usize,
    channels: usize,
    size: usize,
    hidden: usize,
    levels: usize,
    steps: usize,
    /// Steps that are timed in one process.
    repeat: usize,
    /// Those of [`Group::peers`] that run it.
    peers: usize,
    ratio: Option<f64>,
    memory: f64,
}

fn glow() -> Vec<Row> {
    let rgb = Glow {
        name: "",
        case: "",
        batch: 8,
        channels: 3,
        size: 64,
        hidden: 128,
        levels: 3,
        steps: 8,
        repeat: 5,
        peers: 3,
        ratio: None,
        memory: 0.0,
    };
    let joss = Glow { size: 256, hidden: 256, steps: 4, repeat: 2, ..rgb };
    [
        Glow { name: "glow-64", case: "64x64, hidden 128, K=8", ratio: Some(0.41), memory: 20.0, ..rgb },
        Glow { name: "glow-64-deep", case: "64x64, hidden 128, K=32", steps: 32, ratio: Some(0.34), memory: 35.0, ..rgb },
        Glow { name: "glow-128", case: "128x128, hidden 128, K=8", size: 128, ratio: Some(0.48), memory: 35.0, ..rgb },
        Glow { name: "glow-256", case: "256x256, hidden 128, K=8", size: 256, repeat: 2, ratio: Some(0.20), memory: 80.0, ..rgb },
        Glow { name: "glow-joss", case: "256x256, hidden 256, K=4 (the JOSS protocol)", ratio: Some(0.25), memory: 150.0, ..joss },
        Glow { name: "glow-joss-deep", case: "256x256, hidden 256, K=8", steps: 8, peers: 1, ratio: Some(0.27), memory: 170.0, ..joss },
        Glow {
            name: "glow-mnist",
            case: "16x16, 1 channel, batch 128, 2 levels, hidden 32, K=10",
            batch: 128,
            channels: 1,
            size: 16,
            hidden: 32,
            levels: 2,
            steps: 10,
            repeat: 20,
            ratio: Some(0.20),
            memory: 12.0,
            ..rgb
        },
        Glow { name: "glow-480", case: "480x480, hidden 256, K=4", size: 480, repeat: 1, peers: 0, memory: 600.0, ..joss },
        Glow { name: "glow-1024", case: "1024x1024, hidden 256, K=4", size: 1024, repeat: 1, peers: 0, memory: 2000.0, ..joss },
    ]
    .map(|g| {
        let arguments = format!(
            "glow --size {} --batch {} --channels {} --hidden {} --levels {} --steps {} --repeat {}",
            g.size, g.batch, g.channels, g.hidden, g.levels, g.steps, g.repeat
        );
        Row {
            name: g.name.into(),
            group: Group::Glow,
            case: g.case.into(),
            peers: Group::Glow.peers()[..g.peers].iter().map(|&peer| (peer, format!("{arguments} --peer {peer}"))).collect(),
            ours: ("gradient_step", arguments),
            figures: vec![step(g.ratio, glow_operations(&g))],
            memory: Some(g.memory),
        }
    })
    .into()
}

/// A squeeze makes four channels of one and a level keeps half of them; convolutions of 3x3, 1x1, 3x3.
fn glow_operations(g: &Glow) -> f64 {
    let level = |i: usize| {
        let kept = (g.channels << i) as f64 * 2.0;
        let pixels = (g.size * g.size) as f64 / 4f64.powi(i as i32 + 1);
        let hidden = g.hidden as f64;
        pixels * hidden * (9.0 * kept + hidden + 9.0 * 2.0 * kept)
    };
    2.0 * PASSES * (g.batch * g.steps) as f64 * (0..g.levels).map(level).sum::<f64>()
}

fn step(ratio: Option<f64>, operations: f64) -> Figure {
    Figure { label: "", key: "step_s", unit: Unit::Seconds, ratio, operations }
}

fn hyperbolic() -> [Row; 2] {
    [6, 18].map(|depth| {
        let arguments = format!("hyperbolic --size 48 --channels 32 --hidden 32 --depth {depth} --batch 1 --repeat 3");
        let convolutions = 2.0 * 27.0 * 32.0 * 32.0 * 48f64.powi(3);
        Row {
            name: format!("hyperbolic-{depth}"),
            group: Group::Hyperbolic,
            case: format!("48x48x48, 32 channels, hidden 32, kernel 3, batch 1, depth {depth}"),
            peers: vec![("autograd", arguments.clone())],
            ours: ("gradient_step", arguments),
            figures: vec![step(Some(1.0), 2.0 * PASSES * depth as f64 * convolutions)],
            memory: Some(60.0),
        }
    })
}

/// GFLOP/s of the peer and to reach: forward, input gradient, weight gradient.
struct Convolution(&'static str, [f64; 3], f64);

fn convolutions() -> Vec<Row> {
    const KEYS: [(&str, &str); 3] =
        [("forward", "forward_gflops"), ("input gradient", "input_gradient_gflops"), ("weight gradient", "weight_gradient_gflops")];
    [
        Convolution("8, 6 -> 128, 3, 32x32", [37.0, 47.0, 59.0], 250.0),
        Convolution("8, 128 -> 128, 1, 32x32", [113.0, 209.0, 212.0], 300.0),
        Convolution("8, 128 -> 12, 3, 32x32", [163.0, 71.0, 174.0], 250.0),
        Convolution("8, 128 -> 128, 3, 32x32", [261.0, 223.0, 237.0], 330.0),
        Convolution("8, 6 -> 128, 3, 128x128", [49.0, 54.0, 61.0], 250.0),
        Convolution("8, 128 -> 12, 3, 128x128", [112.0, 75.0, 102.0], 250.0),
        Convolution("1, 64 -> 64, 3, 256x256", [211.0, 202.0, 170.0], 330.0),
        Convolution("128, 2 -> 32, 3, 8x8", [78.0, 30.0, 76.0], 150.0),
        Convolution("1, 32 -> 32, 3, 48x48x48", [291.0, 271.0, 253.0], 330.0),
        Convolution("1, 16 -> 16, 3, 64x64x64", [280.0, 273.0, 236.0], 300.0),
    ]
    .into_iter()
    .enumerate()
    .map(|(i, Convolution(case, there, reach))| {
        let figure =
            |((label, key), there): (_, f64)| Figure { label, key, unit: Unit::Gflops, ratio: Some(there / reach), operations: 1e9 };
        Row {
            name: format!("conv-{i}"),
            group: Group::Convolution,
            case: case.into(),
            peers: vec![("torch", format!("conv --case {i}"))],
            ours: ("conv_throughput", format!("--case {i}")),
            figures: KEYS.into_iter().zip(there).map(figure).collect(),
            memory: None,
        }
    })
    .collect()
}

fn dense() -> Row {
    // Multiply-adds of a point in the networks of all couplings.
    let sample = 2.0 * 16.0 * (64.0 + 64.0 * 64.0 + 64.0 * 2.0);
    Row {
        name: "dense".into(),
        group: Group::Dense,
        case: "16 affine couplings on 2 dimensions, hidden 64 x 2".into(),
        ours: ("dense_flow", "--batch 512 --draws 10000 --repeat 200".into()),
        peers: vec![("normflows", "dense --batch 512 --draws 10000 --repeat 200".into())],
        figures: vec![
            Figure { label: "a training step on 512 points", ..step(Some(1.5 / 14.3), PASSES * 512.0 * sample) },
            Figure {
                label: "drawing 10,000 points",
                key: "samples_per_s",
                unit: Unit::Samples,
                ratio: Some(0.171 / 2.0),
                operations: sample,
            },
        ],
        memory: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_every_peer_belongs_to_its_table() {
        let rows = all();
        for (i, row) in rows.iter().enumerate() {
            assert!(rows[..i].iter().all(|other| other.name != row.name), "{} twice", row.name);
            assert!(row.peers.iter().all(|(peer, _)| row.group.peers().contains(peer)), "{}", row.name);
            assert!(!row.figures.is_empty());
        }
    }

    #[test]
    fn operations_of_the_first_row() {
        // 24 steps, four passes; the first level has 6 -> 128 -> 128 -> 12 channels on 32 x 32 pixels.
        let first = 8.0 * 1024.0 * 128.0 * (54.0 + 128.0 + 108.0);
        let second = 8.0 * 256.0 * 128.0 * (108.0 + 128.0 + 216.0);
        let third = 8.0 * 64.0 * 128.0 * (216.0 + 128.0 + 432.0);
        assert_eq!(all()[0].figures[0].operations, 2.0 * 4.0 * 8.0 * (first + second + third));
    }
}
