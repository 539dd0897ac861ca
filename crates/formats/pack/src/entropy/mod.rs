//! Symbols of a small alphabet to bytes and back.
//!
//! | module | what it does |
//! |---|---|
//! | [`stream`] | one sequence of symbols: method, blocks, bounds |
//! | [`draft`] | the writer's choice of a method |
//! | [`frequencies`], [`ans`] | the static method: one table of frequencies, several lanes |
//! | [`codes`], [`planes`] | the adaptive method: contexts of codes and of bytes of floats |
//! | [`tree`], [`mixer`], [`decisions`] | what the adaptive method is made of |

pub(crate) mod ans;
pub(crate) mod codes;
mod decisions;
pub(crate) mod draft;
mod frequencies;
mod mixer;
pub(crate) mod planes;
pub(crate) mod stream;
mod tree;
