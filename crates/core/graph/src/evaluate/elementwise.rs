//! Operators that compute each element by itself.
//!
//! 32-bit floats are rounded once: sums, products, quotients and square roots as IEEE 754 has them; exponentials,
//! logarithms and powers from double precision (by `libm`, the same on every machine), which is within one unit in the
//! last place of what runtimes compute. Integers that would overflow are an error.

use super::cast;
use super::view::View;
use crate::dtype::DType;
use crate::error::GraphError;
use crate::resolve::Context;
use crate::rules::broadcast;
use crate::tensor::{Tensor, TensorData, element_count};

/// A function of one tensor; `None` for an element type that it does not compute with.
type Unary = fn(&Tensor) -> Option<Tensor>;

/// The operators of one input.
pub(super) fn unary(op: &str) -> Option<Unary> {
    Some(match op {
        "Neg" => |t| map(t, |x| -x, i64::checked_neg),
        "Abs" => |t| map(t, f32::abs, i64::checked_abs),
        "Sqrt" => |t| map(t, f32::sqrt, |_| None),
        "Reciprocal" => |t| map(t, |x| 1.0 / x, |_| None),
        "Exp" => |t| map(t, |x| libm::exp(x.into()) as f32, |_| None),
        "Log" => |t| map(t, |x| libm::log(x.into()) as f32, |_| None),
        "Floor" => |t| map(t, f32::floor, |_| None),
        "Ceil" => |t| map(t, f32::ceil, |_| None),
        "Not" => |t| {
            let TensorData::Bool(v) = t.data() else { return None };
            Tensor::new(t.shape().to_vec(), TensorData::Bool(v.iter().map(|b| !b).collect())).ok()
        },
        _ => return None,
    })
}

fn map(tensor: &Tensor, float: fn(f32) -> f32, int: fn(i64) -> Option<i64>) -> Option<Tensor> {
    let data = match tensor.data() {
        TensorData::F32(v) => TensorData::F32(v.iter().map(|&x| float(x)).collect()),
        _ => integers(tensor.dtype(), tensor.to_i64()?.into_iter().map(int))?,
    };
    Tensor::new(tensor.shape().to_vec(), data).ok()
}

/// Integers of 64 or 32 bits; `None` for other types, and where a value is missing or does not fit.
pub(super) fn integers(dtype: DType, values: impl Iterator<Item = Option<i64>>) -> Option<TensorData> {
    match dtype {
        DType::I64 => Some(TensorData::I64(values.collect::<Option<_>>()?)),
        DType::I32 => {
            let narrow = values.map(|v| v.and_then(|v| i32::try_from(v).ok()));
            Some(TensorData::I32(narrow.collect::<Option<_>>()?))
        }
        _ => None,
    }
}

/// x^y. Runtimes multiply for the exponents 2 and 3, and so does this.
fn power(x: f32, y: f32) -> f32 {
    match y {
        2.0 => x * x,
        3.0 => x * x * x,
        _ => libm::pow(x.into(), y.into()) as f32,
    }
}

fn float_operator(op: &str) -> Option<fn(f32, f32) -> f32> {
    Some(match op {
        "Add" => |a, b| a + b,
        "Sub" => |a, b| a - b,
        "Mul" => |a, b| a * b,
        "Div" => |a, b| a / b,
        "Pow" => power,
        "Min" => f32::min,
        "Max" => f32::max,
        _ => return None,
    })
}

fn integer_operator(op: &str) -> Option<fn(i64, i64) -> Option<i64>> {
    Some(match op {
        "Add" => i64::checked_add,
        "Sub" => i64::checked_sub,
        "Mul" => i64::checked_mul,
        "Div" => i64::checked_div,
        "Mod" => floor_remainder,
        "Min" => |a, b| Some(a.min(b)),
        "Max" => |a, b| Some(a.max(b)),
        _ => return None,
    })
}

/// Comparisons and logic; Booleans are 0 and 1.
fn test<T: PartialOrd + Default>(op: &str) -> Option<fn(T, T) -> bool> {
    Some(match op {
        "Equal" => |a, b| a == b,
        "Greater" => |a, b| a > b,
        "GreaterOrEqual" => |a, b| a >= b,
        "Less" => |a, b| a < b,
        "LessOrEqual" => |a, b| a <= b,
        "And" => |a, b| a != T::default() && b != T::default(),
        "Or" => |a, b| a != T::default() || b != T::default(),
        "Xor" => |a, b| (a != T::default()) != (b != T::default()),
        _ => return None,
    })
}

