//! A plot as SVG: bars with their figures, or lines over two axes.

use std::fmt::Write as _;

use super::{Plot, Shape, number};

/// Everything in pixels.
const WIDTH: f64 = 760.0;
const TOP: f64 = 40.0;
const BAR_STEP: f64 = 26.0;
const BAR_LEFT: f64 = 290.0;
/// Room for the figure behind the longest bar.
const BAR_RIGHT: f64 = 80.0;
const LINES_HEIGHT: f64 = 300.0;
const LINES_LEFT: f64 = 70.0;
const LINES_RIGHT: f64 = 20.0;
const LEGEND_STEP: f64 = 18.0;
/// Between two marks of the upright axis.
const MARKS: usize = 4;
/// That can be told apart, also in grey.
const COLOURS: [&str; 5] = ["#1f5fa8", "#c8102e", "#3a8f3a", "#b07000", "#6a3fa0"];

impl Plot {
    /// The file.
    pub(crate) fn svg(&self) -> String {
        let (body, height) = match &self.shape {
            Shape::Bars(bars) => self.bars(bars),
            Shape::Lines(lines) => self.lines(lines),
        };
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n\
             {}{body}</svg>\n",
            text(10.0, 22.0, "start", &self.title).replace("<text", "<text font-weight=\"bold\"")
        )
    }

    fn bars(&self, bars: &[(String, f64)]) -> (String, f64) {
        let longest = bars.iter().map(|&(_, value)| value).fold(0.0, f64::max);
        let mut body = String::new();
        for (n, (name, value)) in bars.iter().enumerate() {
            let y = TOP + n as f64 * BAR_STEP;
            let width = (WIDTH - BAR_LEFT - BAR_RIGHT) * value / longest;
            body += &text(BAR_LEFT - 8.0, y + 14.0, "end", name);
            // Writing to a String does not fail.
            let _ = writeln!(
                body,
                "<rect x=\"{BAR_LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" fill=\"{}\"/>",
                BAR_STEP - 8.0,
                COLOURS[0]
            );
            body += &text(BAR_LEFT + width + 6.0, y + 14.0, "start", &number(*value));
        }
        let end = TOP + bars.len() as f64 * BAR_STEP;
        body += &text(BAR_LEFT, end + 14.0, "start", &self.x);
        (body, end + 24.0)
    }

    fn lines(&self, lines: &[(String, Vec<(f64, f64)>)]) -> (String, f64) {
        let points = || lines.iter().flat_map(|(_, points)| points);
        let right = points().map(|point| point.0).fold(0.0, f64::max);
        let top =
            step(points().map(|point| point.1).fold(0.0, f64::max) / MARKS as f64) * MARKS as f64;
        let at = |(x, y): (f64, f64)| {
            (
                LINES_LEFT + (WIDTH - LINES_LEFT - LINES_RIGHT) * x / right,
                TOP + LINES_HEIGHT * (1.0 - y / top),
            )
        };
        let mut body = String::new();
        for mark in 0..=MARKS {
            let value = top * mark as f64 / MARKS as f64;
            let (_, y) = at((0.0, value));
            let _ = writeln!(
                body,
                "<line x1=\"{LINES_LEFT}\" y1=\"{y:.1}\" x2=\"{}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/>",
                WIDTH - LINES_RIGHT
            );
            body += &text(LINES_LEFT - 6.0, y + 4.0, "end", &number(value));
        }
        let below = TOP + LINES_HEIGHT + 16.0;
        for &(x, _) in lines.first().into_iter().flat_map(|(_, points)| points) {
            body += &text(at((x, 0.0)).0, below, "middle", &x.to_string());
        }
        body += &text(LINES_LEFT, below + 18.0, "start", &format!("{} over {}", self.y, self.x));
        for (n, (name, points)) in lines.iter().enumerate() {
            let colour = COLOURS[n % COLOURS.len()];
            let path: Vec<String> = points
                .iter()
                .map(|&point| at(point))
                .map(|(x, y)| format!("{x:.1},{y:.1}"))
                .collect();
            let _ = writeln!(
                body,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                path.join(" ")
            );
            let y = below + 38.0 + n as f64 * LEGEND_STEP;
            let _ = writeln!(
                body,
                "<rect x=\"{LINES_LEFT}\" y=\"{}\" width=\"14\" height=\"3\" fill=\"{colour}\"/>",
                y - 5.0
            );
            body += &text(LINES_LEFT + 20.0, y, "start", name);
        }
        (body, below + 38.0 + lines.len() as f64 * LEGEND_STEP)
    }
}

fn text(x: f64, y: f64, anchor: &str, text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>\n")
}

/// The next of 1, 2, 2.5, 5 times a power of ten.
fn step(least: f64) -> f64 {
    if least <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(least.log10().floor());
    let round = [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * power);
    round.into_iter().find(|&value| value >= least).unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::step;

    #[test]
    fn marks_stand_at_round_values() {
        for (least, round) in [(0.9, 1.0), (1.1, 2.0), (43_000.0, 50_000.0), (0.0, 1.0)] {
            assert_eq!(step(least), round);
        }
    }
}
