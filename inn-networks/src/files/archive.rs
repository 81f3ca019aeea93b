//! The format: a safetensors file whose metadata describe it, with a checksum over every byte.

use super::atomic;
use inn_core::{Error, Result};
use safetensors::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The format that this version writes; it reads all up to this one.
pub(crate) const FORMAT: u64 = 1;
/// The key of the metadata map. There is one: the map that safetensors writes has no order, and equal networks have to give equal files.
const KEY: &str = "inn";
/// How every file of ours begins, after the eight bytes of the header's length. The checksum's digits follow.
const START: &str = r#"{"__metadata__":{"inn":"{\"checksum\":\"crc32:"#;
const DIGITS: usize = 8;
const LENGTH: usize = 8;
/// Longer headers are refused, as safetensors does.
const LONGEST_HEADER: u64 = 100_000_000;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Content {
    /// Configuration and weights.
    Network,
    /// A training at a step: weights in the group `weights/`, and all else that goes on from there.
    Checkpoint,
}

/// The metadata. The checksum has to be the first field, see [`START`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Header {
    checksum: String,
    pub format: u64,
    pub crate_version: String,
    pub content: Content,
    pub kind: Option<String>,
    pub config: Option<Value>,
    pub initialized: bool,
    pub dtype: String,
    #[serde(default)]
    pub user: BTreeMap<String, Value>,
    #[serde(default)]
    pub training: Option<Value>,
}

impl Header {
    pub fn new(content: Content, initialized: bool, dtype: &str) -> Self {
        Self {
            checksum: format!("crc32:{}", "0".repeat(DIGITS)),
            format: FORMAT,
            crate_version: env!("CARGO_PKG_VERSION").into(),
            content,
            kind: None,
            config: None,
            initialized,
            dtype: dtype.into(),
            user: BTreeMap::new(),
            training: None,
        }
    }

    /// Takes over what is known of the network.
    pub fn describe(&mut self, description: &super::Description) {
        let super::Description { kind, config, user } = description.clone();
        (self.kind, self.config, self.user) = (kind, config, user);
    }

    /// What it says of the network.
    pub fn description(&self) -> super::Description {
        super::Description { kind: self.kind.clone(), config: self.config.clone(), user: self.user.clone() }
    }
}

/// A tensor on its way into a file.
pub(crate) struct Stored {
    pub name: String,
    pub dtype: Dtype,
    pub dims: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl View for &Stored {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.dims
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Writes a file, atomically.
pub(crate) fn write(path: &Path, header: &Header, tensors: &[Stored]) -> Result<()> {
    let fail = |reason: String| Error::format(path, reason);
    let json = serde_json::to_string(header).map_err(|e| fail(format!("the metadata cannot be written: {e}")))?;
    let metadata = HashMap::from([(KEY.to_owned(), json)]);
    let pairs = tensors.iter().map(|tensor| (tensor.name.as_str(), tensor));
    let mut bytes = safetensors::serialize(pairs, Some(metadata)).map_err(|e| fail(format!("the tensors cannot be written: {e}")))?;
    let digits = digits_of(&bytes).ok_or_else(|| fail("the header does not begin as it should".into()))?;
    let sum = checksum(&bytes);
    bytes[digits].copy_from_slice(sum.as_bytes());
    atomic::write_whole(path, &bytes)
}

/// Where the digits of the checksum are, if the file begins as ours do.
fn digits_of(bytes: &[u8]) -> Option<std::ops::Range<usize>> {
    let start = LENGTH + START.len();
    let found = bytes.get(LENGTH..start)? == START.as_bytes() && bytes.len() >= start + DIGITS;
    found.then_some(start..start + DIGITS)
}

/// CRC-32 of the whole file with zeros in the place of the digits: header, names, shapes, configuration and data alike.
fn checksum(bytes: &[u8]) -> String {
    let start = LENGTH + START.len();
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..start]);
    hasher.update("0".repeat(DIGITS).as_bytes());
    hasher.update(&bytes[start + DIGITS..]);
    format!("{:08x}", hasher.finalize())
}

/// A file in memory, checked.
#[derive(Debug)]
pub(crate) struct Archive {
    pub path: PathBuf,
    pub header: Header,
    bytes: Vec<u8>,
}