/// The remainder with the divisor's sign, as in Python.
fn floor_remainder(a: i64, b: i64) -> Option<i64> {
    let rest = a.checked_rem(b)?;
    Some(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
}

/// Two tensors, broadcast against each other.
pub(super) fn binary(
    cx: &Context,
    a: &Tensor,
    b: &Tensor,
    largest: usize,
) -> Result<Option<Tensor>, GraphError> {
    let op = cx.node.op.as_str();
    let known = test::<i64>(op).is_some() || float_operator(op).is_some() || integer_operator(op).is_some();
    if !known {
        return Ok(None);
    }
    // The exponent may be of another type than the base.
    let exponent = if op == "Pow" { cast::cast(b, cast::FLOAT) } else { None };
    let b = exponent.as_ref().unwrap_or(b);
    if a.dtype() != b.dtype() {
        return Err(cx.mismatch("the inputs differ in element type"));
    }
    let Some(shape) = joint_shape(cx, &[a, b], largest)? else { return Ok(None) };
    let (left, right) = (View::broadcast(a.shape(), &shape), View::broadcast(b.shape(), &shape));
    let data = if let (TensorData::F32(a), TensorData::F32(b)) = (a.data(), b.data()) {
        let pairs = left.of(a).into_iter().zip(right.of(b));
        match (test::<f32>(op), float_operator(op)) {
            (Some(f), _) => TensorData::Bool(pairs.map(|(a, b)| f(a, b)).collect()),
            (None, Some(f)) => TensorData::F32(pairs.map(|(a, b)| f(a, b)).collect()),
            (None, None) => return Ok(None),
        }
    } else {
        let (Some(x), Some(y)) = (a.to_i64(), b.to_i64()) else { return Ok(None) };
        let pairs = left.of(&x).into_iter().zip(right.of(&y));
        if let Some(f) = test::<i64>(op) {
            TensorData::Bool(pairs.map(|(a, b)| f(a, b)).collect())
        } else {
            // `fmod` asks for the remainder of C, with the sign of the dividend.
            let fmod = op == "Mod" && cx.flag("fmod", false)?;
            let f = if fmod {
                Some(i64::checked_rem as fn(i64, i64) -> Option<i64>)
            } else {
                integer_operator(op)
            };
            let (Some(f), DType::I64 | DType::I32) = (f, a.dtype()) else { return Ok(None) };
            let results = integers(a.dtype(), pairs.map(|(a, b)| f(a, b)));
            results.ok_or_else(|| cx.mismatch("the integers overflow or are divided by 0"))?
        }
    };
    Ok(Tensor::new(shape, data).ok())
}

/// `Where` over integers and floats.
pub(super) fn select(
    cx: &Context,
    [condition, yes, no]: [&Tensor; 3],
    largest: usize,
) -> Result<Option<Tensor>, GraphError> {
    let Some(shape) = joint_shape(cx, &[condition, yes, no], largest)? else { return Ok(None) };
    fn of<T: Copy>(which: &[bool], yes: Vec<T>, no: Vec<T>) -> Vec<T> {
        which.iter().zip(yes.into_iter().zip(no)).map(|(&c, (yes, no))| if c { yes } else { no }).collect()
    }
    let view = |t: &Tensor| View::broadcast(t.shape(), &shape);
    let TensorData::Bool(which) = condition.data() else { return Ok(None) };
    let which = view(condition).of(which);
    let data = match (yes.data(), no.data()) {
        (TensorData::F32(a), TensorData::F32(b)) => {
            TensorData::F32(of(&which, view(yes).of(a), view(no).of(b)))
        }
        (TensorData::I64(a), TensorData::I64(b)) => {
            TensorData::I64(of(&which, view(yes).of(a), view(no).of(b)))
        }
        (TensorData::I32(a), TensorData::I32(b)) => {
            TensorData::I32(of(&which, view(yes).of(a), view(no).of(b)))
        }
        _ => return Ok(None),
    };
    Ok(Tensor::new(shape, data).ok())
}

/// The shape that all tensors broadcast to; `None` where it has more than `largest` elements.
fn joint_shape(cx: &Context, tensors: &[&Tensor], largest: usize) -> Result<Option<Vec<usize>>, GraphError> {
    let joint = tensors.iter().try_fold(Vec::new(), |shape, t| broadcast(&shape, t.shape()));
    let shape = joint.ok_or_else(|| cx.mismatch("the inputs cannot be broadcast together"))?;
    Ok(element_count(&shape).is_some_and(|n| n <= largest).then_some(shape))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remainders_have_the_divisors_sign() {
        let table = [(5, 3, 2), (-5, 3, 1), (5, -3, -1), (-5, -3, -2), (6, 3, 0), (-6, 3, 0)];
        for (a, b, expected) in table {
            assert_eq!(floor_remainder(a, b), Some(expected), "{a} mod {b}");
        }
        assert_eq!((floor_remainder(1, 0), floor_remainder(i64::MIN, -1)), (None, None));
    }

    #[test]
    fn functions_keep_the_element_type_or_decline() {
        let ints = Tensor::new(vec![2], TensorData::I32(vec![-3, 4])).unwrap();
        let abs = unary("Abs").unwrap();
        assert_eq!(abs(&ints).unwrap().data(), &TensorData::I32(vec![3, 4]));
        assert_eq!(unary("Sqrt").unwrap()(&ints), None);
        let least = Tensor::new(vec![], TensorData::I32(vec![i32::MIN])).unwrap();
        assert_eq!(abs(&least), None, "no 32 bits hold the result");
        let floats = Tensor::f32(vec![2], vec![0.25, 4.0]).unwrap();
        assert_eq!(unary("Sqrt").unwrap()(&floats).unwrap().as_f32(), Some(&[0.5, 2.0][..]));
        assert!(unary("Relu").is_none());
        let flags = Tensor::new(vec![2], TensorData::Bool(vec![true, false])).unwrap();
        assert_eq!(unary("Not").unwrap()(&flags).unwrap().data(), &TensorData::Bool(vec![false, true]));
        assert_eq!(unary("Not").unwrap()(&ints), None);
    }

    #[test]
    fn comparisons_and_logic_give_truth_values() {
        let holds = |op: &str, a: f32, b: f32| test::<f32>(op).unwrap()(a, b);
        assert!(
            holds("Greater", 2.0, 1.0) && !holds("Greater", 1.0, 1.0) && holds("GreaterOrEqual", 1.0, 1.0)
        );
        assert!(
            holds("Less", -1.0, 1.0) && holds("LessOrEqual", 1.0, 1.0) && !holds("Equal", f32::NAN, f32::NAN)
        );
        let logic = |op: &str, a: i64, b: i64| test::<i64>(op).unwrap()(a, b);
        assert!(
            logic("And", 1, 1)
                && !logic("And", 1, 0)
                && logic("Or", 0, 1)
                && logic("Xor", 1, 0)
                && !logic("Xor", 1, 1)
        );
        assert!(test::<i64>("Add").is_none());
    }
}
