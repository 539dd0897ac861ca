#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| slq_fuzz::network(bytes));

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, most: usize, seed: u32| {
    let changed = (seed % 4 > 0).then(|| slq_fuzz::protobuf::mutated(&data[..size], seed.into())).flatten();
    match changed.filter(|c| c.len() <= most) {
        Some(changed) => {
            data[..changed.len()].copy_from_slice(&changed);
            changed.len()
        }
        None => libfuzzer_sys::fuzzer_mutate(data, size, most),
    }
});
