//! Recall against queries per second, as SVG.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
/// Recalls below it are of no interest.
const RECALL_MIN: f64 = 0.8;
/// Where the axis of recall is marked; it is stretched towards 1, where indexes differ.
const RECALL_MARKS: [f64; 8] = [0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0];
/// Of curves, in turns; numbers, because not every program that draws SVG knows other forms.
const COLOURS: [&str; 6] = ["#1f5fbf", "#c0392b", "#1e8449", "#8e44ad", "#b9770e", "#117a8b"];

/// A line of the plot.
pub(super) struct Curve {
    /// What is written beside it.
    pub name: String,
    /// Recall and queries per second.
    pub points: Vec<(f64, f64)>,
}

/// Draws curves; `None` without a point of enough recall.
pub(super) fn draw(title: &str, curves: &[Curve]) -> Option<String> {
    let is_shown = |point: &&(f64, f64)| point.0 >= RECALL_MIN && point.1 > 0.0;
    let rates: Vec<f64> = curves.iter().flat_map(|curve| &curve.points).filter(is_shown).map(|point| point.1).collect();
    let low = rates.iter().copied().reduce(f64::min)?.log10().floor();
    let high = rates.iter().copied().reduce(f64::max)?.log10().ceil().max(low + 1.0);
    let y = |rate: f64| TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - (rate.log10() - low) / (high - low));
    let mut svg = String::new();
    let mut line = |text: String| {
        svg.push_str(&text);
        svg.push('\n');
    };
    line(format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">"#
    ));
    line(format!(r#"<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>"#));
    line(format!(r#"<text x="{LEFT}" y="24" font-size="15">{}</text>"#, escaped(title)));
    for mark in RECALL_MARKS {
        let (x, bottom) = (x(mark), HEIGHT - BOTTOM);
        line(format!(r##"<path d="M{x:.1} {TOP}V{bottom}" stroke="#ddd"/>"##));
        line(format!(r#"<text x="{x:.1}" y="{:.1}" text-anchor="middle">{mark}</text>"#, bottom + 18.0));
    }
    for decade in low as i32..=high as i32 {
        for step in [1.0, 2.0, 5.0] {
            let rate = step * 10f64.powi(decade);
            if rate.log10() > high + 1e-9 {
                break;
            }
            let y = y(rate);
            line(format!(r##"<path d="M{LEFT} {y:.1}H{}" stroke="#ddd"/>"##, WIDTH - RIGHT));
            line(format!(r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{rate}</text>"#, LEFT - 8.0, y + 4.0));
        }
    }
    line(format!(r#"<text x="{:.1}" y="{:.1}" text-anchor="middle">recall</text>"#, WIDTH / 2.0, HEIGHT - 10.0));
    line(format!(
        r#"<text transform="translate(16 {:.1}) rotate(-90)" text-anchor="middle">queries per second</text>"#,
        HEIGHT / 2.0
    ));
    for (index, curve) in curves.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let mut path = String::new();
        for (recall, rate) in curve.points.iter().filter(is_shown) {
            // Writing to a string cannot fail.
            let _ = write!(path, "{}{:.1} {:.1}", if path.is_empty() { "M" } else { "L" }, x(*recall), y(*rate));
            line(format!(r#"<circle cx="{:.1}" cy="{:.1}" r="2.5" fill="{colour}"/>"#, x(*recall), y(*rate)));
        }
        line(format!(r#"<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/>"#));
        let at = TOP + 16.0 + index as f64 * 16.0;
        line(format!(
            r#"<text x="{:.1}" y="{at:.1}" text-anchor="end" fill="{colour}">{}</text>"#,
            WIDTH - RIGHT - 8.0,
            escaped(&curve.name)
        ));
    }
    line("</svg>".to_owned());
    Some(svg)
}

/// Missing recall on a logarithmic scale, from the left edge at the lowest to the right one at 0.9995 and all above.
fn x(recall: f64) -> f64 {
    let missing = |recall: f64| (1.0 - recall).max(0.0005).ln();
    let share = (missing(RECALL_MIN) - missing(recall)) / (missing(RECALL_MIN) - missing(1.0));
    LEFT + (WIDTH - LEFT - RIGHT) * share
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_lies_within_the_picture() {
        let points = vec![(0.5, 9e9), (0.85, 40_000.0), (0.95, 20_000.0), (1.0, 900.0)];
        let svg = draw("a & b", &[Curve { name: "<graph>".to_owned(), points }]).unwrap();
        assert!(svg.contains("a &amp; b") && svg.contains("&lt;graph>") && !svg.contains("NaN"));
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!((x(0.8) - LEFT).abs() < 1e-9 && (x(1.0) - (WIDTH - RIGHT)).abs() < 1e-9);
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        assert!(draw("none", &[Curve { name: String::new(), points: vec![(0.1, 1.0)] }]).is_none());
    }
}
