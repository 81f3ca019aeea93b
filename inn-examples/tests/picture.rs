//! Grids as PNG files.

use inn_core::Error;
use inn_examples::picture::{Colours, Grid, Tile};

fn grid() -> Grid {
    let ramp: Vec<f32> = (0..6).map(|i| i as f32 / 5.0).collect();
    let heat = Tile { values: ramp.clone(), colours: Colours::Heat { highest: 1.0 } };
    Grid {
        width: 3,
        height: 2,
        zoom: 5,
        title: "A title".into(),
        captions: vec![(0, 1, "one".into()), (1, 1, "two".into())],
        rows: vec![("row".into(), vec![Tile::grey(ramp), heat])],
        note: "A note".into(),
    }
}

#[test]
fn a_grid_holds_its_images_and_its_text_and_comes_back_from_the_file() {
    let picture = grid().draw().unwrap();
    let all: Vec<[u8; 3]> =
        (0..picture.height()).flat_map(|y| (0..picture.width()).map(move |x| (x, y))).filter_map(|(x, y)| picture.pixel(x, y)).collect();
    let count = |colour: [u8; 3]| all.iter().filter(|&&c| c == colour).count();
    // The edges of letters have greys of their own, so the pixel is looked for as a block.
    let block = |x: usize, y: usize| (0..25).all(|i| picture.pixel(x + i % 5, y + i / 5) == Some([51; 3]));
    let blocks = (0..picture.height()).flat_map(|y| (0..picture.width()).map(move |x| (x, y))).filter(|&(x, y)| block(x, y)).count();
    assert_eq!(blocks, 1, "the second pixel of the ramp, five by five");
    assert_eq!(count([252, 255, 164]), 25, "the hottest pixel");
    assert!(all.iter().filter(|c| c[0] < 100 && c[0] > 25).count() > 40, "text");
    let plain = Grid { title: String::new(), captions: Vec::new(), note: String::new(), ..grid() }.draw().unwrap();
    assert!(plain.height() < picture.height());

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("grid.png");
    picture.save(&path).unwrap();
    let decoder = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(&path).unwrap()));
    let mut reader = decoder.read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut bytes).unwrap();
    assert_eq!((info.width as usize, info.height as usize), (picture.width(), picture.height()));
    assert_eq!(bytes, all.concat());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn colours() {
    assert_eq!((Colours::Grey.rgb(-1.0), Colours::Grey.rgb(0.5), Colours::Grey.rgb(7.0)), ([0; 3], [128; 3], [255; 3]));
    let heat = Colours::Heat { highest: 0.4 };
    assert_eq!((heat.rgb(0.0), heat.rgb(0.2), heat.rgb(0.4)), ([0, 0, 4], [188, 55, 84], [252, 255, 164]));
    assert_eq!(heat.rgb(f32::NAN), [0, 255, 0]);
}

#[test]
fn errors() {
    let mut wrong = grid();
    wrong.rows[0].1[0].values.pop();
    assert!(wrong.draw().unwrap_err().to_string().contains("3 x 2"));
    assert!(Grid { rows: Vec::new(), ..grid() }.draw().is_err());
    let error = grid().draw().unwrap().save("/nonexistent/folder/grid.png").unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
}
