//! Compiles Caffe's schema: message types, and a descriptor set for the text format.

use std::error::Error;
use std::path::PathBuf;

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../proto/caffe.proto");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
    let mut compiler = protox::Compiler::new(["../proto"])?;
    compiler.include_source_info(false).open_file("caffe.proto")?;
    let descriptors = compiler.file_descriptor_set();
    std::fs::write(out.join("caffe.bin"), descriptors.encode_to_vec())?;
    prost_build::Config::new().out_dir(out).compile_fds(descriptors)?;
    Ok(())
}
