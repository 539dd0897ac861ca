//! One-dimensional clustering: values to codebook and codes.
