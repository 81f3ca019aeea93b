//! Handwritten digits: the IDX files of MNIST, and those that ship with this crate.
//!
//! An IDX file is a big-endian header (two zero bytes, the type of the values, the number of axes, the extents), then the values; gzipped or
//! not.

use flate2::read::GzDecoder;
use inn_core::{Error, Result};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The side of an image of MNIST in pixels.
pub const SIDE: usize = 28;
/// Pixels of an image of MNIST.
pub const PIXELS: usize = SIDE * SIDE;

/// Grey images with one label each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digits {
    images: Vec<u8>,
    labels: Vec<u8>,
}

/// What to train on and what to hold out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mnist {
    /// To train on.
    pub train: Digits,
    /// To evaluate on.
    pub test: Digits,
}

impl Digits {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Image `index`, row by row, 0 for the background; `None` where there are fewer.
    pub fn image(&self, index: usize) -> Option<&[u8]> {
        self.images.chunks_exact(PIXELS).nth(index)
    }

    /// All images.
    pub fn images(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.images.chunks_exact(PIXELS)
    }

    /// The digit that each image shows, 0 to 9.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// All images in [0, 1], (image, pixel), row-major.
    pub fn unit(&self) -> Vec<f32> {
        self.images.iter().map(|&v| f32::from(v) / 255.0).collect()
    }

    fn new(images: (PathBuf, Vec<u8>), labels: (PathBuf, Vec<u8>)) -> Result<Self> {
        let (image_path, label_path) = (images.0, labels.0);
        let images = Idx::parse(&image_path, &images.1)?;
        let labels = Idx::parse(&label_path, &labels.1)?;
        if images.extents.get(1..) != Some(&[SIDE, SIDE]) {
            let got = &images.extents;
            return Err(Error::format(image_path, format!("expected images of {SIDE} x {SIDE} pixels, got extents {got:?}")));
        }
        if labels.extents.len() != 1 || labels.extents.first() != images.extents.first() {
            let count = images.extents.first().copied().unwrap_or(0);
            return Err(Error::format(
                label_path,
                format!("expected one label for each of {count} images, got extents {:?}", labels.extents),
            ));
        }
        if labels.values.is_empty() {
            return Err(Error::format(image_path, "expected at least one image, got none"));
        }
        if let Some(i) = labels.values.iter().position(|&v| v > 9) {
            return Err(Error::format(label_path, format!("expected labels from 0 to 9, got {} at index {i}", labels.values[i])));
        }
        Ok(Self { images: images.values, labels: labels.values })
    }
}

macro_rules! shipped {
    ($name:literal) => {
        (PathBuf::from($name), include_bytes!(concat!("../data/", $name)).to_vec())
    };
}

impl Mnist {
    /// The digits that ship with this crate: the first 4,096 to train on and the first 512 of the test set.
    ///
    /// # Errors
    /// None, unless the crate was built from damaged files.
    pub fn shipped() -> Result<Self> {
        let train = Digits::new(shipped!("train-images-4096-idx3-ubyte.gz"), shipped!("train-labels-4096-idx1-ubyte.gz"))?;
        let test = Digits::new(shipped!("test-images-512-idx3-ubyte.gz"), shipped!("test-labels-512-idx1-ubyte.gz"))?;
        Ok(Self { train, test })
    }

    /// The digits of a folder with the four files of MNIST, under their usual names, gzipped or not:
    /// `train-images*`, `train-labels*`, and `t10k-images*` or `test-images*` with `-labels*`.
    ///
    /// # Errors
    /// [`Error::Io`] where folder or file cannot be read; [`Error::Format`] where a file is missing, or where it is malformed.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let entries = std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))?;
        let mut names = entries.map(|e| Ok(e?.file_name().to_string_lossy().into_owned())).collect::<std::io::Result<Vec<_>>>();
        // With both forms of a file there, the shorter name comes first.
        if let Ok(names) = &mut names {
            names.sort();
        }
        let names = names.map_err(|e| Error::io(folder, e))?;
        let read = |prefixes: &[&str], rank: u8| -> Result<(PathBuf, Vec<u8>)> {
            let idx = [format!("idx{rank}-ubyte"), format!("idx{rank}-ubyte.gz")];
            let fits = |name: &&String| prefixes.iter().any(|p| name.starts_with(p)) && idx.iter().any(|end| name.ends_with(end));
            let Some(name) = names.iter().find(fits) else {
                let wanted: Vec<String> = prefixes.iter().map(|p| format!("{p}-{}[.gz]", idx[0])).collect();
                return Err(Error::format(folder, format!("expected a file {}, found {}", wanted.join(" or "), listing(&names))));
            };
            let path = folder.join(name);
            let bytes = std::fs::read(&path).map_err(|e| Error::io(&path, e))?;
            Ok((path, bytes))
        };
        let train = Digits::new(read(&["train-images"], 3)?, read(&["train-labels"], 1)?)?;
        let test = Digits::new(read(&["t10k-images", "test-images"], 3)?, read(&["t10k-labels", "test-labels"], 1)?)?;
        Ok(Self { train, test })
    }
}

/// A few names, for a message.
fn listing(names: &[String]) -> String {
    match names {
        [] => "an empty folder".into(),
        names if names.len() <= 6 => names.join(", "),
        names => format!("{} and {} more", names[..6].join(", "), names.len() - 6),
    }
}

struct Idx {
    extents: Vec<usize>,
    values: Vec<u8>,
}

impl Idx {
    fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let fail = |reason: String| Error::format(path, reason);
        let unpacked;
        let bytes = if bytes.starts_with(&[0x1f, 0x8b]) {
            let mut values = Vec::new();
            GzDecoder::new(bytes).read_to_end(&mut values).map_err(|e| fail(format!("damaged gzip data: {e}")))?;
            unpacked = values;
            &unpacked[..]
        } else {
            bytes
        };
        let &[0, 0, kind, axes, ref rest @ ..] = bytes else {
            let head = &bytes[..bytes.len().min(4)];
            return Err(fail(format!("expected an IDX file, which begins with two zero bytes, a type and a number of axes, got {head:?}")));
        };
        if kind != 8 {
            return Err(fail(format!("expected unsigned bytes (type 8), got type {kind}")));
        }
        let axes = usize::from(axes);
        let Some((header, values)) = rest.split_at_checked(4 * axes) else {
            return Err(fail(format!("expected {axes} extents of four bytes, the file ends after {} bytes", bytes.len())));
        };
        let extents: Vec<usize> = header.chunks_exact(4).map(|b| b.iter().fold(0, |n, &v| n << 8 | usize::from(v))).collect();
        let expected = extents.iter().try_fold(1usize, |n, &e| n.checked_mul(e));
        if expected != Some(values.len()) {
            return Err(fail(format!("the header announces extents {extents:?}, so many values are expected; got {}", values.len())));
        }
        Ok(Self { extents, values: values.to_vec() })
    }
}
