//! A report as a chart: goodput over loss, one line for each contestant, one panel for each rate
//! and round trip. Plain SVG without scripts or fonts of its own; its colours follow the
//! reader's light or dark setting.

use std::fmt::Write as _;

use super::report::{Cell, LinkFigures, Report, round};

/// One panel, with room for its title, its scales and the names at the ends of the lines.
const PANEL_WIDTH: f64 = 720.0;
const PANEL_HEIGHT: f64 = 360.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 130.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 56.0;

/// The least distance between two names, in the size of their letters.
const NAME_HEIGHT: f64 = 17.0;

/// A line of the notes below the panels.
const NOTE_HEIGHT: f64 = 15.0;

/// Colours that the colour-blind tell apart (Okabe and Ito), darkened or lightened so that each
/// has a contrast of 3 or more against its background; ufx has the first.
const COLOURS: [(&str, &str); 7] = [
    ("#0063a8", "#56b4e9"),
    ("#b64a00", "#f0893a"),
    ("#007a5a", "#25c296"),
    ("#a3407c", "#e08fbd"),
    ("#7a6a00", "#e2d34a"),
    ("#4a4a4a", "#bdbdbd"),
    ("#8c1d18", "#ff8a80"),
];

/// Draws the report; a native one has a single point for each contestant. Points are hollow where
/// no run finished: they show what had arrived.
pub fn chart(report: &Report) -> String {
    let panels = panels(report);
    let height = PANEL_HEIGHT * panels.len() as f64 + 24.0 + NOTE_HEIGHT;
    let mut svg = String::new();
    // Writing to a String cannot fail, here and below.
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {PANEL_WIDTH} {height}\" \
         width=\"{PANEL_WIDTH}\" height=\"{height}\" role=\"img\" \
         font-family=\"system-ui, sans-serif\" font-size=\"14\">\n\
         <title>Goodput of file copies under packet loss</title>\n{}",
        style()
    );
    let names = names(report);
    for (position, (title, cells)) in panels.iter().enumerate() {
        let _ = writeln!(svg, "<g transform=\"translate(0,{})\">", PANEL_HEIGHT * position as f64);
        svg.push_str(&panel(title, cells, &names));
        svg.push_str("</g>\n");
    }
    let machine = &report.machine;
    let is_open = report.cells.iter().any(|cell| cell.goodput.is_none());
    let mut notes = vec![format!(
        "ufx {}, Linux {}, {} processors; {} MB in memory, median of {}; {}",
        report.version,
        machine.kernel,
        machine.processors,
        round(report.file_bytes as f64 / 1e6),
        report.runs,
        report.devices,
    )];
    if is_open {
        notes.push("hollow: did not finish, what had arrived by then".to_owned());
    }
    for (line, note) in notes.iter().enumerate() {
        let _ = writeln!(
            svg,
            "<text class=\"quiet\" x=\"{LEFT}\" y=\"{}\" font-size=\"11\">{}</text>",
            height - 10.0 - NOTE_HEIGHT * (1.0 - line as f64),
            escaped(note)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn style() -> String {
    let mut style = String::from(
        "<style>\n\
         .ground, circle.open { fill: #ffffff } text { fill: #1f2328 } .quiet { fill: #59636e }\n\
         .grid { stroke: #d1d9e0 } .axis { stroke: #59636e }\n",
    );
    let mut dark = String::from(
        ".ground, circle.open { fill: #0d1117 } text { fill: #f0f6fc } .quiet { fill: #9198a1 }\n\
         .grid { stroke: #3d444d } .axis { stroke: #9198a1 }\n",
    );
    for (number, (light_colour, dark_colour)) in COLOURS.iter().enumerate() {
        for (rules, colour) in [(&mut style, light_colour), (&mut dark, dark_colour)] {
            let _ = writeln!(
                rules,
                ".line{number} {{ stroke: {colour}; fill: none }} \
                 .point{number} {{ fill: {colour}; stroke: {colour} }} \
                 text.name{number} {{ fill: {colour} }}"
            );
        }
    }
    format!(
        "{style}@media (prefers-color-scheme: dark) {{\n{dark}}}\n</style>\n\
             <rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n"
    )
}

/// The cells of each rate and round trip, with a title.
fn panels(report: &Report) -> Vec<(String, Vec<&Cell>)> {
    let mut panels: Vec<(String, Vec<&Cell>)> = Vec::new();
    for cell in &report.cells {
        let title = title(&cell.link, report);
        match panels.iter_mut().find(|(other, _)| *other == title) {
            Some((_, cells)) => cells.push(cell),
            None => panels.push((title, vec![cell])),
        }
    }
    panels
}

fn title(link: &LinkFigures, report: &Report) -> String {
    match (link.rate_bits_per_second, link.rtt_seconds) {
        (Some(rate), Some(rtt)) => format!(
            "{} Mbit/s, {} ms round trip: goodput in Mbit/s",
            round(rate as f64 / 1e6),
            round(rtt * 1e3)
        ),
        _ => format!("{}: goodput in Mbit/s", report.devices),
    }
}

/// The contestants in their order, which gives them their colours.
fn names(report: &Report) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for cell in &report.cells {
        if !names.contains(&cell.contestant.as_str()) {
            names.push(&cell.contestant);
        }
    }
    names
}

/// From figures to places in a panel.
struct Scale {
    /// The losses that were measured, in their order: evenly spaced, for 0, 0.1, 1 and 10 % fit
    /// no line with equal steps and 0 no logarithmic one.
    losses: Vec<f64>,
    top: f64,
}

impl Scale {
    fn new(cells: &[&Cell]) -> Scale {
        let mut losses: Vec<f64> = cells.iter().map(|cell| cell.link.loss).collect();
        losses.sort_by(f64::total_cmp);
        losses.dedup();
        let rate = cells.iter().filter_map(|cell| cell.link.rate_bits_per_second).max();
        let most = cells.iter().map(|cell| figure(cell)).fold(1.0, f64::max);
        Scale { losses, top: rate.map_or(most * 1.1, |rate| rate as f64 / 1e6) }
    }

    fn x(&self, loss: f64) -> f64 {
        let width = PANEL_WIDTH - LEFT - RIGHT;
        let position = self.losses.iter().position(|&other| other == loss).unwrap_or(0);
        match self.losses.len() {
            0 | 1 => LEFT + width / 2.0,
            count => LEFT + width * position as f64 / (count - 1) as f64,
        }
    }

    fn y(&self, megabits: f64) -> f64 {
        let height = PANEL_HEIGHT - TOP - BOTTOM;
        TOP + height * (1.0 - (megabits / self.top).clamp(0.0, 1.0))
    }
}

/// What is drawn: the median, else what had arrived of runs that did not finish.
fn figure(cell: &Cell) -> f64 {
    cell.goodput.or(cell.arrived).map_or(0.0, |spread| spread.median / 1e6)
}

fn panel(title: &str, cells: &[&Cell], names: &[&str]) -> String {
    let scale = Scale::new(cells);
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"28\" font-size=\"16\" font-weight=\"600\">{}</text>",
        escaped(title)
    );
    for step in 0..=4 {
        let megabits = scale.top * f64::from(step) / 4.0;
        let (y, right) = (scale.y(megabits), PANEL_WIDTH - RIGHT);
        let class = if step == 0 { "axis" } else { "grid" };
        let _ = writeln!(
            svg,
            "<line class=\"{class}\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"quiet\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 10.0,
            y + 5.0,
            round(megabits.round())
        );
    }
    for &loss in &scale.losses {
        let _ = writeln!(
            svg,
            "<text class=\"quiet\" x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{} %</text>",
            scale.x(loss),
            PANEL_HEIGHT - BOTTOM + 24.0,
            round(loss * 100.0)
        );
    }
    let _ = writeln!(
        svg,
        "<text class=\"quiet\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">packets lost each way\
         </text>",
        (LEFT + PANEL_WIDTH - RIGHT) / 2.0,
        PANEL_HEIGHT - BOTTOM + 44.0
    );
    svg.push_str(&lines(cells, names, &scale));
    svg
}

