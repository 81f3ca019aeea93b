//! Grids of small images with captions, as PNG files.

use ab_glyph::{Font, FontRef, PxScale, ScaleFont, point};
use epaint_default_fonts::UBUNTU_LIGHT;
use inn_core::{Error, Result};
use inn_networks::files::write_whole;
use std::path::Path;

/// How a value becomes a colour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Colours {
    /// 0 black, 1 white.
    Grey,
    /// From black through purple and orange to pale yellow for values from 0 to `highest`.
    Heat {
        /// The value of the last colour.
        highest: f32,
    },
}

/// Five stops of the colour map "inferno" of matplotlib (Smith & van der Walt 2015; CC0), evenly spaced.
const HEAT: [[f32; 3]; 5] = [[0.0, 0.0, 4.0], [87.0, 16.0, 110.0], [188.0, 55.0, 84.0], [249.0, 142.0, 9.0], [252.0, 255.0, 164.0]];

impl Colours {
    /// Red, green, blue of a value; values outside the range take its ends, NaN is green.
    pub fn rgb(self, value: f32) -> [u8; 3] {
        if value.is_nan() {
            return [0, 255, 0];
        }
        match self {
            Self::Grey => [(value.clamp(0.0, 1.0) * 255.0).round() as u8; 3],
            Self::Heat { highest } => {
                let last = HEAT.len() - 1;
                let position = (value / highest.max(f32::MIN_POSITIVE)).clamp(0.0, 1.0) * last as f32;
                let below = (position as usize).min(last - 1);
                let t = position - below as f32;
                std::array::from_fn(|i| (HEAT[below][i] + t * (HEAT[below + 1][i] - HEAT[below][i])).round() as u8)
            }
        }
    }
}

/// One image of a grid, row by row.
#[derive(Clone, Debug)]
pub struct Tile {
    /// Values.
    pub values: Vec<f32>,
    /// Their colours.
    pub colours: Colours,
}

impl Tile {
    /// A grey image.
    pub fn grey(values: impl Into<Vec<f32>>) -> Self {
        Self { values: values.into(), colours: Colours::Grey }
    }
}

/// A grid of images with a caption over its columns, one line a row at the left, and a line below.
#[derive(Clone, Debug, Default)]
pub struct Grid {
    /// Pixels of an image along x.
    pub width: usize,
    /// Pixels of an image along y.
    pub height: usize,
    /// Pixels of the picture a pixel of an image.
    pub zoom: usize,
    /// A line over everything.
    pub title: String,
    /// Captions with the columns that they stand over: first column, number of columns.
    pub captions: Vec<(usize, usize, String)>,
    /// Rows, each with its label and its images.
    pub rows: Vec<(String, Vec<Tile>)>,
    /// A line under everything.
    pub note: String,
}

const GAP: usize = 4;
/// The gap between columns of different captions.
const WIDE_GAP: usize = 14;
const MARGIN: usize = 16;
const TEXT: f32 = 17.0;
const LINE: usize = 24;
const INK: [u8; 3] = [30, 30, 30];

impl Grid {
    /// Draws the grid.
    ///
    /// # Errors
    /// An image whose number of values is not width times height, no rows, or a picture too large to address.
    pub fn draw(&self) -> Result<Picture> {
        let columns = self.rows.iter().map(|(_, tiles)| tiles.len()).max().unwrap_or(0);
        if columns == 0 || self.width == 0 || self.height == 0 || self.zoom == 0 {
            return Err(Error::config("grid", "expected at least one image, with positive extents and zoom"));
        }
        let font = FontRef::try_from_slice(UBUNTU_LIGHT).map_err(|e| Error::config("font", e))?;
        let (tile_width, tile_height) = (self.width * self.zoom, self.height * self.zoom);
        let left = MARGIN + self.rows.iter().map(|(label, _)| text_width(&font, label)).max().unwrap_or(0) + GAP;
        let starts: Vec<usize> = (0..columns)
            .scan(left, |x, column| {
                if column > 0 {
                    let new_group = self.captions.iter().any(|&(first, _, _)| first == column);
                    *x += tile_width + if new_group { WIDE_GAP } else { GAP };
                }
                Some(*x)
            })
            .collect();
        let right = starts.last().map_or(left, |x| x + tile_width);
        let texts = [text_width(&font, &self.title), text_width(&font, &self.note)];
        let width = (right + MARGIN).max(MARGIN * 2 + texts[0].max(texts[1]));
        let title = if self.title.is_empty() { 0 } else { LINE };
        let captions = if self.captions.is_empty() { 0 } else { LINE };
        let note = if self.note.is_empty() { 0 } else { LINE };
        let top = MARGIN + title + captions;
        let height = top + self.rows.len() * (tile_height + GAP) + note + MARGIN;
        let mut picture = Picture::blank(width, height)?;

        picture.text(&font, MARGIN as f32, MARGIN as f32, &self.title);
        for (first, count, caption) in &self.captions {
            let last = (first + count.max(&1) - 1).min(columns - 1);
            let (Some(from), Some(to)) = (starts.get(*first), starts.get(last)) else { continue };
            let middle = 0.5 * (from + to + tile_width) as f32;
            let x = (middle - 0.5 * text_width(&font, caption) as f32).max(0.0);
            picture.text(&font, x, (MARGIN + title) as f32, caption);
        }
        for (row, (label, tiles)) in self.rows.iter().enumerate() {
            let y = top + row * (tile_height + GAP);
            let middle = y as f32 + 0.5 * (tile_height as f32 - TEXT);
            picture.text(&font, MARGIN as f32, middle, label);
            for (tile, &x) in tiles.iter().zip(&starts) {
                if tile.values.len() != self.width * self.height {
                    let expected = format!("{} x {} values", self.width, self.height);
                    return Err(Error::shape("image of a grid", expected, tile.values.len()));
                }
                for (i, &value) in tile.values.iter().enumerate() {
                    let corner = (x + i % self.width * self.zoom, y + i / self.width * self.zoom);
                    picture.fill(corner, self.zoom, tile.colours.rgb(value));
                }
            }
        }
        picture.text(&font, MARGIN as f32, (height - MARGIN - note) as f32 + 4.0, &self.note);
        Ok(picture)
    }
}

