//! Line charts as SVG: few lines, one scale that starts at zero, nothing that moves.

use std::fmt::Write;

use super::results::Curve;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 52.0;
/// Distinguishable without colour vision (Okabe and Ito).
const COLOURS: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000",
];
/// Lines across, about so many.
const STEPS: f64 = 6.0;

/// How numbers lie along the x axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    /// Each doubling takes the same room; from 1 on.
    Doubling,
}

/// What a chart says beside its lines.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words {
    pub(super) title: &'static str,
    pub(super) x: &'static str,
    pub(super) y: &'static str,
}

/// The chart of `curves`, as the text of an SVG file.
pub(super) fn lines(words: Words, scale: Scale, curves: &[Curve]) -> String {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let x_max = points().map(|(x, _)| *x).fold(1.0, f64::max);
    let y_max = points().map(|(_, y)| *y).fold(1.0, f64::max);
    let (x_step, y_step) = (step(x_max), step(y_max));
    let y_top = (y_max / y_step).ceil() * y_step;
    let along = |x: f64| match scale {
        Scale::Linear => x / x_max,
        Scale::Doubling => x.max(1.0).log2() / x_max.max(2.0).log2(),
    };
    let x_at = |x: f64| LEFT + along(x) * (WIDTH - LEFT - RIGHT);
    let y_at = |y: f64| HEIGHT - BOTTOM - y / y_top * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"16\">{}</text>\n",
        words.title
    );
    let text = |x: f64, y: f64, anchor: &str, text: &str| {
        format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>\n")
    };
    let rule = |from: (f64, f64), to: (f64, f64)| {
        format!(
            "<path d=\"M{:.1} {:.1}L{:.1} {:.1}\" stroke=\"#d9d9d9\"/>\n",
            from.0, from.1, to.0, to.1
        )
    };
    let (bottom, right) = (y_at(0.0), WIDTH - RIGHT);
    for y in marks(y_step, y_top) {
        svg += &rule((LEFT, y_at(y)), (right, y_at(y)));
        svg += &text(LEFT - 8.0, y_at(y) + 4.0, "end", &format!("{y}"));
    }
    let x_marks = match scale {
        Scale::Linear => marks(x_step, x_max),
        Scale::Doubling => doublings(x_max),
    };
    for x in x_marks {
        svg += &rule((x_at(x), TOP), (x_at(x), bottom));
        svg += &text(x_at(x), bottom + 18.0, "middle", &format!("{x}"));
    }
    svg += &text(f64::midpoint(LEFT, right), HEIGHT - 12.0, "middle", words.x);
    svg += &text(LEFT, TOP - 4.0, "end", words.y);
    for ((number, curve), colour) in (0_u8..).zip(curves).zip(COLOURS.iter().cycle()) {
        let mut path = String::new();
        for (at, (x, y)) in curve.points.iter().enumerate() {
            let verb = if at == 0 { 'M' } else { 'L' };
            // A string takes everything.
            let _ = write!(path, "{verb}{:.1} {:.1}", x_at(*x), y_at(*y));
        }
        let y = TOP + 20.0 * f64::from(number);
        svg += &format!(
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n\
             <path d=\"M{:.1} {y:.1}h22\" stroke=\"{colour}\" stroke-width=\"2\"/>\n",
            right + 12.0
        );
        svg += &text(right + 40.0, y + 4.0, "start", &curve.name);
    }
    svg + "</svg>\n"
}

/// A round distance between marks: 1, 2 or 5 times a power of ten.
fn step(most: f64) -> f64 {
    let rough = most / STEPS;
    let power = 10_f64.powf(rough.log10().floor());
    let round = [1.0, 2.0, 5.0, 10.0].map(|times| times * power);
    round
        .into_iter()
        .find(|step| *step >= rough)
        .unwrap_or(rough)
}

fn marks(step: f64, most: f64) -> Vec<f64> {
    let marks = (0_u32..).map(|number| f64::from(number) * step);
    marks
        .take_while(|mark| *mark <= most * 1.001)
        .take(100)
        .collect()
}

fn doublings(most: f64) -> Vec<f64> {
    let marks = std::iter::successors(Some(1.0), |mark| Some(mark * 2.0));
    marks.take_while(|mark| *mark <= most).collect()
}

#[cfg(test)]
mod tests {
    use super::{Curve, Scale, Words, lines, step};

    #[test]
    fn steps_are_round() {
        for (most, expected) in [(1.0, 0.2), (6.0, 1.0), (7.0, 2.0), (4_400.0, 1_000.0)] {
            assert!(
                (step(most) - expected).abs() < 1e-9,
                "{most}: {}",
                step(most)
            );
        }
    }

    #[test]
    fn every_curve_is_drawn_within_the_picture() {
        let curve = |name: &str| Curve {
            name: name.to_owned(),
            points: vec![(1.0, 0.0), (512.0, 2_000.0), (1_000.0, 4_321.0)],
        };
        let words = Words {
            title: "title",
            x: "validators",
            y: "rate",
        };
        for scale in [Scale::Linear, Scale::Doubling] {
            let svg = lines(words, scale, &[curve("one"), curve("other")]);
            assert_eq!(svg.matches("fill=\"none\"").count(), 2);
            for name in ["one", "other", "title", "validators", "rate"] {
                assert!(svg.contains(&format!(">{name}<")), "{name}: {svg}");
            }
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
        assert!(lines(words, Scale::Linear, &[]).ends_with("</svg>\n"));
    }
}
