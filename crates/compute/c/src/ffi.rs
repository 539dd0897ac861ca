//! The functions that C calls; `include/slq.h` declares them, and a test compares the two.
//!
//! Pointers that a caller hands over are checked for null and otherwise taken as the header describes them: that is the
//! contract of every C interface, and why this module is unsafe.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use slq_runtime::Expand;

use crate::network::Network as slq_network;

/// Layers below 256 KB become floats, 2 MB in all.
pub const SLQ_EXPAND_AUTO: i32 = 0;
/// Every layer becomes floats: the speed of float kernels at the memory of the float network.
pub const SLQ_EXPAND_ALL: i32 = 1;
/// No layer becomes floats but those that must.
pub const SLQ_EXPAND_NONE: i32 = 2;

thread_local! {
    static ERROR: RefCell<CString> = RefCell::default();
}

/// Runs `f`; an error or a panic becomes the thread's error text and `failed`.
fn guard<T>(failed: T, f: impl FnOnce() -> Result<T, String>) -> T {
    let text = match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(value)) => return value,
        Ok(Err(text)) => text,
        Err(_) => "a defect in the library: it panicked".into(),
    };
    let text = CString::new(text.replace('\0', "\\0")).unwrap_or_default();
    // A thread that is ending has no error text any more.
    let _ = ERROR.try_with(|error| *error.borrow_mut() = text);
    failed
}

fn expand(choice: i32) -> Result<Expand, String> {
    match choice {
        SLQ_EXPAND_AUTO => Ok(Expand::Auto),
        SLQ_EXPAND_ALL => Ok(Expand::All),
        SLQ_EXPAND_NONE => Ok(Expand::None),
        other => Err(format!("{other} does not say what to expand: use SLQ_EXPAND_AUTO, _ALL or _NONE")),
    }
}

/// # Safety
/// `network` is null or a network that has not been closed.
unsafe fn shared<'a>(network: *const slq_network) -> Result<&'a slq_network, String> {
    // SAFETY: the caller's promise.
    unsafe { network.as_ref() }.ok_or_else(|| "the network is NULL".into())
}

/// # Safety
/// As [`shared`], and no other thread uses the network.
unsafe fn exclusive<'a>(network: *mut slq_network) -> Result<&'a mut slq_network, String> {
    // SAFETY: the caller's promise.
    unsafe { network.as_mut() }.ok_or_else(|| "the network is NULL".into())
}

/// # Safety
/// `data` is null or points to `length` elements.
unsafe fn slice<'a, T>(data: *const T, length: usize, what: &str) -> Result<&'a [T], String> {
    match (data.is_null(), length) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(format!("{what} is NULL")),
        // More than any object can have; what a slice may not be told.
        (false, n) if n > isize::MAX as usize / size_of::<T>() => {
            Err(format!("{what} cannot have {n} elements"))
        }
        // SAFETY: the caller's promise.
        (false, _) => Ok(unsafe { std::slice::from_raw_parts(data, length) }),
    }
}

/// Writes as many extents as there is room for, and returns the rank.
///
/// # Safety
/// `dims` is null or points to `capacity` writable elements.
unsafe fn write_shape(shape: &[i64], dims: *mut i64, capacity: usize) -> i32 {
    if !dims.is_null() {
        let count = shape.len().min(capacity);
        // SAFETY: the caller's promise.
        unsafe { ptr::copy_nonoverlapping(shape.as_ptr(), dims, count) };
    }
    i32::try_from(shape.len()).unwrap_or(i32::MAX)
}

