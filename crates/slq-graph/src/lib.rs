//! Neural networks as graphs of ONNX operators whose weights carry palettes.
