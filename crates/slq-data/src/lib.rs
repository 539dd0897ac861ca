//! Image datasets as deterministic iterators of batches.
