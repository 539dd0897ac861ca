//! The message types generated from `proto/caffe.proto`, and the descriptors of the same messages. The crate in
//! `schema/` writes and checks what lies in `generated/`.
#![allow(missing_docs, dead_code, clippy::all)]

use std::sync::LazyLock;

use prost_reflect::DescriptorPool;

include!("generated/caffe.rs");

/// Descriptors of all messages.
pub(crate) static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(include_bytes!("generated/caffe.bin").as_slice())
        .expect("the descriptor set was compiled with this crate")
});