impl Archive {
    /// Reads and checks a file: length, header, format, checksum.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        let fail = |reason: String| Error::format(path, reason);
        let json = header_json(path, &bytes, bytes.len() as u64)?;
        let header = parse_header(path, json)?;
        let digits = digits_of(&bytes).ok_or_else(|| fail("the metadata were changed after the file was written".into()))?;
        let (expected, got) = (checksum(&bytes), &bytes[digits]);
        if expected.as_bytes() != got {
            let got = String::from_utf8_lossy(got);
            return Err(fail(format!("the file is damaged: expected checksum {expected} of its contents, got {got}")));
        }
        let archive = Self { path: path.into(), header, bytes };
        archive.tensors()?;
        Ok(archive)
    }

    /// The tensors.
    pub fn tensors(&self) -> Result<SafeTensors<'_>> {
        SafeTensors::deserialize(&self.bytes).map_err(|e| self.fail(format!("expected a valid safetensors file, got: {e}")))
    }

    pub fn fail(&self, reason: impl ToString) -> Error {
        Error::format(&self.path, reason)
    }

    /// Refuses networks of another kind.
    pub fn expect_kind(&self, kind: &str) -> Result<()> {
        match &self.header.kind {
            Some(found) if found == kind => Ok(()),
            Some(found) => Err(self.fail(format!("expected a network of kind `{kind}`, got `{found}`"))),
            None => Err(self.fail(format!("expected a network of kind `{kind}`, got a file that does not say its kind"))),
        }
    }
}

/// The metadata of a file, without its tensors and without the check of the sum.
pub(crate) fn read_header(path: &Path) -> Result<Header> {
    let io = |e| Error::io(path, e);
    let file = std::fs::File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    let mut file = std::io::BufReader::new(file);
    let mut bytes = Vec::new();
    file.by_ref().take(LENGTH as u64).read_to_end(&mut bytes).map_err(io)?;
    if let Some(length) = header_length(&bytes) {
        file.take(length.min(LONGEST_HEADER)).read_to_end(&mut bytes).map_err(io)?;
    }
    parse_header(path, header_json(path, &bytes, size)?)
}

fn header_length(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk::<LENGTH>().map(|b| u64::from_le_bytes(*b))
}

/// The JSON text under our key, from the beginning of a file of `size` bytes.
fn header_json(path: &Path, bytes: &[u8], size: u64) -> Result<String> {
    #[derive(Deserialize)]
    struct Outer {
        #[serde(rename = "__metadata__")]
        metadata: Option<HashMap<String, String>>,
        #[serde(flatten)]
        tensors: HashMap<String, Info>,
    }
    #[derive(Deserialize)]
    struct Info {
        data_offsets: (u64, u64),
    }
    let fail = |reason: String| Err(Error::format(path, reason));
    if size == 0 {
        return fail("expected a safetensors file, got an empty file".into());
    }
    let Some(length) = header_length(bytes) else {
        return fail(format!("the file is truncated: expected at least {LENGTH} bytes, got {size}"));
    };
    if bytes.get(LENGTH).is_some_and(|&b| b != b'{') || length > LONGEST_HEADER {
        return fail("expected a safetensors file (a length and a JSON header), got something else".into());
    }
    let Some(text) = usize::try_from(length).ok().and_then(|n| bytes.get(LENGTH..LENGTH + n)) else {
        return fail(format!("the file is truncated: expected a header of {length} bytes, got {} bytes in all", size));
    };
    let outer: Outer = match serde_json::from_slice(text) {
        Ok(outer) => outer,
        Err(e) => return fail(format!("expected a safetensors header in JSON, got: {e}")),
    };
    let end = outer.tensors.values().map(|info| info.data_offsets.1).max().unwrap_or(0);
    let expected = end.saturating_add(length).saturating_add(LENGTH as u64);
    if expected != size {
        let what = if size < expected { "truncated" } else { "too long" };
        return fail(format!("the file is {what}: expected {expected} bytes, got {size}"));
    }
    match outer.metadata.and_then(|mut map| map.remove(KEY)) {
        Some(json) => Ok(json),
        None => fail(format!("expected the metadata entry `{KEY}` that inn-networks writes, got a safetensors file without it")),
    }
}

fn parse_header(path: &Path, json: String) -> Result<Header> {
    #[derive(Deserialize)]
    struct Version {
        format: u64,
        #[serde(default)]
        crate_version: String,
    }
    let malformed = |e: serde_json::Error| Error::format(path, format!("the metadata are malformed: {e}"));
    // A newer format may have any other field, so its number is read alone.
    let version: Version = serde_json::from_str(&json).map_err(malformed)?;
    if version.format > FORMAT {
        let by = &version.crate_version;
        let got = version.format;
        return Err(Error::format(path, format!("written by a newer version ({by}): expected format <= {FORMAT}, got {got}")));
    }
    serde_json::from_str(&json).map_err(malformed)
}
