//! ONNX files to graphs and back, dense or palettized.
