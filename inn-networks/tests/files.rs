//! Files of networks: what comes back, and what is refused.

use inn_core::{Architecture, Backend, Error, Given, Invertible, Shape, Tensor};
use inn_layers::conditioner::{DenseConfig, NetConfig, ResidualConfig};
use inn_layers::glow::StepConfig;
use inn_networks::files::{self, Metadata};
use inn_networks::{ConditionalGlowConfig, GlowConfig, HyperbolicConfig, PyramidConfig};
use inn_ops::{Cpu, ScaleMap};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.safetensors");
    (folder, path)
}

/// The smallest of networks, so that its file is short.
fn tiny() -> GlowConfig {
    let net = NetConfig::Dense(DenseConfig { hidden: vec![2], last_gain: 1.0, ..DenseConfig::default() });
    GlowConfig { step: StepConfig { net, ..StepConfig::default() }, ..GlowConfig::dense(2, 1) }
}

fn save(path: &Path, config: &GlowConfig) -> Vec<u8> {
    files::save(path, config, &config.model(&Cpu::<f32>::new(), 3).unwrap(), &Metadata::default()).unwrap();
    std::fs::read(path).unwrap()
}

fn load(path: &Path) -> Result<(), Error> {
    files::load::<GlowConfig, _>(path, &Cpu::<f32>::new()).map(drop)
}

#[track_caller]
fn says<T>(result: Result<T, Error>, texts: &[&str]) -> Error {
    let error = result.err().expect("an error");
    let message = error.to_string();
    assert!(texts.iter().all(|text| message.contains(text)), "{message}");
    error
}

/// Saves, loads, compares the maps bit by bit, and saves again to the same bytes.
fn round_trip<A: Architecture + PartialEq + std::fmt::Debug>(config: &A, x: Shape, condition: Option<Shape>) {
    let (_folder, path) = folder();
    let cpu = Cpu::<f32>::new();
    let mut model = config.model(&cpu, 7).unwrap();
    let input = |shape: Shape| {
        let values: Vec<f64> = (0..shape.len()).map(|i| ((i * 37 % 101) as f64 / 50.0 - 1.0).sin()).collect();
        Tensor::from_f64(&cpu, shape, &values).unwrap()
    };
    let conditions: Vec<_> = condition.into_iter().map(input).collect();
    let given = Given::conditions(&conditions);
    model.initialize(input(x), given).unwrap();
    let mut metadata = Metadata::default();
    metadata.set("mean", &[0.1, 1.0 / 3.0]).unwrap();
    metadata.set("units", "m/s").unwrap();
    files::save(&path, config, &model, &metadata).unwrap();
    let restored = files::load::<A, _>(&path, &cpu).unwrap();
    assert_eq!(&restored.config, config);
    assert_eq!((restored.metadata.get("mean").unwrap(), restored.dtype.as_str()), (Some([0.1, 1.0 / 3.0]), "f32"));
    assert!(restored.metadata.get::<f64>("units").is_err() && restored.metadata.get::<f64>("other").unwrap().is_none());
    assert!(restored.model.is_initialized());
    assert_eq!(files::kind_of(&path).unwrap(), A::KIND);
    let (a, b) = (model.with(given).forward(input(x)).unwrap(), restored.model.with(given).forward(input(x)).unwrap());
    assert_eq!(a.state.to_vec().unwrap(), b.state.to_vec().unwrap());
    assert_eq!(a.logdet.to_vec().unwrap(), b.logdet.to_vec().unwrap());
    let bytes = std::fs::read(&path).unwrap();
    files::save(&path, &restored.config, &restored.model, &restored.metadata).unwrap();
    assert!(bytes == std::fs::read(&path).unwrap());
    // Any reader of safetensors sees the tensors, with their names and axes.
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.len(), model.layout().entries().len());
    for entry in model.layout().entries() {
        assert_eq!(tensors.tensor(entry.name()).unwrap().shape(), entry.dims());
    }
}

#[test]
fn networks_come_back() {
    let shape = |dims: &[usize]| Shape::from_dims(dims).unwrap();
    let net = NetConfig::Residual(ResidualConfig { hidden: 4, last_gain: 0.5, ..ResidualConfig::default() });
    let step = StepConfig { net: net.clone(), ..StepConfig::default() };
    let flow = GlowConfig { channels: 1, levels: 2, steps: 2, step, ..GlowConfig::default() };
    round_trip(&tiny(), shape(&[5, 2]), None);
    round_trip(&flow, shape(&[2, 1, 8, 4]), None);
    round_trip(&HyperbolicConfig::default(), shape(&[1, 16, 8, 8]), None);
    let condition = PyramidConfig { channels: 2, net: Some(net), features: 3 };
    let conditional = ConditionalGlowConfig { flow: flow.clone(), condition };
    round_trip(&conditional, shape(&[2, 1, 8, 4]), Some(shape(&[2, 2, 8, 4])));
    let plain = ConditionalGlowConfig { flow, condition: PyramidConfig { channels: 2, ..PyramidConfig::default() } };
    round_trip(&plain, shape(&[2, 1, 8, 4]), Some(shape(&[2, 2, 8, 4])));
}

