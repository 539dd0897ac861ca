//! The extension module `slq._slq` of the Python package `slq`: a thin layer over the library. `python/slq/__init__.py` has the
//! interface that users see, converts their arrays and documents it.
//!
//! Work is done without the interpreter's lock, on copies of the arrays; errors and panics become exceptions.

#![forbid(unsafe_code)]

mod arrays;
mod asked;
mod codes;
mod error;
mod job;
mod model;
mod progress;
mod runtime;
mod settings;
mod tensors;
mod threads;

/// See `slq`.
#[pyo3::pymodule]
mod _slq {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::codes::{cluster, decode, encode};
    #[pymodule_export]
    use crate::error::{ClusterError, DataError, Error, FileError, InternalError, ModelError, SettingError};
    #[pymodule_export]
    use crate::job::{compare, compress, evaluate, load_data};
    #[pymodule_export]
    use crate::model::{Layer, Model, Size, Value};
    #[pymodule_export]
    use crate::progress::PyEvent;
    #[pymodule_export]
    use crate::runtime::Runtime;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::threads::loaded();
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("DATA_SETTINGS", crate::settings::DATA.to_vec())?;
        module.add("METHOD_SETTINGS", crate::asked::names())
    }
}
