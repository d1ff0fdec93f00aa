//! A report as people read it: one table, and the same as comma-separated values.

use super::report::{Cell, LinkFigures, Report, Spread, round};

/// The heads of the columns.
const HEADS: [&str; 9] = [
    "",
    "goodput Mbit/s",
    "CPU s/GB send",
    "recv",
    "link",
    "wire/file",
    "resent",
    "queue",
    "last 5 %",
];

/// The whole text: what was done, a block for each link, the verdict.
pub fn table(report: &Report) -> String {
    let mut rows = vec![HEADS.map(str::to_owned).to_vec()];
    let mut titles = Vec::new();
    for (link, cells) in report.links() {
        titles.push((rows.len(), title(report, link)));
        rows.extend(cells.into_iter().map(row));
    }
    let mut lines = preamble(report);
    let widths: Vec<usize> = (0..HEADS.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    for (position, row) in rows.iter().enumerate() {
        for (_, title) in titles.iter().filter(|(at, _)| *at == position) {
            lines.push(String::new());
            lines.push(title.clone());
        }
        lines.push(aligned(row, &widths));
    }
    lines.extend(remarks(report));
    if let Some(verdict) = report.verdict() {
        lines.push(String::new());
        lines.push(verdict);
    }
    lines.join("\n")
}

/// What was done, in a few lines.
fn preamble(report: &Report) -> Vec<String> {
    let machine = &report.machine;
    let crossing = match report.packets_one_by_one {
        true => "packets cross one by one, without offloads, for all contestants",
        false => "with all of the kernel's offloads",
    };
    let mut lines = vec![
        format!(
            "ufx {}, Linux {}, {} processors ({})",
            report.version, machine.kernel, machine.processors, machine.processor
        ),
        format!(
            "One file of {} MB in {}, runs of each: {}, in turns, seed {}; {}; {crossing}.",
            round(report.file_bytes as f64 / 1e6),
            report.files,
            report.runs,
            report.seed,
            report.devices,
        ),
        format!(
            "TCP: sendfile to read and pwrite, autotuned buffers (rmem {}, wmem {}).",
            machine.tcp_rmem, machine.tcp_wmem
        ),
        "Goodput is from the sender's start to its exit: median [least-most].".to_owned(),
    ];
    if report.packets_one_by_one {
        lines.push(
            "CPU \"link\" is the emulator's, with the kernel's work on each arrival, such as TCP \
             sending on an ACK: compare CPU with --native."
                .to_owned(),
        );
        lines.push(checks(report));
    }
    lines.push(String::new());
    lines
}

/// What the emulated links were found to do.
fn checks(report: &Report) -> String {
    let Some(worst) = report
        .checks
        .iter()
        .map(|check| (check.delay / check.delay_asked - 1.0).abs())
        .reduce(f64::max)
    else {
        return String::new();
    };
    let rates = report
        .checks
        .iter()
        .filter_map(|check| Some((check.rate? / check.rate_asked? - 1.0).abs()));
    let rate = rates.reduce(f64::max).unwrap_or_default();
    let probes: usize = report.checks.iter().map(|check| check.probes).sum();
    let repeated = match report.repeated {
        0 => String::new(),
        count => format!("; {count} runs repeated for a link that was late"),
    };
    format!(
        "Links checked first: all {probes} probes met the fate their seed names, delay within \
         {:.1} %, rate within {:.1} %{repeated}.",
        worst * 100.0,
        rate * 100.0
    )
}

fn title(report: &Report, link: &LinkFigures) -> String {
    let (Some(rate), Some(rtt), Some(queue)) =
        (link.rate_bits_per_second, link.rtt_seconds, link.queue_bytes)
    else {
        return report.devices.clone();
    };
    let bursts = link
        .burst_packets
        .filter(|_| link.loss > 0.0)
        .map_or(String::new(), |packets| format!(" in bursts of {packets}"));
    format!(
        "{} Mbit/s, {} ms round trip, {} % loss{bursts} each way, queue {} kB",
        round(rate as f64 / 1e6),
        round(rtt * 1e3),
        round(link.loss * 100.0),
        round(queue as f64 / 1e3)
    )
}

fn row(cell: &Cell) -> Vec<String> {
    let figure = |value: Option<f64>, text: &dyn Fn(f64) -> String| {
        value.map_or_else(|| "-".to_owned(), text)
    };
    let milliseconds = |seconds: f64| format!("{} ms", significant(seconds * 1e3));
    vec![
        format!("  {}{}", cell.contestant, if is_unverified(cell) { " *" } else { "" }),
        goodput(cell),
        figure(cell.sender_cpu_per_gb, &significant),
        figure(cell.receiver_cpu_per_gb, &significant),
        figure(cell.link_cpu_per_gb, &significant),
        figure(cell.wire_ratio, &|ratio| format!("{ratio:.3}")),
        figure(cell.resent_share, &|share| format!("{} %", significant(share * 100.0))),
        figure(cell.queue_delay_seconds, &milliseconds),
        figure(cell.tail_seconds, &milliseconds),
    ]
}

/// Whether the contestant finished without a file to compare.
fn is_unverified(cell: &Cell) -> bool {
    cell.finished > 0 && !cell.verified
}

fn goodput(cell: &Cell) -> String {
    let megabits = |bits: f64| significant(bits / 1e6);
    let runs = cell.finished + cell.timed_out + cell.failed;
    match (&cell.goodput, &cell.arrived) {
        (Some(Spread { median, min, max }), _) => {
            let part = match cell.finished == runs {
                true => String::new(),
                false => format!(" {} of {runs}", cell.finished),
            };
            format!("{} [{}-{}]{part}", megabits(*median), megabits(*min), megabits(*max))
        }
        (None, Some(arrived)) => format!("DNF ({} Mbit/s arrived)", megabits(arrived.median)),
        (None, None) if cell.timed_out > 0 => "DNF".to_owned(),
        (None, None) => "failed".to_owned(),
    }
}

/// What cannot be seen from the figures.
fn remarks(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    if report.cells.iter().any(|cell| cell.timed_out > 0) {
        let capped = report.cells.iter().filter(|cell| cell.timed_out > 0);
        let caps = capped.map(|cell| cell.link.cap_seconds);
        let most = caps.reduce(f64::max).unwrap_or_default();
        lines.push(format!("DNF: did not finish within {} s.", significant(most)));
    }
    if report.cells.iter().any(is_unverified) {
        lines.push("*: left no file that could be verified.".to_owned());
    }
    for cell in &report.cells {
        for failure in &cell.failures {
            let loss = round(cell.link.loss * 100.0);
            lines.push(format!("{} at {loss} % loss failed: {failure}", cell.contestant));
        }
    }
    if !lines.is_empty() {
        lines.insert(0, String::new());
    }
    lines
}

/// The first column to the left, the others to the right.
pub fn aligned(row: &[String], widths: &[usize]) -> String {
    let cells = row.iter().zip(widths).enumerate().map(|(column, (text, &width))| match column {
        0 => format!("{text:<width$}"),
        _ => format!("{text:>width$}"),
    });
    cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

/// Three significant digits, as far as they are behind the point.
pub fn significant(figure: f64) -> String {
    match figure.abs() {
        100.0.. => format!("{figure:.0}"),
        10.0.. => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

/// One line for each link and contestant, with a head; empty where there is nothing.
pub fn csv(report: &Report) -> String {
    let mut lines = vec![
        "rate_bits_per_second,rtt_seconds,loss,burst_packets,queue_bytes,contestant,finished,\
         timed_out,failed,goodput_median,goodput_min,goodput_max,arrived_median,\
         sender_cpu_per_gb,receiver_cpu_per_gb,link_cpu_per_gb,wire_ratio,\
         back_packets_per_mb,resent_share,queue_delay_seconds,tail_seconds,verified"
            .to_owned(),
    ];
    for cell in &report.cells {
        let text = |figure: Option<f64>| figure.map_or(String::new(), |figure| figure.to_string());
        let link = &cell.link;
        let goodput = |part: fn(&Spread) -> f64| text(cell.goodput.as_ref().map(part));
        lines.push(
            [
                text(link.rate_bits_per_second.map(|rate| rate as f64)),
                text(link.rtt_seconds),
                link.loss.to_string(),
                text(link.burst_packets.map(|packets| packets as f64)),
                text(link.queue_bytes.map(|bytes| bytes as f64)),
                quoted(&cell.contestant),
                cell.finished.to_string(),
                cell.timed_out.to_string(),
                cell.failed.to_string(),
                goodput(|spread| spread.median),
                goodput(|spread| spread.min),
                goodput(|spread| spread.max),
                text(cell.arrived.map(|spread| spread.median)),
                text(cell.sender_cpu_per_gb),
                text(cell.receiver_cpu_per_gb),
                text(cell.link_cpu_per_gb),
                text(cell.wire_ratio),
                text(cell.back_packets_per_mb),
                text(cell.resent_share),
                text(cell.queue_delay_seconds),
                text(cell.tail_seconds),
                cell.verified.to_string(),
            ]
            .join(","),
        );
    }
    lines.join("\n")
}

/// A field that holds what separates fields stands in quotes, as RFC 4180 says.
pub fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::{cell, report};
    use super::*;

    #[test]
    fn a_run_that_does_not_finish_says_what_had_arrived() {
        let text = table(&report(vec![cell("ufx", 0.05, Some(91.2)), cell("reno", 0.05, None)]));
        assert!(text.contains("91.2 [82.1-100]"), "{text}");
        assert!(text.contains("DNF (2.00 Mbit/s arrived)"), "{text}");
        assert!(text.contains("DNF: did not finish within 3.40 s."), "{text}");
        assert!(text.contains("100 Mbit/s, 10 ms round trip, 5 % loss each way, queue 256 kB"));
        assert!(text.contains("one by one"), "{text}");
        assert!(text.ends_with("ufx wins at 5 % loss (46 x reno)."), "{text}");
    }

    #[test]
    fn columns_stand_below_their_heads() {
        let text = table(&report(vec![cell("ufx", 0.0, Some(91.2))]));
        let line = |start: &str| text.lines().find(|line| line.contains(start)).unwrap();
        assert_eq!(line("goodput Mbit/s").len(), line("  ufx").len(), "{text}");
    }

    #[test]
    fn every_line_of_csv_has_as_many_fields_as_the_head() {
        let text = csv(&report(vec![cell("a", 0.0, Some(1.0)), cell("b", 0.0, None)]));
        let fields: Vec<usize> = text.lines().map(|line| line.split(',').count()).collect();
        assert_eq!(fields, [22; 3]);
        assert_eq!(quoted("a,\"b"), "\"a,\"\"b\"");
    }
}
