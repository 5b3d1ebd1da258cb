//! Writes the seeds of the fuzz targets to `fuzz/corpus/`, beside what else is there.
//!
//!     cargo run -p tests --example seeds

use std::{fs, path::Path};

fn main() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for (target, seeds) in tests::fuzzing::seeds::all() {
        let directory = corpus.join(target);
        fs::create_dir_all(&directory).unwrap();
        for (name, bytes) in seeds {
            fs::write(directory.join(name), bytes).unwrap();
        }
    }
}
