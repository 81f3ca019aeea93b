//! Archives of numpy arrays.

use super::Array;
use inn_core::{Error, Result};
use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::Path;

/// How a zip archive begins.
pub(super) const MAGIC: &[u8] = b"PK\x03\x04";

/// The arrays of an archive in f32 or f64 by their names without `.npy`; others are left out. The axes of an array in column-major order are
/// reversed, which leaves its memory as it is: what a column-major language wrote and what a row-major one wrote of the same memory are equal.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Array>> {
    let malformed = |e: &dyn std::fmt::Display| Error::format(path, format!("expected a valid npz archive, got: {e}"));
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(|e| malformed(&e))?;
    let mut arrays = BTreeMap::new();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).map_err(|e| malformed(&e))?;
        let name = file.name().map_err(|e| malformed(&e))?.trim_end_matches(".npy").to_owned();
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(|e| malformed(&e))?;
        if let Some(array) = parse(&content).ok_or_else(|| malformed(&format!("no npy array under {name}")))? {
            arrays.insert(name, array);
        }
    }
    Ok(arrays)
}

/// An npy file, versions 1 to 3: `None` if it is none, `Some(None)` if it holds other numbers than ours.
fn parse(bytes: &[u8]) -> Option<Option<Array>> {
    let rest = bytes.strip_prefix(b"\x93NUMPY")?;
    let (len, start): (usize, usize) = match *rest {
        [1, _, a, b, ..] => (usize::from(u16::from_le_bytes([a, b])), 4),
        [2 | 3, _, a, b, c, d, ..] => (usize::try_from(u32::from_le_bytes([a, b, c, d])).ok()?, 6),
        _ => return None,
    };
    let header = std::str::from_utf8(rest.get(start..start.checked_add(len)?)?).ok()?;
    let data = &rest[start + len..];
    let mut dims = shape(header)?;
    if value(header, "fortran_order")?.starts_with("True") {
        dims.reverse();
    }
    let kind = value(header, "descr")?;
    let values: Vec<f64> = if kind.starts_with("'<f4'") {
        data.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect()
    } else if kind.starts_with("'<f8'") {
        data.chunks_exact(8).map(|b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])).collect()
    } else {
        return Some(None);
    };
    let len = dims.iter().try_fold(1usize, |len, &n| len.checked_mul(n))?;
    (values.len() == len).then_some(Some(Array { dims, values }))
}

/// What follows `'key':` in a header.
fn value<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = header.split_once(&format!("'{key}'"))?;
    Some(rest.trim_start().strip_prefix(':')?.trim_start())
}

/// The numbers of `'shape': (..)`.
fn shape(header: &str) -> Option<Vec<usize>> {
    let (numbers, _) = value(header, "shape")?.strip_prefix('(')?.split_once(')')?;
    numbers.split(',').map(str::trim).filter(|n| !n.is_empty()).map(|n| n.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn npy(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn archive(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (i, (name, bytes)) in files.iter().enumerate() {
            let method = if i % 2 == 0 { zip::CompressionMethod::Stored } else { zip::CompressionMethod::Deflated };
            writer.start_file(*name, zip::write::SimpleFileOptions::default().compression_method(method)).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn column_major_and_row_major_arrays_of_one_memory_are_equal() {
        let data = bytes(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let files = [
            ("theta.000.npy", npy("<f4", "True", "(3, 2)", &data)),
            ("theta.001.npy", npy("<f4", "False", "(2, 3)", &data)),
            ("one.npy", npy("<f8", "False", "(1,)", &7.5f64.to_le_bytes())),
            ("number.npy", npy("<f8", "True", "()", &0.5f64.to_le_bytes())),
            ("words.npy", npy("<U4", "False", "(0,)", &[])),
        ];
        let arrays = read(Path::new("w"), &archive(&files)).unwrap();
        let expected = Array { dims: vec![2, 3], values: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0] };
        assert_eq!((&arrays["theta.000"], &arrays["theta.001"]), (&expected, &expected));
        assert_eq!(arrays["one"], Array { dims: vec![1], values: vec![7.5] });
        assert_eq!(arrays["number"], Array { dims: vec![], values: vec![0.5] });
        assert_eq!(arrays.len(), 4);
    }

    #[test]
    fn damaged_archives_are_refused() {
        let data = bytes(&[1.0, 2.0]);
        for file in [
            npy("<f4", "True", "(3,)", &data),
            npy("<f4", "True", "(18446744073709551615, 2)", &data),
            npy("<f4", "maybe", "[2]", &data),
            npy("<f4", "True", "(2,)", &data)[..20].to_vec(),
            b"\x93NUMPY\x09\x00".to_vec(),
            vec![],
        ] {
            let message = read(Path::new("weights"), &archive(&[("a.npy", file)])).unwrap_err().to_string();
            assert!(message.contains("weights") && message.contains("no npy array under a"), "{message}");
        }
        let good = archive(&[("a.npy", npy("<f4", "True", "(2,)", &data))]);
        assert!(read(Path::new("weights"), &good[..good.len() - 3]).is_err());
    }
}