/// Text of the last error of this thread; valid until the next call that fails. Never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn slq_error() -> *const c_char {
    ERROR.try_with(|error| error.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// Version of the library, such as "0.2.0".
#[unsafe(no_mangle)]
pub extern "C" fn slq_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Opens a .slq container or a palettized ONNX file. NULL on error, see slq_error. Networks may be used by one thread at a
/// time.
///
/// # Safety
/// `path` is NULL or a text that ends with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slq_open(path: *const c_char, expand_what: i32) -> *mut slq_network {
    guard(ptr::null_mut(), || {
        if path.is_null() {
            return Err("the path is NULL".into());
        }
        // SAFETY: the caller's promise.
        let path =
            // SAFETY: the caller's promise.
            unsafe { CStr::from_ptr(path) }.to_str().map_err(|_| "the path is not UTF-8".to_owned())?;
        let network = slq_network::open(path.as_ref(), expand(expand_what)?)?;
        Ok(Box::into_raw(Box::new(network)))
    })
}

/// Reads a .slq container of `length` bytes in memory, which are not needed afterwards. NULL on error.
///
/// # Safety
/// `bytes` is NULL or points to `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slq_open_bytes(
    bytes: *const u8,
    length: usize,
    expand_what: i32,
) -> *mut slq_network {
    guard(ptr::null_mut(), || {
        // SAFETY: the caller's promise.
        let bytes = unsafe { slice(bytes, length, "the data") }?;
        Ok(Box::into_raw(Box::new(slq_network::from_bytes(bytes, expand(expand_what)?)?)))
    })
}

/// Closes a network; NULL is allowed. Pointers to its names and outputs end with it.
///
/// # Safety
/// `network` is NULL or a network that has not been closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slq_close(network: *mut slq_network) {
    guard((), || {
        if !network.is_null() {
            // SAFETY: the caller's promise; the pointer came from `Box::into_raw`.
            drop(unsafe { Box::from_raw(network) });
        }
        Ok(())
    });
}

/// Number of inputs; 0 on error.
///
/// # Safety
/// As slq_run.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slq_inputs(network: *const slq_network) -> usize {
    // SAFETY: the caller's promise.
    guard(0, || Ok(unsafe { shared(network) }?.input_names().len()))
}

/// Number of outputs; 0 on error.
///
/// # Safety
/// As slq_run.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slq_outputs(network: *const slq_network) -> usize {
    // SAFETY: the caller's promise.
    guard(0, || Ok(unsafe { shared(network) }?.output_names().len()))
}

/// Name of input `i`, valid until the network is closed; NULL on error.
///
/// # Safety
/// As slq_run.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slq_input_name(network: *const slq_network, i: usize) -> *const c_char {
    guard(ptr::null(), || {
        // SAFETY: the caller's promise.
        let names = unsafe { shared(network) }?.input_names();
        names.get(i).map(|n| n.as_ptr()).ok_or_else(|| format!("there is no input {i}"))
    })
}

/// Name of output `i`, valid until the network is closed; NULL on error.
///
/// # Safety
/// As slq_run.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slq_output_name(network: *const slq_network, i: usize) -> *const c_char {
    guard(ptr::null(), || {
        // SAFETY: the caller's promise.
        let names = unsafe { shared(network) }?.output_names();
        names.get(i).map(|n| n.as_ptr()).ok_or_else(|| format!("there is no output {i}"))
    })
}

/// Declared shape of input `i`: returns its rank and writes up to `capacity` extents to `dims`, -1 for a free one such as
/// the number of images. -1 on error.
///
/// # Safety
/// As slq_run; `dims` is NULL or has room for `capacity` extents.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slq_input_shape(
    network: *const slq_network,
    i: usize,
    dims: *mut i64,
    capacity: usize,
) -> i32 {
    guard(-1, || {
        // SAFETY: the caller's promise.
        let shape = unsafe { shared(network) }?.input_shape(i)?;
        // SAFETY: the caller's promise.
        Ok(unsafe { write_shape(&shape, dims, capacity) })
    })
}

