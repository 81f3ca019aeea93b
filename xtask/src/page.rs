//! Pages that are partly written by a program.

use crate::Outcome;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A file that takes generated text: between the lines `<!-- NAME -->` and `<!-- /NAME -->` where it has them, else as a whole.
pub struct Page {
    path: PathBuf,
    /// What stands before and after the generated text.
    around: Option<(String, String)>,
}

impl Page {
    /// Reads what is there, before anything is measured.
    pub fn open(path: &Path, name: &str) -> Result<Self, String> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
            Err(e) => return Err(format!("{}: {e}", path.display())),
        };
        Ok(Self { path: path.to_owned(), around: around(&text, name) })
    }

    /// Whether other text stands around it.
    pub fn is_marked(&self) -> bool {
        self.around.is_some()
    }

    /// Puts the text in its place.
    pub fn write(&self, text: &str) -> Outcome {
        let whole = match &self.around {
            Some((before, after)) => format!("{before}\n{}\n{after}", text.trim_end()),
            None => text.to_owned(),
        };
        fs::write(&self.path, whole).map_err(|e| format!("{}: {e}", self.path.display()))
    }
}

/// The text up to the first mark and from the last one on, marks included.
fn around(text: &str, name: &str) -> Option<(String, String)> {
    let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (before, rest) = text.split_once(&open)?;
    let (_, after) = rest.split_once(&close)?;
    Some((format!("{before}{open}"), format!("{close}{after}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_between_marks_again_and_again_or_the_whole_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.md");
        fs::write(&path, "a\n<!-- x -->\nold\n<!-- /x -->\nb\n").unwrap();
        for text in ["new\n", "newer"] {
            let page = Page::open(&path, "x").unwrap();
            assert!(page.is_marked());
            page.write(text).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "a\n<!-- x -->\n\nnewer\n<!-- /x -->\nb\n");
        let page = Page::open(&path, "y").unwrap();
        assert!(!page.is_marked());
        page.write("all").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "all");
        assert!(Page::open(folder.path(), "x").is_err());
    }
}
