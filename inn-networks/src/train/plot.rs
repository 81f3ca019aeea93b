//! A picture of the loss curves.

use super::observer::Record;
use inn_core::{Error, Result};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;
use std::ops::Range;
use std::path::Path;

const SIZE: (u32, u32) = (900, 600);
const FONT: &str = "ubuntu";
const HELD_OUT: RGBColor = RGBColor(200, 60, 30);
const TRAINED: RGBColor = RGBColor(40, 90, 160);

/// Draws the loss of the batches, its running mean and the loss of held-out data over the steps, as a PNG file of 900 x 600 pixels.
///
/// The vertical axis leaves the highest 2 % of the losses out, so that the first steps do not flatten the rest. Values that are not finite
/// are left out. The font comes with the crate.
///
/// # Errors
/// [`Error::Config`]: no records. [`Error::Io`]: the file cannot be written; one that was there is still there.
pub fn plot_losses(path: impl AsRef<Path>, title: &str, records: &[Record]) -> Result<()> {
    let path = path.as_ref();
    let losses = finite(records.iter().map(|r| (r.step as f64, r.loss)));
    let held_out = finite(records.iter().filter_map(|r| Some((r.step as f64, r.held_out?))));
    let (Some(first), Some(last)) = (losses.first(), losses.last()) else {
        return Err(Error::config("records", "expected at least one step with a finite loss, got none"));
    };
    let steps = first.0..last.0.max(first.0 + 1.0);
    register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT)
        .map_err(|_| Error::config("font", "the font of the crate cannot be read"))?;
    let mut pixels = vec![0; (SIZE.0 * SIZE.1 * 3) as usize];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, SIZE).into_drawing_area();
        draw(&area, title, steps, &losses, &held_out).map_err(|e| Error::config("plot", e))?;
    }
    let fail = |e: image::ImageError| match e {
        image::ImageError::IoError(e) => e,
        e => std::io::Error::other(e),
    };
    let mut png = std::io::Cursor::new(Vec::new());
    image::write_buffer_with_format(&mut png, &pixels, SIZE.0, SIZE.1, image::ColorType::Rgb8, image::ImageFormat::Png)
        .map_err(|e| Error::io(path, fail(e)))?;
    crate::files::atomic::write(path, png.get_ref())
}
