//! Bounds on what a JSON parser must hold in memory at once, laid on the bytes before it sees them.

use std::io::{self, Read};

/// Bytes of one string at most. What the format has is shorter than 100.
const STRING_BYTES_MAX: usize = 64 * 1024;
/// Objects and arrays within one another at most. The format has four.
const DEPTH_MAX: usize = 64;

/// A reader of JSON that fails at a string that is too long and at nesting that is too deep.
pub(super) struct Bounded<R> {
    inner: R,
    /// Bytes of the string that the next byte is in.
    string: Option<usize>,
    escaped: bool,
    depth: usize,
}

impl<R> Bounded<R> {
    pub(super) const fn new(inner: R) -> Self {
        Self {
            inner,
            string: None,
            escaped: false,
            depth: 0,
        }
    }

    fn look(&mut self, byte: u8) -> io::Result<()> {
        let Some(length) = self.string else {
            match byte {
                b'"' => self.string = Some(0),
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            return bound(self.depth, DEPTH_MAX, "nested deeper than it may be");
        };
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => {
                self.string = None;
                return Ok(());
            }
            _ => {}
        }
        self.string = Some(length + 1);
        bound(
            length,
            STRING_BYTES_MAX,
            "a string is longer than it may be",
        )
    }
}

fn bound(value: usize, max: usize, problem: &str) -> io::Result<()> {
    if value > max {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{problem} (at most {max})"),
        ));
    }
    Ok(())
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        for byte in buffer.iter().take(count) {
            self.look(*byte)?;
        }
        Ok(count)
    }
}
