use super::*;

fn curves(points: Vec<(f64, f64)>) -> Curves {
    Curves {
        title: "A <title> & \"more\"".to_owned(),
        x: Axis::log("frame, bytes"),
        y: Axis::from_zero("Mbit/s"),
        series: vec![
            Series { name: "one".to_owned(), points: points.clone(), style: 0, mark: Mark::Both },
            Series { name: "two".to_owned(), points, style: 1, mark: Mark::Line },
        ],
        rulers: vec![(1450.0, "fits".to_owned())],
    }
}

#[test]
fn every_plot_is_a_well_formed_file() {
    let heat_map = HeatMap {
        title: "heat".to_owned(),
        unit: "%".to_owned(),
        x_label: "x".to_owned(),
        y_label: "y".to_owned(),
        columns: vec!["a".to_owned(), "b".to_owned()],
        rows: vec!["c".to_owned()],
        values: vec![vec![Some(1.0), None]],
    };
    let bars = Bars {
        title: "bars".to_owned(),
        unit: "ns".to_owned(),
        groups: vec!["a".to_owned(), "b".to_owned()],
        series: vec![("one".to_owned(), vec![Some(3.0), None]), ("two".to_owned(), vec![Some(0.0), Some(2.0)])],
    };
    for svg in [
        curves(vec![(64.0, 1.0), (9000.0, 2.0)]).to_svg().unwrap(),
        curves(vec![]).to_svg().unwrap(),
        curves(vec![(f64::NAN, 1.0), (1.0, f64::INFINITY)]).to_svg().unwrap(),
        heat_map.to_svg().unwrap(),
        HeatMap { values: vec![vec![None, None]], ..heat_map }.to_svg().unwrap(),
        bars.to_svg().unwrap(),
    ] {
        assert_well_formed(&svg);
        assert_well_formed(&standalone(&svg));
    }
}

#[test]
fn dark_colours_are_found_by_the_light_ones() {
    let svg = curves(vec![(64.0, 1.0), (9000.0, 2.0)]).to_svg().unwrap();
    for light in [INK, SERIES[0], SERIES[1], GRID] {
        assert!(svg.contains(&hex(light)), "{}", hex(light));
        assert!(dark_style().contains(&hex(light)));
    }
    assert!(svg.contains("A &lt;title&gt; &amp; &quot;more&quot;"));
}

#[test]
fn heat_runs_from_dark_to_bright_and_digits_stand_out() {
    assert_eq!((heat(0.0), heat(1.0)), (RGBColor(68, 1, 84), RGBColor(253, 231, 37)));
    assert_eq!(heat(-1.0), heat(0.0));
    assert_eq!(legible_on(heat(0.0)), RGBColor(0xfe, 0xfe, 0xfe));
    assert_eq!(legible_on(heat(1.0)), RGBColor(0, 0, 0));
}

/// Tags nest, attributes are quoted, no bare `&` or `<` is left, and all numbers are numbers.
pub(in super::super) fn assert_well_formed(xml: &str) {
    let mut open = Vec::new();
    let mut rest = xml;
    while let Some((text, behind)) = rest.split_once('<') {
        for entity in text.split('&').skip(1) {
            assert!(["amp;", "lt;", "gt;", "quot;", "apos;"].iter().any(|known| entity.starts_with(known)), "{entity}");
        }
        let (tag, after) = behind.split_once('>').expect("a tag ends");
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        assert!(!tag.contains("NaN") && !tag.contains("inf\""), "{tag}");
        rest = after;
        if tag.starts_with('!') {
            continue;
        }
        let name = tag.trim_matches('/').split([' ', '\n']).next().unwrap_or_default();
        match (tag.starts_with('/'), tag.ends_with('/')) {
            (true, _) => assert_eq!(open.pop(), Some(name)),
            (false, false) if ["meta", "br"].contains(&name) => {}
            (false, false) => open.push(name),
            (false, true) => {}
        }
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} is still open before {rest:?}");
}
