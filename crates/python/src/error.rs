//! Exceptions: one class for each kind of failure, with the library's sentence.

use std::any::Any;
use std::ffi::CString;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::PyException;
use pyo3::types::PyAnyMethods;
use pyo3::{PyErr, PyResult, Python, create_exception};
use slq::methods::CompressError;

create_exception!(slq, Error, PyException, "Base of all exceptions of slq.");
create_exception!(slq, ModelError, Error, "A model that cannot be read, written or run.");
create_exception!(slq, DataError, Error, "Arrays, images or labels that cannot be used.");
create_exception!(
    slq,
    SettingError,
    Error,
    "A setting that is unknown, out of range or contradicts another."
);
create_exception!(
    slq,
    ClusterError,
    Error,
    "Values, weights or codes that cannot be clustered, encoded or decoded."
);
create_exception!(slq, FileError, Error, "A file or folder that cannot be read or written.");
create_exception!(slq, InternalError, Error, "A defect of slq: please report it.");

/// The exception of an error of the library.
pub(crate) fn raised(error: &slq::Error) -> PyErr {
    use slq::Error as E;
    let text = match error {
        E::Compress(CompressError::Setting { name, reason }) => {
            format!("setting '{}': {}", name.replace('-', "_"), in_python(reason))
        }
        other => in_python(&other.to_string()),
    };
    match error {
        E::Argument(_) | E::UnknownPreprocessing(_) => SettingError::new_err(text),
        E::Data(_) => DataError::new_err(text),
        E::Cluster(_) => ClusterError::new_err(text),
        E::File { .. } => FileError::new_err(text),
        E::Compress(e) => match e {
            CompressError::Setting { .. }
            | CompressError::Schedule { .. }
            | CompressError::Pattern { .. }
            | CompressError::Budget { .. }
            | CompressError::BudgetTooSmall { .. } => SettingError::new_err(text),
            CompressError::NoData
            | CompressError::NoInputs
            | CompressError::Inputs(_)
            | CompressError::TooFewImages { .. }
            | CompressError::DataMismatch { .. }
            | CompressError::Data(_) => DataError::new_err(text),
            CompressError::RunDir { .. } | CompressError::Fingerprint { .. } => FileError::new_err(text),
            CompressError::NoLayers
            | CompressError::NothingPays { .. }
            | CompressError::NonFinite { .. }
            | CompressError::Graph(_)
            | CompressError::Engine(_) => ModelError::new_err(text),
            _ => Error::new_err(text),
        },
        _ => ModelError::new_err(text),
    }
}

/// The library's sentences name flags of the program; here they are arguments.
pub(crate) fn in_python(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("--") {
        let (before, flag) = (&rest[..at], &rest[at + 2..]);
        let len = flag.find(|c: char| !c.is_ascii_lowercase() && c != '-').unwrap_or(flag.len());
        let starts = before.chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '-');
        out += before;
        match starts && flag.starts_with(|c: char| c.is_ascii_lowercase()) {
            true => out += &flag[..len].replace('-', "_"),
            false => out += &rest[at..at + 2 + len],
        }
        rest = &flag[len..];
    }
    out + rest
}

/// Warns with each note, in Python's words, as the caller of the function at hand.
pub(crate) fn warn(py: Python<'_>, notes: &[String]) -> PyResult<()> {
    if notes.is_empty() {
        return Ok(());
    }
    let category = py.import("slq")?.getattr("SlqWarning")?;
    for note in notes {
        // A sentence has no NUL; one that had would end there.
        let text = in_python(note).replace('\0', " ");
        PyErr::warn(py, &category, &CString::new(text).unwrap_or_default(), 1)?;
    }
    Ok(())
}

/// Runs `work` without the interpreter's lock. A panic becomes an [`InternalError`].
pub(crate) fn unlocked<T: Send>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T, slq::Error> + Send,
) -> PyResult<T> {
    match py.detach(|| catch_unwind(AssertUnwindSafe(|| crate::threads::run(work)))) {
        Ok(done) => done.map_err(|e| raised(&e)),
        Err(panic) => Err(defect(&*panic)),
    }
}

fn defect(panic: &(dyn Any + Send)) -> PyErr {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason was given");
    InternalError::new_err(format!("slq failed inside, please report this: {text}"))
}
