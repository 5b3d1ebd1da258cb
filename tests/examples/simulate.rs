//! Runs the simulation over many seeds, or tells the story of one.
//!
//!     cargo run --release -p tests --example simulate -- 1000000
//!     cargo run --release -p tests --example simulate -- --seed 4711

use std::{process::ExitCode, time::Instant};

use tests::simulation::{explore, run};

const USAGE: &str = "usage: simulate COUNT [FIRST]   runs COUNT seeds, beginning with FIRST (0)
       simulate --seed SEED      tells the story of one seed";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |text: &String| text.parse::<u64>().ok();
    let sound = match arguments.as_slice() {
        [flag, seed] if flag == "--seed" => number(seed).map(tell),
        [count] => number(count).map(|count| look(0, count)),
        [count, first] => number(count)
            .zip(number(first))
            .map(|(count, first)| look(first, count)),
        _ => None,
    };
    match sound {
        Some(true) => ExitCode::SUCCESS,
        Some(false) => ExitCode::FAILURE,
        None => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn tell(seed: u64) -> bool {
    let (testimony, counts) = run(seed, true);
    print!("{}", testimony.story.unwrap_or_default());
    println!("{counts:#?}\ndigest {:016x}", testimony.digest);
    if let Some(violation) = &testimony.violation {
        println!("BROKEN: {violation}");
    }
    testimony.violation.is_none()
}

fn look(first: u64, count: u64) -> bool {
    let began = Instant::now();
    let Some(_) = first.checked_add(count) else {
        eprintln!("there are no seeds beyond {}", u64::MAX);
        return false;
    };
    let explored = explore(first, count, |done| {
        if done.is_multiple_of(10_000) {
            eprintln!("{done} seeds of {count}, {:.0?}", began.elapsed());
        }
    });
    println!("{:#?}\n{:.1?}", explored.counts, began.elapsed());
    if let Some((seed, violation)) = &explored.broken {
        println!("seed {seed}: {violation}\n  simulate --seed {seed} tells how it came to that");
    }
    explored.broken.is_none()
}
