//! Pictures of curves as PNG files.

use crate::files::atomic;
use inn_core::{Error, Result};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;
use std::path::Path;

/// The font that comes with the crate.
pub(crate) const FONT: &str = "ubuntu";

type Canvas<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

/// Draws on a bitmap and writes it; a file that was there stays until the new one is whole.
pub(crate) fn write<E: std::fmt::Display>(path: &Path, size: (u32, u32), draw: impl FnOnce(&Canvas<'_>) -> Result<(), E>) -> Result<()> {
    if register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT).is_err() {
        return Err(Error::config("plot", "the font of the crate cannot be read"));
    }
    let mut pixels = vec![0; 3 * size.0 as usize * size.1 as usize];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, size).into_drawing_area();
        draw(&area).map_err(|e| Error::config("plot", e))?;
    }
    atomic::write_with(path, |file| {
        let mut encoder = png::Encoder::new(std::io::BufWriter::new(file), size.0, size.1);
        encoder.set_color(png::ColorType::Rgb);
        encoder.write_header()?.write_image_data(&pixels)?;
        Ok(())
    })
}
