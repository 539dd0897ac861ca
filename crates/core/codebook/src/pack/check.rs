//! Codes that fit their width.

use crate::PackError;

/// Refuses a code that does not fit `bits` bits, of which there are 1 to 8.
pub(super) fn check_codes(codes: &[u8], bits: u32) -> Result<(), PackError> {
    if codes.iter().fold(0, |all, code| all | code) >> (bits - 1) > 1 {
        let index = codes.iter().position(|code| code >> (bits - 1) > 1).unwrap_or_default();
        return Err(PackError::CodeTooLarge { index, code: codes[index].into(), bits });
    }
    Ok(())
}
