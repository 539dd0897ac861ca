//! Makes trained neural networks small: library and command line.
