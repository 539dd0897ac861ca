//! Clustering of numbers, and codes of a codebook.

use numpy::{PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::prelude::*;
use slq::codebook::{self, Algorithm, ClusterParams, Clustering, Code};

use crate::error::{ClusterError, SettingError, unlocked};
use crate::tensors::{shaped, values};

/// Codebook, codes, squared error and its lower bound.
type Found<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>, f64, f64);

/// See `slq.cluster`.
#[pyfunction]
#[pyo3(signature = (array, k, weights, algorithm, fixed, seed))]
pub(crate) fn cluster<'py>(
    py: Python<'py>,
    array: PyReadonlyArrayDyn<'py, f32>,
    k: usize,
    weights: Option<PyReadonlyArrayDyn<'py, f32>>,
    algorithm: &str,
    fixed: Vec<f32>,
    seed: u64,
) -> PyResult<Found<'py>> {
    let algorithm = match algorithm {
        "exact" => Algorithm::Exact,
        "fast" => Algorithm::Fast,
        "lloyd" => Algorithm::Lloyd,
        "published" => Algorithm::Published,
        other => {
            let text = format!("setting 'algorithm': '{other}' is none of exact, fast, lloyd, published");
            return Err(SettingError::new_err(text));
        }
    };
    let shape = array.shape().to_vec();
    let (numbers, weights) = (values(&array)?, weights.as_ref().map(values).transpose()?);
    let params = ClusterParams::builder(k).algorithm(algorithm).fixed(fixed).seed(seed);
    match k {
        0..=256 => {
            let found = unlocked(py, || found::<u8>(&numbers, weights.as_deref(), params.build()?))?;
            parts(py, found, &shape)
        }
        _ => {
            let found = unlocked(py, || found::<u16>(&numbers, weights.as_deref(), params.build()?))?;
            parts(py, found, &shape)
        }
    }
}

fn found<C: Code>(
    values: &[f32],
    weights: Option<&[f32]>,
    params: ClusterParams,
) -> Result<Clustering<C>, slq::Error> {
    Ok(match weights {
        Some(weights) => codebook::cluster_weighted(values, weights, &params)?,
        None => codebook::cluster(values, &params)?,
    })
}

fn parts<'py, C: Code + numpy::Element>(
    py: Python<'py>,
    found: Clustering<C>,
    shape: &[usize],
) -> PyResult<Found<'py>> {
    let k = [found.codebook.len()];
    let (codebook, codes) = (shaped(py, found.codebook, &k)?, shaped(py, found.codes, shape)?);
    Ok((codebook, codes, found.sse, found.lower_bound))
}

/// Groups of codes and the values of a codebook; a codebook of one axis serves all codes.
fn groups(shape: &[usize], count: usize) -> PyResult<(usize, usize)> {
    let (groups, k) = match *shape {
        [k] => (1, k),
        [groups, k] => (groups, k),
        _ => {
            return Err(ClusterError::new_err(format!(
                "a codebook has one axis or two, this one has {}",
                shape.len()
            )));
        }
    };
    if k == 0 || groups == 0 {
        return Err(ClusterError::new_err("the codebook is empty"));
    }
    match count.is_multiple_of(groups) {
        true => Ok((count / groups, k)),
        false => {
            let text = format!("{count} values do not share {groups} codebooks evenly");
            Err(ClusterError::new_err(text))
        }
    }
}

/// See `slq.encode`.
#[pyfunction]
pub(crate) fn encode<'py>(
    py: Python<'py>,
    array: PyReadonlyArrayDyn<'py, f32>,
    codebook: PyReadonlyArrayDyn<'py, f32>,
) -> PyResult<Bound<'py, PyAny>> {
    let (group, k) = groups(codebook.shape(), array.len())?;
    let (numbers, entries, shape) = (values(&array)?, values(&codebook)?, array.shape().to_vec());
    match k {
        0..=256 => shaped(py, unlocked(py, || encoded::<u8>(&numbers, group, &entries, k))?, &shape),
        _ => shaped(py, unlocked(py, || encoded::<u16>(&numbers, group, &entries, k))?, &shape),
    }
}

fn encoded<C: Code>(values: &[f32], group: usize, entries: &[f32], k: usize) -> Result<Vec<C>, slq::Error> {
    let mut codes = Vec::with_capacity(values.len());
    for (values, codebook) in values.chunks(group.max(1)).zip(entries.chunks_exact(k)) {
        codes.extend(codebook::assign::<C>(values, codebook)?);
    }
    Ok(codes)
}

/// See `slq.decode`.
#[pyfunction]
pub(crate) fn decode<'py>(
    py: Python<'py>,
    codes: PyReadonlyArrayDyn<'py, u16>,
    codebook: PyReadonlyArrayDyn<'py, f32>,
) -> PyResult<Bound<'py, PyAny>> {
    let (group, k) = groups(codebook.shape(), codes.len())?;
    let (numbers, entries, shape) = (values(&codes)?, values(&codebook)?, codes.shape().to_vec());
    let decoded = unlocked(py, || {
        let mut decoded = Vec::with_capacity(numbers.len());
        for (codes, codebook) in numbers.chunks(group.max(1)).zip(entries.chunks_exact(k)) {
            match codebook::decode(codes, codebook) {
                Ok(values) => decoded.extend(values),
                Err(error) => return Ok(Err(error.to_string())),
            }
        }
        Ok(Ok(decoded))
    })?;
    shaped(py, decoded.map_err(ClusterError::new_err)?, &shape)
}