/// Copies the values of input `i`, in row-major order; the number of values follows from `dims`. 0, or -1 on error.
///
/// # Safety
/// As slq_run; `dims` points to `rank` extents, `values` to as many values as their product says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slq_set_input(
    network: *mut slq_network,
    i: usize,
    values: *const f32,
    dims: *const i64,
    rank: usize,
) -> i32 {
    guard(-1, || {
        // SAFETY: the caller's promise.
        let network = unsafe { exclusive(network) }?;
        // SAFETY: the caller's promise.
        let dims = unsafe { slice(dims, rank, "the shape") }?;
        // SAFETY: the caller's promise.
        let values = unsafe { slice(values, slq_network::count(dims)?, "the input") }?;
        network.set_input(i, values, dims)?;
        Ok(0)
    })
}

/// Runs the network on its inputs. 0, or -1 on error.
///
/// # Safety
/// `network` is NULL or a network that has not been closed, and no other thread uses it meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slq_run(network: *mut slq_network) -> i32 {
    guard(-1, || {
        // SAFETY: the caller's promise.
        unsafe { exclusive(network) }?.run()?;
        Ok(0)
    })
}

/// Shape of output `i`, as slq_input_shape: that of the last run; before the first one, and after one that failed, the
/// declared shape. -1 on error.
///
/// # Safety
/// As slq_run; `dims` is NULL or has room for `capacity` extents.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slq_output_shape(
    network: *const slq_network,
    i: usize,
    dims: *mut i64,
    capacity: usize,
) -> i32 {
    guard(-1, || {
        // SAFETY: the caller's promise.
        let shape = unsafe { shared(network) }?.output_shape(i)?;
        // SAFETY: the caller's promise.
        Ok(unsafe { write_shape(&shape, dims, capacity) })
    })
}

/// Values of output `i` of the last run as floats, valid until the next one; their number goes to `length` unless that is
/// NULL. NULL on error.
///
/// # Safety
/// As slq_run; `length` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn slq_output(network: *const slq_network, i: usize, length: *mut usize) -> *const f32 {
    guard(ptr::null(), || {
        // SAFETY: the caller's promise.
        let values = unsafe { shared(network) }?.output(i)?;
        // SAFETY: the caller's promise.
        if let Some(length) = unsafe { length.as_mut() } {
            *length = values.len();
        }
        Ok(values.as_ptr())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error() -> String {
        // SAFETY: the text is there until the next error.
        unsafe { CStr::from_ptr(slq_error()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_panic_stays_inside() {
        assert_eq!(guard(-1, || panic!("inside")), -1);
        assert!(error().contains("panicked"));
    }

    #[test]
    fn null_is_an_error_everywhere() {
        let null = ptr::null();
        let said = |what: &str| assert!(error().contains(what), "{what:?} is not in {:?}", error());
        // SAFETY: null is allowed everywhere.
        unsafe {
            assert!(slq_open(null, 0).is_null());
            said("the path is NULL");
            assert!(slq_open_bytes(ptr::null(), 3, 0).is_null());
            said("the data is NULL");
            assert_eq!(slq_run(ptr::null_mut()), -1);
            said("the network is NULL");
            assert_eq!(slq_inputs(ptr::null()), 0);
            assert_eq!(slq_outputs(ptr::null()), 0);
            assert!(slq_input_name(ptr::null(), 0).is_null());
            assert!(slq_output_name(ptr::null(), 0).is_null());
            assert_eq!(slq_input_shape(ptr::null(), 0, ptr::null_mut(), 0), -1);
            assert_eq!(slq_output_shape(ptr::null(), 0, ptr::null_mut(), 0), -1);
            assert_eq!(slq_set_input(ptr::null_mut(), 0, ptr::null(), ptr::null(), 0), -1);
            assert!(slq_output(ptr::null(), 0, ptr::null_mut()).is_null());
            slq_close(ptr::null_mut());
        }
    }

    #[test]
    fn sizes_that_no_object_has_are_refused() {
        let byte = 0u8;
        // SAFETY: the length is refused before anything is read.
        assert!(unsafe { slq_open_bytes(&byte, usize::MAX, 0) }.is_null());
        assert!(error().contains("cannot have"), "{}", error());
    }
}
