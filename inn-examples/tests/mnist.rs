//! Reading digits, and what is said of files that are not digits.

use flate2::{Compression, write::GzEncoder};
use inn_core::Error;
use inn_examples::mnist::{Mnist, PIXELS};
use std::io::Write;
use std::path::Path;

fn idx(extents: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, extents.len() as u8];
    extents.iter().for_each(|e| bytes.extend(e.to_be_bytes()));
    bytes.extend(values);
    bytes
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Four good files: two images to train on, one to test on.
fn good(folder: &Path) {
    let images: Vec<u8> = (0..2 * PIXELS).map(|i| (i % 251) as u8).collect();
    std::fs::write(folder.join("train-images-idx3-ubyte"), idx(&[2, 28, 28], &images)).unwrap();
    std::fs::write(folder.join("train-labels-idx1-ubyte.gz"), gz(&idx(&[2], &[7, 3]))).unwrap();
    std::fs::write(folder.join("t10k-images-idx3-ubyte.gz"), gz(&idx(&[1, 28, 28], &images[..PIXELS]))).unwrap();
    std::fs::write(folder.join("t10k-labels-idx1-ubyte"), idx(&[1], &[9])).unwrap();
}

/// The message where one of the files has other bytes.
fn message(name: &str, bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    good(folder.path());
    std::fs::write(folder.path().join(name), bytes).unwrap();
    let error = Mnist::open(folder.path()).unwrap_err();
    assert!(matches!(error, Error::Format { .. }), "{error:?}");
    let message = error.to_string();
    assert!(message.contains(name), "{message}");
    message
}

#[test]
fn the_shipped_digits() {
    let mnist = Mnist::shipped().unwrap();
    assert_eq!((mnist.train.len(), mnist.test.len()), (4096, 512));
    assert_eq!(mnist.train.labels()[..5], [5, 0, 4, 1, 9]);
    assert_eq!(mnist.test.labels()[..5], [7, 2, 1, 0, 4]);
    let mean = mnist.train.unit().iter().map(|&v| f64::from(v)).sum::<f64>() / (4096 * PIXELS) as f64;
    // 0.1307 over all 60,000.
    assert!((mean - 0.1307).abs() < 0.002, "{mean}");
    assert!(mnist.train.image(4095).is_some() && mnist.train.image(4096).is_none());
}

#[test]
fn a_folder_with_plain_and_gzipped_files() {
    let folder = tempfile::tempdir().unwrap();
    good(folder.path());
    let mnist = Mnist::open(folder.path()).unwrap();
    assert_eq!((mnist.train.labels(), mnist.test.labels()), (&[7, 3][..], &[9][..]));
    assert_eq!(mnist.train.image(1).unwrap()[..3], [(PIXELS % 251) as u8, (PIXELS % 251) as u8 + 1, (PIXELS % 251) as u8 + 2]);
    assert_eq!(mnist.train.images().len(), 2);
}

#[test]
fn a_missing_folder_and_a_missing_file() {
    let folder = tempfile::tempdir().unwrap();
    let error = Mnist::open(folder.path().join("nowhere")).unwrap_err();
    assert!(matches!(error, Error::Io { .. }) && error.to_string().contains("nowhere"), "{error}");
    let error = Mnist::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("train-images-idx3-ubyte") && error.contains("empty folder"), "{error}");
    good(folder.path());
    std::fs::remove_file(folder.path().join("t10k-labels-idx1-ubyte")).unwrap();
    let error = Mnist::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("t10k-labels-idx1-ubyte[.gz] or test-labels") && error.contains("found t10k-images"), "{error}");
}

#[test]
fn malformed_files() {
    let images = "train-images-idx3-ubyte";
    assert!(message(images, b"").contains("begins with two zero bytes"));
    assert!(message(images, b"\x89PNG\r\n").contains("[137, 80, 78, 71]"));
    assert!(message(images, &[0, 0, 13, 3, 0, 0]).contains("type 13"));
    assert!(message(images, &[0, 0, 8, 3, 0, 0]).contains("ends after 6 bytes"));
    assert!(message(images, &idx(&[2, 28, 28], &[0; 99])).contains("got 99"));
    assert!(message(images, &idx(&[u32::MAX, u32::MAX, u32::MAX], &[0; 99])).contains("got 99"));
    assert!(message(images, &idx(&[2, 32, 32], &[0; 2048])).contains("28 x 28"));
    assert!(message(images, &idx(&[2], &[0; 2])).contains("28 x 28"));
    assert!(message("t10k-labels-idx1-ubyte", &idx(&[2], &[1, 2])).contains("each of 1 images"));
    assert!(message("t10k-labels-idx1-ubyte", &idx(&[1], &[10])).contains("got 10 at index 0"));
    let whole = gz(&idx(&[1, 28, 28], &[1; PIXELS]));
    assert!(message("t10k-images-idx3-ubyte.gz", &whole[..whole.len() / 2]).contains("damaged gzip"));
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x10;
    assert!(message("t10k-images-idx3-ubyte.gz", &flipped).contains("damaged gzip"));
}

#[test]
fn no_images_at_all() {
    let folder = tempfile::tempdir().unwrap();
    good(folder.path());
    std::fs::write(folder.path().join("train-images-idx3-ubyte"), idx(&[0, 28, 28], &[])).unwrap();
    std::fs::write(folder.path().join("train-labels-idx1-ubyte.gz"), gz(&idx(&[0], &[]))).unwrap();
    let error = Mnist::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("at least one image"), "{error}");
}