#[test]
fn the_other_number_type() {
    let (_folder, path) = folder();
    let (single, double) = (Cpu::<f32>::new(), Cpu::<f64>::new());
    fn values<L: Invertible, B: Backend>(model: &inn_core::Model<L, B>) -> Vec<f64> {
        model.params().to_flat().unwrap()
    }
    let narrow = tiny().model(&single, 1).unwrap();
    files::save(&path, &tiny(), &narrow, &Metadata::default()).unwrap();
    let widened = files::load::<GlowConfig, _>(&path, &double).unwrap();
    assert_eq!((values(&widened.model), widened.dtype.as_str()), (values(&narrow), "f32"));

    let mut wide = tiny().model(&double, 1).unwrap();
    files::save(&path, &tiny(), &wide, &Metadata::default()).unwrap();
    let narrowed = files::load::<GlowConfig, _>(&path, &single).unwrap();
    let rounded: Vec<f64> = values(&wide).iter().map(|&v| f64::from(v as f32)).collect();
    assert_eq!((values(&narrowed.model), narrowed.dtype.as_str()), (rounded.clone(), "f64"));
    assert_ne!(rounded, values(&wide));

    wide.params_mut().fill(1e300).unwrap();
    files::save(&path, &tiny(), &wide, &Metadata::default()).unwrap();
    says(files::load::<GlowConfig, _>(&path, &single), &["tensor level0", "range of f32", "1"]);
}

#[test]
fn files_that_are_none() {
    let (folder, path) = folder();
    let error = says(load(&path), &["network.safetensors"]);
    assert!(matches!(error, Error::Io { .. }));
    assert!(matches!(load(folder.path()), Err(Error::Io { .. })));
    for (contents, text) in [
        (&b""[..], "empty"),
        (b"abc", "truncated"),
        (b"\x05\0\0\0\0\0\0\0hello", "something else"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff{}", "something else"),
        (b"\x02\0\0\0\0\0\0\0{}", "metadata entry `inn`"),
        (b"\x02\0\0\0\0\0\0\0{]", "JSON"),
    ] {
        std::fs::write(&path, contents).unwrap();
        for result in [load(&path), files::kind_of(&path).map(drop)] {
            assert!(matches!(says(result, &["network.safetensors", text]), Error::Format { .. }));
        }
    }
    // A file of somebody else.
    let data = 1f32.to_le_bytes();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &data).unwrap();
    std::fs::write(&path, safetensors::serialize([("weight", view)], None).unwrap()).unwrap();
    says(load(&path), &["metadata entry `inn`"]);
}

#[test]
fn a_file_cut_at_any_length() {
    let (_folder, path) = folder();
    let bytes = save(&path, &tiny());
    for length in (0..bytes.len()).step_by(3).chain([8, bytes.len() - 1]) {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let expected = if length == 0 { "empty" } else { "truncated" };
        assert!(matches!(says(load(&path), &[expected]), Error::Format { .. }), "{length} bytes");
    }
    std::fs::write(&path, [&bytes[..], b"x"].concat()).unwrap();
    says(load(&path), &["too long"]);
}

#[test]
fn every_flipped_bit_is_noticed() {
    let (_folder, path) = folder();
    let mut bytes = save(&path, &tiny());
    for position in 0..bytes.len() {
        // One bit of each byte: all eight are met at different places.
        let bit = 1 << (position * 5 % 8);
        bytes[position] ^= bit;
        std::fs::write(&path, &bytes).unwrap();
        match load(&path) {
            Err(Error::Format { .. }) => {}
            other => panic!("byte {position}, bit {bit}: {other:?}"),
        }
        let _ = files::kind_of(&path);
        bytes[position] ^= bit;
    }
    std::fs::write(&path, &bytes).unwrap();
    load(&path).unwrap();
}

#[test]
fn a_newer_format() {
    let (_folder, path) = folder();
    let bytes = save(&path, &tiny());
    let find = |text: &[u8]| bytes.windows(text.len()).position(|w| w == text).unwrap();
    let mut newer = bytes.clone();
    let key = br#"\"format\":"#;
    newer[find(key) + key.len()] = b'2';
    std::fs::write(&path, &newer).unwrap();
    says(load(&path), &["newer version (0.1.0)", "expected format <= 1, got 2"]);
    says(files::kind_of(&path), &["newer version"]);
}

