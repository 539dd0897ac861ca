//! Makes a small image folder to try training on: `cargo run --release --example image_folder -- FOLDER [CLASSES] [SIDE]`.
//!
//! Each class is a direction and a spacing of stripes in a colour of its own, drawn with noise; 40 images of every class to
//! train on and 10 to test.

use std::error::Error;
use std::path::PathBuf;

use image::{Rgb, RgbImage};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("usage: image_folder FOLDER [CLASSES] [SIDE]")?);
    let classes: u32 = arguments.next().map_or(Ok(10), |n| n.parse())?;
    let side: u32 = arguments.next().map_or(Ok(256), |n| n.parse())?;
    let mut noise = Noise(1);
    for (part, count) in [("train", 40), ("test", 10)] {
        for class in 0..classes {
            let place = folder.join(part).join(format!("class{class:02}"));
            std::fs::create_dir_all(&place)?;
            for i in 0..count {
                stripes(class, classes, side, &mut noise).save(place.join(format!("{i:03}.jpg")))?;
            }
        }
    }
    println!("{}: {} images of {classes} classes, {side} x {side}", folder.display(), 50 * classes);
    Ok(())
}

/// An image of a class: its stripes begin anywhere.
fn stripes(class: u32, classes: u32, side: u32, noise: &mut Noise) -> RgbImage {
    let angle = std::f32::consts::PI * class as f32 / classes as f32;
    let (sin, cos) = angle.sin_cos();
    let spacing = 12.0 + 6.0 * (class % 4) as f32;
    let colour = [class * 97 % 200, class * 57 % 200, class * 31 % 200].map(|c| c as f32 + 40.0);
    let start = noise.next() * spacing;
    RgbImage::from_fn(side, side, |x, y| {
        let along = (x as f32 * cos + y as f32 * sin + start) / spacing;
        let bright = if along.rem_euclid(1.0) < 0.5 { 1.0 } else { 0.4 };
        Rgb(colour.map(|c| (c * bright + 30.0 * noise.next()).clamp(0.0, 255.0) as u8))
    })
}

/// Numbers in 0..1 from a linear congruential generator: the images are the same on every machine.
struct Noise(u32);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as f32 / (1 << 24) as f32
    }
}
