//! Opening an LMDB environment: the only unsafe code of this crate.
//!
//! LMDB maps its file into memory, and reads of a file that another process cuts off or changes meanwhile are undefined
//! behaviour, which no library can rule out; so `heed` marks both calls as unsafe.

use std::path::Path;

use heed::{Env, EnvFlags, EnvOpenOptions, WithoutTls};

/// Opens the environment in `folder`, with `bytes` of address space. Nothing is locked: what is read is not written to
/// meanwhile, and what is written nobody else knows yet; so no lock file is left behind.
pub(crate) fn environment(
    folder: &Path,
    bytes: u64,
    extra: EnvFlags,
) -> Result<Env<WithoutTls>, heed::Error> {
    // LMDB wants whole pages of the machine; 64 KiB is a multiple of any.
    let size = usize::try_from(bytes.next_multiple_of(1 << 16)).unwrap_or(usize::MAX >> 16 << 16);
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(size);
    // SAFETY: without locks there must be a single process that writes, and no reader meanwhile; see above.
    unsafe { options.flags(EnvFlags::NO_LOCK | extra) };
    // SAFETY: the file is mapped; that it is not cut off or changed while it is open is asked of the user, as of all
    // users of LMDB. What lies in it has been checked where it came from elsewhere.
    unsafe { options.open(folder) }
}
