//! Files: networks that restore themselves, and what training continues from.
//!
//! A network is **one** [safetensors](https://github.com/huggingface/safetensors) file. Its tensors are the parameters, under their readable
//! names, with their axes, row-major, in the number type of the backend that wrote them; any reader of safetensors sees them. Its metadata
//! map has one entry, `inn`, a JSON object:
//!
//! | field | holds |
//! |---|---|
//! | `checksum` | CRC-32 of the whole file, its own eight digits taken as zeros |
//! | `format` | version of the format, 1; newer ones are refused |
//! | `crate_version` | of the crate that wrote it |
//! | `content` | `network`, or `checkpoint` (a [training](crate::train) at a step) |
//! | `kind`, `config` | [`Architecture::KIND`] and the configuration, from which the network is built again |
//! | `initialized` | whether data-dependent initialization has been done |
//! | `dtype` | `f32` or `f64` |
//! | `user` | what [`Metadata`] brought, statistics of the data for example |
//!
//! Equal networks give equal files, byte by byte. Files are written to a temporary file in the same folder, brought to the disk and renamed:
//! after an error, a full disk or a killed process the old file is still there.
//!
//! ```
//! # use inn_core::{Architecture, Result, Scope, Shape, Tensor};
//! # use inn_layers::ActNorm;
//! # use inn_ops::Cpu;
//! # #[derive(serde::Serialize, serde::Deserialize)]
//! # struct Scaled { channels: usize }
//! # impl Architecture for Scaled {
//! #     const KIND: &'static str = "scaled";
//! #     type Network = ActNorm;
//! #     fn build(&self, scope: &mut Scope<'_>) -> Result<ActNorm> { ActNorm::new(scope, self.channels) }
//! # }
//! use inn_networks::files::{self, Metadata};
//!
//! let cpu = Cpu::<f32>::new();
//! let config = Scaled { channels: 3 };
//! let model = config.model(&cpu, 0)?;
//! # let folder = tempfile::tempdir().map_err(|e| inn_core::Error::io("", e))?;
//! let path = folder.path().join("network.safetensors");
//! let mut metadata = Metadata::default();
//! metadata.set("mean", &0.13)?;
//! files::save(&path, &config, &model, &metadata)?;
//!
//! let restored = files::load::<Scaled, _>(&path, &cpu)?;
//! assert_eq!(restored.config.channels, 3);
//! assert_eq!(restored.metadata.get::<f64>("mean")?, Some(0.13));
//! # Ok::<(), inn_core::Error>(())
//! ```

pub(crate) mod archive;
pub(crate) mod atomic;
pub(crate) mod weights;

pub use atomic::write_whole;

use archive::{Archive, Content, Header, Stored};
use inn_core::{Architecture, Backend, Element, Error, Invertible, Model, Result};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The group of the weights in a checkpoint; a network has its parameters at the top.
pub(crate) const WEIGHTS: &str = "weights/";

/// What a user keeps beside a network: values by name, such as the mean and the scale of the data.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata(BTreeMap<String, Value>);

impl Metadata {
    /// Keeps a value under a name, in the place of one that was there. JSON knows no numbers that are not finite: they become `null`, which
    /// [`get`](Self::get) refuses as a number.
    ///
    /// # Errors
    /// [`Error::Config`]: the value cannot be written as JSON.
    pub fn set<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<()> {
        let value = serde_json::to_value(value).map_err(|e| Error::config(format!("metadata {name}"), e))?;
        self.0.insert(name.into(), value);
        Ok(())
    }

    /// The value of a name, if there is one.
    ///
    /// # Errors
    /// [`Error::Config`]: it has another type.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let value = self.0.get(name).map(|value| T::deserialize(value));
        value.transpose().map_err(|e| Error::config(format!("metadata {name}"), e))
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// A network from a file.
pub struct Restored<A: Architecture, B: Backend> {
    /// Its configuration.
    pub config: A,
    /// The network with its weights; bit for bit those that were saved, unless they were in another number type.
    pub model: Model<A::Network, B>,
    /// What the user kept beside it.
    pub metadata: Metadata,
    /// The number type of the file, `"f32"` or `"f64"`; where it is not the backend's, the weights were rounded or widened to that.
    pub dtype: String,
}

/// Saves a network.
///
/// # Errors
/// [`Error::Io`] where the file cannot be written; an older file at `path` is then still there. [`Error::Format`] where the configuration
/// cannot be written as JSON or builds another network than `model`.
pub fn save<A: Architecture, B: Backend>(
    path: impl AsRef<Path>,
    config: &A,
    model: &Model<A::Network, B>,
    metadata: &Metadata,
) -> Result<()> {
    let path = path.as_ref();
    let mut header = Header::new(Content::Network, model.is_initialized(), B::Elem::NAME);
    header.describe(&Description::new(config, model.layout(), metadata).map_err(|e| Error::format(path, e))?);
    let mut tensors: Vec<Stored> = Vec::new();
    weights::store("", model.params(), &mut tensors)?;
    archive::write(path, &header, &tensors)
}

/// What a file says of a network beside its weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Description {
    pub kind: Option<String>,
    pub config: Option<Value>,
    pub user: BTreeMap<String, Value>,
}

