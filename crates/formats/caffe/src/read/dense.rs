//! Inner products.

use slq_graph::{Attribute, Node, Tensor, element_count};

use super::builder::{Builder, Param};
use super::mapped::{Mapped, axis};
use crate::error::CaffeError;
use crate::proto::LayerParameter;

/// `InnerProduct`: axes before `axis` are kept, the rest is one vector. Becomes `Flatten` (unless the input is
/// a matrix already) and `Gemm`; blob 0 is [outputs, inputs], or its transpose with `transpose: true`.
pub(super) fn add(b: &mut Builder, layer: &LayerParameter) -> Result<Mapped, CaffeError> {
    let p = layer.inner_product_param.clone().unwrap_or_default();
    let input = b.bottom(layer, 0)?;
    let outputs = p.num_output() as usize;
    if outputs == 0 {
        return Err(b.bad(layer, "num_output", "an inner product needs at least one output"));
    }
    let (split, features) = match &input.shape {
        Some(shape) => {
            let split = axis(b, layer, p.axis(), shape.len())?;
            (split, element_count(&shape[split..]))
        }
        None => {
            let inputs = b.blobs.shape(layer, 0).map(|s| match s {
                [.., n, _] if p.transpose() => *n,
                [.., n] => *n,
                [] => 0,
            });
            match (p.axis(), inputs) {
                (1, Some(n)) if n > 0 => (1, Some(n)),
                _ => return Ok(Mapped::Opaque("the shape of its input is not known".into())),
            }
        }
    };
    let Some(features) = features else {
        return Err(b.bad(layer, "bottom", "the input has too many elements"));
    };
    let kept = input.shape.as_ref().map(|s| s[..split].to_vec());
    let is_matrix = split == 1 && input.shape.as_ref().is_some_and(|s| s.len() == 2);
    if split == 0 {
        return Err(b.bad(layer, "axis", "0 would mix the images of a batch"));
    }
    let shape = if p.transpose() { vec![features, outputs] } else { vec![outputs, features] };
    b.blobs.check_count(layer, 1 + usize::from(p.bias_term()))?;
    let weight = b.param(layer, Param::weight(layer, shape, p.weight_filler.as_ref()))?;
    let bias = if p.bias_term() {
        let bias = Param::bias(layer, outputs, p.bias_filler.as_ref());
        Some(b.param(layer, bias)?)
    } else {
        None
    };
    let matrix = if is_matrix {
        input.name.clone()
    } else {
        let flat = b.unique(&format!("{}.flatten", layer.name()));
        b.push(
            Node::new(&format!("{}.flatten", layer.name()), "Flatten", &[&input.name], &[&flat])
                .with("axis", Attribute::Int(split as i64)),
        );
        flat
    };
    let output_shape = kept.map(|mut s| {
        s.push(outputs);
        s
    });
    // With more than one kept axis the product is a matrix that has to be folded back.
    let fold = output_shape.as_ref().filter(|s| s.len() > 2).map(|s| {
        let tail = s[1..].iter().map(|&d| d as i64);
        Tensor::i64_vector(std::iter::once(-1).chain(tail).collect())
    });
    let output = b.top(layer, 0, output_shape)?;
    let product =
        if fold.is_some() { b.unique(&format!("{}.product", layer.name())) } else { output.clone() };
    let mut inputs = vec![matrix.as_str(), weight.as_str()];
    inputs.extend(bias.as_deref());
    b.push(
        Node::new(layer.name(), "Gemm", &inputs, &[&product])
            .with("transB", Attribute::Int(i64::from(!p.transpose()))),
    );
    if let Some(shape) = fold {
        let shape = b.constant(layer, "shape", shape);
        let name = format!("{}.reshape", layer.name());
        b.push(Node::new(&name, "Reshape", &[&product, &shape], &[&output]));
    }
    Ok(Mapped::Done)
}
