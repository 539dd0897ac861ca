//! Weights, codes and codebooks in safetensors files.
