//! A run as a picture: progress, processors, memory and writes over time, phases as lines across all of them.

use anyhow::{Result, anyhow};
use plotters::{
    coord::Shift,
    prelude::{
        BLACK, ChartBuilder, Color, DrawingArea, IntoDrawingArea, IntoFont, LineSeries, Palette, Palette99,
        PathElement, SVGBackend, SeriesLabelPosition, WHITE,
    },
};

use super::{
    record::{Run, Sample},
    statistics::number,
};

const SIZE: (u32, u32) = (1200, 1500);
const FONT: &str = "sans-serif";

/// One line of a chart.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// The picture as SVG.
pub fn svg(run: &Run) -> Result<String> {
    let mut picture = String::new();
    {
        let area = SVGBackend::with_string(&mut picture, SIZE).into_drawing_area();
        let drawn = draw(&area, run);
        drawn.map_err(|error| anyhow!("the plot cannot be drawn: {error}"))?;
    }
    Ok(picture)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn<'a> = Result<(), Box<dyn std::error::Error + 'a>>;

fn draw<'a>(area: &Area<'a>, run: &Run) -> Drawn<'a> {
    area.fill(&WHITE)?;
    let title = format!("{} clusters of {}, {} kubeadm providers", run.clusters, run.shape, run.managers);
    let area = area.titled(&title, (FONT, 22))?;
    let charts = [
        ("Available", progress(run)),
        ("processors kept busy", rates(run, |sample, name| sample.processes.get(name).map(|values| values[0]))),
        ("resident MiB", values(run)),
        ("writes per second", rates(run, |sample, name| sample.requests.get(name).map(|counts| number(counts[1])))),
    ];
    for (part, (label, lines)) in area.split_evenly((charts.len(), 1)).iter().zip(charts) {
        chart(part, run, label, &lines)?;
    }
    area.present()?;
    Ok(())
}

fn chart<'a>(area: &Area<'a>, run: &Run, label: &str, lines: &[Line]) -> Drawn<'a> {
    let points = lines.iter().flat_map(|line| &line.points);
    let (right, top) = points.fold((1.0_f64, 1.0_f64), |(x, y), point| (x.max(point.0), y.max(point.1)));
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..right, 0.0..top * 1.05)?;
    chart.configure_mesh().light_line_style(WHITE).y_desc(label).x_desc("seconds").label_style((FONT, 13)).draw()?;
    for phase in &run.phases {
        let edge = [(phase.from, 0.0), (phase.from, top * 1.05)];
        chart.draw_series([PathElement::new(edge.to_vec(), BLACK.mix(0.3))])?;
        let text = plotters::element::Text::new(phase.name.clone(), (phase.from, top * 1.04), (FONT, 12).into_font());
        chart.draw_series([text])?;
    }
    for (index, line) in lines.iter().enumerate() {
        let color = Palette99::pick(index).to_rgba();
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), color.stroke_width(2)))?
            .label(line.name.clone())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .label_font((FONT, 13))
        .draw()?;
    Ok(())
}

fn progress(run: &Run) -> Vec<Line> {
    let line = |name: &str, count: fn(&Sample) -> usize| Line {
        name: name.to_owned(),
        points: run.samples.iter().map(|sample| (sample.at, number(count(sample)))).collect(),
    };
    vec![line("clusters", |sample| sample.available), line("machines", |sample| sample.machines_available)]
}

/// Resident memory of each process.
fn values(run: &Run) -> Vec<Line> {
    let of = |name: &String| {
        let value = |sample: &Sample| Some((sample.at, sample.processes.get(name)?[1]));
        Line { name: name.clone(), points: run.samples.iter().filter_map(value).collect() }
    };
    names(run).iter().map(of).collect()
}

/// How fast a sum grows, by process; those for which there is none are left out.
fn rates(run: &Run, sum: impl Fn(&Sample, &str) -> Option<f64>) -> Vec<Line> {
    let of = |name: &String| {
        let rate = |pair: &[Sample]| {
            let span = pair[1].at - pair[0].at;
            // Somebody's first request comes after others' first.
            let before = sum(&pair[0], name).unwrap_or_default();
            let grown = sum(&pair[1], name)? - before;
            (span > 0.0).then(|| (pair[1].at, grown / span))
        };
        Line { name: name.clone(), points: run.samples.windows(2).filter_map(rate).collect() }
    };
    names(run).iter().map(of).filter(|line| !line.points.is_empty()).collect()
}

/// Processes, as the last sample names them.
fn names(run: &Run) -> Vec<String> {
    run.samples.last().map(|sample| sample.processes.keys().cloned().collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use xtask::fleet::Managers;

    use super::*;
    use crate::fleet::report::tests::example;

    #[test]
    fn a_picture_names_phases_and_processes() {
        let picture = svg(&example(Managers::Basalt, 2.0)).unwrap();
        assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
        for word in ["create", "bootstrap-kubeadm", "resident MiB", "2 clusters of 1+1"] {
            assert!(picture.contains(word), "{word}");
        }
    }

    #[test]
    fn a_run_that_saw_nothing_has_an_empty_picture() {
        let mut run = example(Managers::Basalt, 2.0);
        run.samples.clear();
        run.phases.clear();
        assert!(svg(&run).unwrap().contains("writes per second"));
    }

    #[test]
    fn processors_are_the_slope_of_processor_time() {
        let lines = rates(&example(Managers::Basalt, 2.0), |sample, name| Some(sample.processes.get(name)?[0]));
        assert_eq!(lines.len(), 1);
        assert!(lines[0].points.iter().all(|(_, cores)| (cores - 0.1).abs() < 1e-9));
    }
}
