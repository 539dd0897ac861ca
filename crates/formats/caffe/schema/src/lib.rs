//! The code and the descriptors in `slq-caffe` are what `proto/caffe.proto` gives. They are kept there so that building the
//! program compiles no compiler of schemas. To write them anew: `SLQ_GENERATE=1 cargo test -p slq-caffe-schema`.

#![forbid(unsafe_code)]

#[test]
fn kept_code_follows_the_schema() {
    let generated = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/generated");
    let files: [(&str, &[u8]); 2] = [
        ("caffe.rs", include_bytes!(concat!(env!("OUT_DIR"), "/caffe.rs"))),
        ("caffe.bin", include_bytes!(concat!(env!("OUT_DIR"), "/caffe.bin"))),
    ];
    for (name, wanted) in files {
        let path = generated.join(name);
        if std::env::var_os("SLQ_GENERATE").is_some() {
            std::fs::write(&path, wanted).unwrap();
        }
        let found = std::fs::read(&path).unwrap();
        assert!(found == wanted, "{name} is not what proto/caffe.proto gives: SLQ_GENERATE=1 writes it anew");
    }
}
