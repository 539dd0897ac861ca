//! The functions that JavaScript calls.
//!
//! No pointer is followed on this side: JavaScript writes into and reads from buffers that this module owns, through the
//! module's memory. The only unsafe thing is to give functions names that the linker sees.

#![allow(unsafe_code)]

use std::cell::RefCell;

use crate::server::Server;

#[derive(Default)]
struct State {
    server: Server,
    argument: Vec<u8>,
    answer: Vec<u8>,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

/// Makes room for an argument of `length` bytes; JavaScript writes it to the address that is returned.
// SAFETY: no other function of the module has this name.
#[unsafe(no_mangle)]
pub extern "C" fn slq_argument(length: usize) -> *mut u8 {
    STATE.with_borrow_mut(|state| {
        state.argument = vec![0; length];
        state.argument.as_mut_ptr()
    })
}

/// Makes call number `call` on the argument, which it consumes; `a` and `b` are its numbers. The answer lies at
/// [`slq_answer`]; -1 where it is the text of an error, otherwise 0.
// SAFETY: no other function of the module has this name.
#[unsafe(no_mangle)]
pub extern "C" fn slq_call(call: u32, a: u32, b: u32) -> i32 {
    STATE.with_borrow_mut(|state| {
        let argument = std::mem::take(&mut state.argument);
        let (answer, code) = match state.server.call_number(call, [a, b], argument) {
            Ok(answer) => (answer, 0),
            Err(error) => (error.to_string().into_bytes(), -1),
        };
        state.answer = answer;
        code
    })
}

/// Address of the last answer.
// SAFETY: no other function of the module has this name.
#[unsafe(no_mangle)]
pub extern "C" fn slq_answer() -> *const u8 {
    STATE.with_borrow(|state| state.answer.as_ptr())
}

/// Length of the last answer in bytes.
// SAFETY: no other function of the module has this name.
#[unsafe(no_mangle)]
pub extern "C" fn slq_answer_length() -> usize {
    STATE.with_borrow(|state| state.answer.len())
}
