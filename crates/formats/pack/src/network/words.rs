//! Words that networks are made of: texts with a number of their own, and the dictionary of the deflated bytes.

/// Texts that are referred to by number from the start.
#[rustfmt::skip]
pub(super) const KNOWN: [&str; 112] = [
    // Operators.
    "", "Conv", "BatchNormalization", "Relu", "Clip", "Gemm", "MatMul", "Add", "MaxPool", "AveragePool",
    "GlobalAveragePool", "Flatten", "Reshape", "Softmax", "Concat", "Mul", "LRN", "Dropout",
    "ConvTranspose", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "LeakyRelu", "PRelu", "Elu", "Selu",
    "Gelu", "Erf", "Pow", "Sqrt", "Exp", "Log", "Sub", "Div", "Neg", "Abs", "Transpose", "Unsqueeze",
    "Squeeze", "Slice", "Split", "Gather", "Shape", "Constant", "ConstantOfShape", "Cast", "Identity",
    "Pad", "Resize", "Upsample", "ReduceMean", "ReduceSum", "ReduceMax", "LayerNormalization",
    "InstanceNormalization", "GroupNormalization", "LogSoftmax", "Expand", "Where", "Equal", "ArgMax",
    "TopK", "Sum", "Max", "Min", "LSTM", "GRU", "QuantizeLinear", "DequantizeLinear", "DepthToSpace",
    "Floor",
    // Attributes.
    "group", "kernel_shape", "pads", "strides", "dilations", "epsilon", "momentum", "training_mode",
    "alpha", "beta", "transA", "transB", "axis", "axes", "auto_pad", "ceil_mode", "count_include_pad",
    "output_padding", "output_shape", "perm", "keepdims", "size", "bias", "to", "value", "mode",
    "storage_order", "spatial", "coordinate_transformation_mode", "nearest_mode", "allowzero", "starts",
    "ends", "split", "ratio",
    // Others.
    "input", "output", "slq", "slq.preprocessing", "slq.classes",
];

/// What the deflated bytes may refer to as if it stood before them; the likeliest stands last.
pub(super) const DICTIONARY: &[u8] = b"slq.licence\
slq.onnx.producer_versionslq.onnx.ir_versionslq.onnx.graph_docai.onnx.mlcom.microsoftpytorchtf2onnxCaffe\
main_graphtorch_jittorch-jit-exportbatch_sizebatchheightwidthlogitsprobabilitiesprobscoreslossdatatarget\
inception_3a/3x3_reduceinception_3a/5x5inception_3a/pool_projfire2/squeeze1x1fire2/expand3x3\
/block/block.0/attn/query/key/value/mlp/fc1/fc2/dense/LayerNorm/MatMul_output_0/Add_1_output_0/Reshape_output_0\
backbone.stages.0.blocks.0.dwconv.weightencoder.layers.0.self_attn.out_proj.weighthead.stem.blocks.0\
model.0.conv.weightmodel.22.cv2.0.0.bn.running_varfc1.weightfc1.biasfc2.weightfc2.biasfc6.weightfc7.biasfc8\
classifier.0.weightclassifier.1.weightclassifier.1.biasclassifier.6.biasnum_batches_tracked\
/layer1/layer1.0/conv1/Conv_output_0/layer1/layer1.0/relu/Relu_output_0/features/features.0/Conv_output_0\
layer4.1.downsample.0.weightlayer3.0.downsample.1.running_meanlayer2.0.bn2.running_varlayer1.0.bn1.weight\
layer1.0.conv1.weightlayer1.0.conv2.weightlayer1.0.bn2.biasBatchNormalization_0Conv_1Relu_2Clip_3onnx::Conv_193\
features.0.0.weightfeatures.1.conv.0.1.running_meanfeatures.1.conv.0.1.running_varfeatures.2.conv.1.0.bias\
linear.weightlinear.biasfc.weightfc.biasbn1.weightbn1.biasbn1.running_meanbn1.running_varresnet20\
conv3.weightconv3.biasip1.flattenip3.weightpool3relu3norm1norm2drop6LeNetAlexNetlenetalexnet\
{\"scale\":0.003921569,\"mean\":[0.485,0.456,0.406],\"mean_image\":null,\"std\":[0.229,0.224,0.225],\
\"mean_first\":false,\"resize\":{\"short\":256},\"crop\":[224,224],\"mirror\":true,\"pad_crop\":4,\"channels\":3,\
\"channel_order\":\"rgb\"}\
{\"scale\":0.00390625,\"mean\":[],\"mean_image\":null,\"std\":[],\"mean_first\":true,\"resize\":null,\"crop\":null,\
\"mirror\":false,\"pad_crop\":null,\"channels\":null,\"channel_order\":\"bgr\"}\
conv1.weightconv1.biasconv2.weightconv2.biasip1.weightip1.biasip2.weightip2.biaspool1pool2relu1relu2prob";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_known_twice() {
        let distinct: std::collections::HashSet<&str> = KNOWN.into_iter().collect();
        assert_eq!(distinct.len(), KNOWN.len());
    }

    #[test]
    fn the_dictionary_fits_the_window_and_does_not_change() {
        assert!(DICTIONARY.len() < 32_768);
        // Another dictionary would need another version of the format.
        assert_eq!((DICTIONARY.len(), crc32fast::hash(DICTIONARY)), (1823, 2392588480));
    }
}