impl Description {
    /// Of the network that `config` builds, which has to have the parameters of `layout`.
    pub fn new<A: Architecture>(config: &A, layout: &inn_core::Layout, metadata: &Metadata) -> Result<Self> {
        let (_, built) = inn_core::Layout::build(|scope| config.build(scope))?;
        if !built.is_compatible(layout) {
            let describe = |l: &inn_core::Layout| format!("{} parameters of {} values", l.entries().len(), l.count());
            let reason = format!("builds another network: expected {}, got {}", describe(layout), describe(&built));
            return Err(Error::config("the configuration", reason));
        }
        let fail = |e: serde_json::Error| Error::config("the configuration", format!("cannot be written as JSON and read again: {e}"));
        let config = serde_json::to_value(config).map_err(fail)?;
        // A number that is not finite is written as `null`.
        A::deserialize(&config).map_err(fail)?;
        Ok(Self { kind: Some(A::KIND.into()), config: Some(config), user: metadata.0.clone() })
    }
}

/// Restores a network from a file of [`save`], or the current weights from a checkpoint whose trainer was told the configuration.
///
/// Weights of the other number type are converted: widening is exact, narrowing rounds ([`Restored::dtype`] tells which it was).
///
/// # Errors
/// [`Error::Io`] where the file cannot be read. [`Error::Format`] where it is empty, truncated, damaged, no file of ours, of a newer
/// format, of another kind of network, or where a tensor is missing, unknown, or of another shape than the configuration asks for.
pub fn load<A: Architecture, B: Backend>(path: impl AsRef<Path>, backend: &B) -> Result<Restored<A, B>> {
    let archive = Archive::open(path.as_ref())?;
    archive.expect_kind(A::KIND)?;
    let Some(config) = archive.header.config.clone() else {
        return Err(archive.fail("expected the configuration of the network, got none"));
    };
    let config: A = serde_json::from_value(config)
        .map_err(|e| archive.fail(format!("expected a configuration of kind `{}`, got one that does not fit: {e}", A::KIND)))?;
    let (layer, layout) = inn_core::Layout::build(|scope| config.build(scope))
        .map_err(|e| archive.fail(format!("the configuration of kind `{}` builds no network: {e}", A::KIND)))?;
    let params = read_weights(&archive, backend, &layout)?;
    Ok(Restored {
        config,
        model: Model::from_parts(layer, params, archive.header.initialized),
        metadata: Metadata(archive.header.user),
        dtype: archive.header.dtype,
    })
}

/// Loads the weights of a file into a network that exists, which keeps its frozen parameters frozen.
///
/// # Errors
/// As [`load`], except that kind and configuration are not compared: names and shapes decide. The model is unchanged then.
pub fn load_weights_into<L: Invertible, B: Backend>(path: impl AsRef<Path>, model: &mut Model<L, B>) -> Result<Metadata> {
    let archive = Archive::open(path.as_ref())?;
    let (backend, layout) = (model.backend().clone(), model.layout().clone());
    *model.params_mut() = read_weights(&archive, &backend, &layout)?;
    model.set_initialized(archive.header.initialized);
    Ok(Metadata(archive.header.user))
}

fn read_weights<B: Backend>(archive: &Archive, backend: &B, layout: &std::sync::Arc<inn_core::Layout>) -> Result<inn_core::Params<B>> {
    let tensors = archive.tensors()?;
    let group = match archive.header.content {
        Content::Network => "",
        Content::Checkpoint => WEIGHTS,
    };
    let params = weights::restore(archive, &tensors, group, backend, layout)?;
    weights::expect_only(archive, &tensors, group, layout)?;
    Ok(params)
}

/// The kind of the network in a file ([`Architecture::KIND`]), from its metadata alone; the checksum is not looked at.
///
/// # Errors
/// [`Error::Io`] or [`Error::Format`] as [`load`]; a checkpoint whose trainer was not told the configuration has no kind.
pub fn kind_of(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let header = archive::read_header(path)?;
    header.kind.ok_or_else(|| Error::format(path, "expected a file that says the kind of its network, got none"))
}