fn lines(cells: &[&Cell], names: &[&str], scale: &Scale) -> String {
    let mut svg = String::new();
    let mut ends = Vec::new();
    for (number, &name) in names.iter().enumerate() {
        let class = number % COLOURS.len();
        let own = cells.iter().filter(|cell| cell.contestant == name);
        let points: Vec<(f64, f64, bool)> = own
            .map(|cell| (scale.x(cell.link.loss), scale.y(figure(cell)), cell.goodput.is_some()))
            .collect();
        let Some(&(_, last, _)) = points.last() else { continue };
        ends.push((last, class, name));
        let path: Vec<String> = points.iter().map(|(x, y, _)| format!("{x:.1},{y:.1}")).collect();
        let width = if name.starts_with("ufx") { 3 } else { 2 };
        let _ = writeln!(
            svg,
            "<polyline class=\"line{class}\" stroke-width=\"{width}\" points=\"{}\"/>",
            path.join(" ")
        );
        for (x, y, finished) in points {
            let open = if finished { "" } else { " open" };
            let _ = writeln!(
                svg,
                "<circle class=\"point{class}{open}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" \
                 stroke-width=\"2\"/>"
            );
        }
    }
    for (y, class, name) in spread_out(ends) {
        let _ = writeln!(
            svg,
            "<text class=\"name{class}\" x=\"{}\" y=\"{:.1}\" font-weight=\"600\">{}</text>",
            PANEL_WIDTH - RIGHT + 12.0,
            y + 5.0,
            escaped(name)
        );
    }
    svg
}

/// Moves names apart that would stand on each other: down first, then all up again by what
/// stands out below.
fn spread_out<T>(mut names: Vec<(f64, usize, T)>) -> Vec<(f64, usize, T)> {
    names.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut least = f64::MIN;
    for (y, ..) in &mut names {
        *y = y.max(least);
        least = *y + NAME_HEIGHT;
    }
    let mut most = PANEL_HEIGHT - BOTTOM;
    for (y, ..) in names.iter_mut().rev() {
        *y = y.min(most);
        most = *y - NAME_HEIGHT;
    }
    names
}

/// Text as it may stand in XML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::{cell, report};
    use super::*;

    #[test]
    fn every_contestant_has_a_line_a_point_for_each_loss_and_its_name() {
        let svg = chart(&report(vec![
            cell("ufx", 0.0, Some(90.0)),
            cell("a<b", 0.0, Some(80.0)),
            cell("ufx", 0.05, Some(90.0)),
            cell("a<b", 0.05, None),
        ]));
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert_eq!(svg.matches("<circle").count(), 4);
        assert_eq!(svg.matches(" open\"").count(), 1, "what did not finish is hollow");
        assert!(svg.contains(">a&lt;b</text>") && svg.contains(">ufx</text>"), "{svg}");
        assert!(svg.contains("prefers-color-scheme: dark"));
    }

    #[test]
    fn names_never_stand_on_each_other() {
        let bottom = PANEL_HEIGHT - BOTTOM;
        let names = spread_out(vec![(bottom, 0, ()), (bottom - 1.0, 1, ()), (100.0, 2, ())]);
        for pair in names.windows(2) {
            assert!(pair[1].0 - pair[0].0 >= NAME_HEIGHT, "{names:?}");
        }
        assert!(names.iter().all(|(y, ..)| *y <= bottom));
    }
}
