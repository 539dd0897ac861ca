//! Well-known architectures as graphs with fresh weights.
