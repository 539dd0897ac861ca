//! Reports of compressed networks: one self-contained HTML page from the figures of one job, or of several side by side.
//!
//! [`Run`] holds what is known of a job; [`page`] draws it. A part of which nothing is known is left out, so every method and
//! every unfinished job has a page. The page loads nothing: no script, no font, no image from elsewhere. All text from files
//! is escaped (by `maud`).
//!
//! Pictures are SVG elements written with the same templates. A plotting crate (`plotters`) was considered: it writes
//! colours as attributes and extents in pixels, so its pictures follow neither the dark theme nor the width of the window, and
//! its marks carry no titles for pointer and screen reader.

#![forbid(unsafe_code)]

mod axis;
mod bars;
mod changes;
mod chart;
mod compare;
mod data;
mod format;
mod histogram;
mod layers;
mod page;
mod picture;
mod sections;
mod summary;

pub use data::{
    Change, Changes, Comparison, Figures, FloatTraining, Histogram, LayerFigures, NotQuantized, OutputFile,
    Picture, Provenance, Round, Run, Score, Search, Sensitivity, Sizes, State, Trial, Warning,
};
pub use histogram::{BINS, histogram};
pub use page::page;