/// An image of red, green and blue bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Picture {
    fn blank(width: usize, height: usize) -> Result<Self> {
        // A limit on what is asked for by mistake: a picture of 200 megapixels opens nowhere.
        match width.checked_mul(height) {
            Some(pixels) if pixels <= 200_000_000 => Ok(Self { width, height, rgb: vec![255; 3 * pixels] }),
            _ => Err(Error::config("picture", format!("expected at most 200 million pixels, got {width} x {height}"))),
        }
    }

    /// From rows of pixels, three bytes each.
    ///
    /// # Errors
    /// [`Error::Config`]: `rgb` is not as long as the sizes say.
    pub fn from_rgb(width: usize, height: usize, rgb: Vec<u8>) -> Result<Self> {
        let expected = Self::blank(width, height)?.rgb.len();
        if rgb.len() != expected {
            return Err(Error::config("picture", format!("expected {expected} bytes for {width} x {height}, got {}", rgb.len())));
        }
        Ok(Self { width, height, rgb })
    }

    /// Pixels along x.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Pixels along y.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The colour at (x, y); `None` outside.
    pub fn pixel(&self, x: usize, y: usize) -> Option<[u8; 3]> {
        let start = (x < self.width && y < self.height).then_some(3 * (y * self.width + x))?;
        self.rgb.get(start..start + 3)?.try_into().ok()
    }

    /// A square of one colour with its upper left corner at (x, y); what lies outside is dropped.
    fn fill(&mut self, (x, y): (usize, usize), side: usize, colour: [u8; 3]) {
        for row in y..(y + side).min(self.height) {
            for column in x..(x + side).min(self.width) {
                let start = 3 * (row * self.width + column);
                self.rgb[start..start + 3].copy_from_slice(&colour);
            }
        }
    }

    /// One line of text with its upper left corner at (x, y).
    fn text(&mut self, font: &FontRef<'_>, x: f32, y: f32, text: &str) {
        let scaled = font.as_scaled(PxScale::from(TEXT));
        let (mut pen, baseline) = (x, y + scaled.ascent());
        for character in text.chars() {
            let id = scaled.glyph_id(character);
            let glyph = id.with_scale_and_position(TEXT, point(pen, baseline));
            pen += scaled.h_advance(id);
            let Some(outline) = font.outline_glyph(glyph) else { continue };
            let corner = outline.px_bounds().min;
            outline.draw(|dx, dy, cover| {
                let (px, py) = (corner.x + dx as f32, corner.y + dy as f32);
                if px < 0.0 || py < 0.0 || px as usize >= self.width || py as usize >= self.height {
                    return;
                }
                let start = 3 * (py as usize * self.width + px as usize);
                for (channel, ink) in self.rgb[start..start + 3].iter_mut().zip(INK) {
                    let cover = cover.clamp(0.0, 1.0);
                    *channel = (f32::from(*channel) * (1.0 - cover) + f32::from(ink) * cover).round() as u8;
                }
            });
        }
    }

    /// Writes a PNG file: all of it or nothing.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let written = encoder.write_header().and_then(|mut writer| {
            writer.write_image_data(&self.rgb)?;
            writer.finish()
        });
        written.map_err(|e| Error::io(path, std::io::Error::other(e)))?;
        write_whole(path, &bytes)
    }
}

fn text_width(font: &FontRef<'_>, text: &str) -> usize {
    let scaled = font.as_scaled(PxScale::from(TEXT));
    text.chars().map(|c| scaled.h_advance(scaled.glyph_id(c))).sum::<f32>().ceil() as usize
}
