//! An `init` that draws secure random numbers, which a snapshot would freeze: refused
//! unless the manifest asks for `secure-random`. Requests may draw them always.

use aegis_guest::{Context, Failure, Startup, Text};

mod random {
    //! The C library's secure random numbers: the standard library has none that is stable.
    #![expect(unsafe_code, reason = "a call to C")]

    unsafe extern "C" {
        fn getentropy(buffer: *mut u8, length: usize) -> i32;
    }

    pub(crate) fn draw() -> u64 {
        let mut bytes = [0; 8];
        // SAFETY: the buffer has the length that is given.
        let failed = unsafe { getentropy(bytes.as_mut_ptr(), bytes.len()) } != 0;
        if failed { 0 } else { u64::from_le_bytes(bytes) }
    }
}

struct Key(u64);

fn load(_: &Startup) -> Result<Key, Failure> {
    Ok(Key(random::draw()))
}

/// The number drawn at upload, and one drawn now.
fn predict(_: &Context, key: &Key, _: &[u8]) -> Result<Text<String>, Failure> {
    Ok(Text(format!("{:016x} {:016x}", key.0, random::draw())))
}

aegis_guest::handler! { init: load, predict: predict }
