//! Files that are either the old or the new one, never a part of one.

use inn_core::{Error, Result};
use std::io::Write;
use std::path::Path;

/// Writes `bytes` to a temporary file beside `path`, makes sure that they are on the disk, and renames it to `path`.
///
/// On an error, or when the process dies meanwhile, `path` is what it was. On an error the temporary file is removed; a process that is
/// killed may leave one, named `.NAME.*.tmp`.
///
/// # Errors
/// [`Error::Io`] with `path`: the folder is missing or cannot be written, the disk is full, `path` is a folder.
pub fn write_whole(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    write_with(path.as_ref(), |file| file.write_all(bytes))
}

/// The same with the contents written by `fill`.
pub(crate) fn write_with(path: &Path, fill: impl FnOnce(&mut std::fs::File) -> std::io::Result<()>) -> Result<()> {
    let io = |source| Error::io(path, source);
    let name = path.file_name().ok_or_else(|| io(std::io::Error::new(std::io::ErrorKind::InvalidInput, "expected the name of a file")))?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(".tmp");
    #[cfg(unix)]
    {
        // As any other new file, subject to the umask; a temporary file would be readable by its owner alone.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).map_err(io)?;
    fill(file.as_file_mut()).map_err(io)?;
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|e| io(e.error))?;
    // The rename itself has to reach the disk. Only Unix lets a folder be opened for that.
    #[cfg(unix)]
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
    Ok(())
}
