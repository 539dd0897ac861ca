//! The global optimum of weighted 1-D k-means with fixed centroids.
//!
//! In one dimension the clusters of an optimal codebook are intervals, and fixed centroids cut the line into
//! segments that are independent except for the number of free clusters of each. The optimal cost is convex
//! in that number (the interval cost has the Monge property), so a penalty per cluster, the same everywhere,
//! replaces the bookkeeping of k: see `penalty` for one pass and `search` for finding the penalty.

pub(crate) mod layered;
pub(crate) mod path;
pub(crate) mod penalty;
pub(crate) mod points;
pub(crate) mod problem;
pub(crate) mod search;
mod solution;
pub(crate) mod wide;

pub(crate) use problem::solve;
pub(crate) use solution::{Constraints, Solution};
