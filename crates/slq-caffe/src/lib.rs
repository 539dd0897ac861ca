//! Caffe prototxt and caffemodel files to graphs and back.