#[test]
fn weights_of_another_architecture() {
    let (_folder, path) = folder();
    let cpu = Cpu::<f32>::new();
    save(&path, &tiny());
    says(files::load::<ConditionalGlowConfig, _>(&path, &cpu), &["kind `conditional_glow`, got `glow`"]);
    says(files::load::<HyperbolicConfig, _>(&path, &cpu), &["kind `hyperbolic`, got `glow`"]);

    // Names and shapes decide where weights are loaded into a network that exists.
    let config = |steps, width: usize| {
        let net = NetConfig::Dense(DenseConfig { hidden: vec![width], ..DenseConfig::default() });
        GlowConfig { step: StepConfig { net, ..StepConfig::default() }, ..GlowConfig::dense(2, steps) }
    };
    let into = |config: &GlowConfig| {
        let mut model = config.model(&cpu, 0).unwrap();
        let before = model.params().to_flat().unwrap();
        let error = files::load_weights_into(&path, &mut model);
        assert!(error.is_ok() || before == model.params().to_flat().unwrap());
        error
    };
    assert!(into(&config(1, 2)).is_ok());
    says(into(&config(2, 2)), &["tensor level0.step1", "got no tensor of this name"]);
    says(into(&config(1, 3)), &["tensor level0.step0.coupling.layer0.weight", "expected [3, 1]", "got [2, 1]"]);
    save(&path, &config(2, 2));
    says(into(&config(1, 2)), &["tensor level0.step1", "none of them"]);

    // A configuration that does not belong to the model is not written at all.
    let before = std::fs::read(&path).unwrap();
    let other = config(3, 2).model(&cpu, 0).unwrap();
    says(files::save(&path, &tiny(), &other, &Metadata::default()), &["another network"]);
    assert!(before == std::fs::read(&path).unwrap());
}

#[test]
fn numbers_that_json_does_not_have() {
    let (_folder, path) = folder();
    let mut metadata = Metadata::default();
    metadata.set("mean", &f64::NAN).unwrap();
    says(metadata.get::<f64>("mean"), &["metadata mean", "null"]);
    let scale = ScaleMap::ExpClamp { clamp: f64::NAN };
    let config = GlowConfig { step: StepConfig { scale, ..StepConfig::default() }, ..GlowConfig::dense(2, 1) };
    let model = config.model(&Cpu::<f32>::new(), 0).unwrap();
    says(files::save(&path, &config, &model, &Metadata::default()), &["the configuration", "null"]);
    assert!(!path.exists());
}

#[test]
fn places_that_cannot_be_written() {
    let (folder, path) = folder();
    let before = save(&path, &tiny());
    let model = tiny().model(&Cpu::<f32>::new(), 0).unwrap();
    let save = |path: PathBuf| {
        let name = path.display().to_string();
        let error = says(files::save(&path, &tiny(), &model, &Metadata::default()), &[&name]);
        assert!(matches!(error, Error::Io { .. }), "{error}");
    };
    // Below a file, in a folder that is missing, in the place of a folder, and nowhere.
    save(path.join("below"));
    save(folder.path().join("missing").join("network"));
    std::fs::create_dir(folder.path().join("taken")).unwrap();
    std::fs::write(folder.path().join("taken").join("file"), "x").unwrap();
    save(folder.path().join("taken"));
    save(folder.path().join(".."));
    let mut left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["network.safetensors", "taken"]);
    assert!(before == std::fs::read(&path).unwrap());
}

/// Where the child of the test below saves.
const FULL: &str = "INN_TEST_FULL_DISK";

#[test]
fn child_on_a_full_disk() {
    let Some(path) = std::env::var_os(FULL).map(PathBuf::from) else { return };
    let config = GlowConfig::dense(2, 4);
    let model = config.model(&Cpu::<f32>::new(), 0).unwrap();
    let error = files::save(&path, &config, &model, &Metadata::default()).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    load(&path).unwrap();
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    println!("refused: {error}");
}

/// A limit on the size of files stands in for the full disk: the write fails in the middle.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_old_file() {
    let (_folder, path) = folder();
    let before = save(&path, &tiny());
    let child = std::process::Command::new("sh")
        .args(["-c", r#"trap '' XFSZ; ulimit -f 8; exec "$@""#, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child_on_a_full_disk", "--nocapture"])
        .env(FULL, &path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && text.contains("refused: "), "{text}");
    assert!(before == std::fs::read(&path).unwrap());
}
