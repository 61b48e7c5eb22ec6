//! Rows of a sheet: the distortions of a family, with labels.

use crate::family::Stage;
use crate::{DistortError, Distortion, Family, Severity};

/// The row of a family.
pub(super) struct Row {
    pub(super) name: &'static str,
    /// Parameters that are equal in all cells.
    pub(super) fixed: Vec<String>,
    pub(super) cells: Vec<Cell>,
}

/// A distortion, labelled with the parameters that differ within the row.
pub(super) struct Cell {
    pub(super) distortion: Distortion,
    pub(super) label: String,
}

impl Row {
    /// The severity levels of the family, or its defaults if it has none.
    pub(super) fn of(family: &'static Family) -> Result<Self, DistortError> {
        let mut shown: Vec<Distortion> =
            Severity::all().filter_map(|severity| family.severity(severity)).collect();
        if shown.is_empty() {
            shown.push(family.name.parse()?);
        }
        let parameters: Vec<Vec<String>> = shown.iter().map(parameters).collect();
        let varies = |index: usize| {
            parameters.len() > 1 && parameters.iter().any(|cell| cell[index] != parameters[0][index])
        };
        let some = |cell: &[String], of_varying: bool| -> Vec<String> {
            let with_index = cell.iter().enumerate();
            with_index
                .filter(|(index, _)| varies(*index) == of_varying)
                .map(|(_, text)| text.clone())
                .collect()
        };
        let fixed = some(&parameters[0], false);
        let cells = shown
            .iter()
            .zip(&parameters)
            .map(|(distortion, cell)| Cell {
                distortion: distortion.clone(),
                label: some(cell, true).join(","),
            })
            .collect();
        Ok(Self { name: family.name, fixed, cells })
    }
}

/// The parameters in text form: `sigma=4`.
fn parameters(distortion: &Distortion) -> Vec<String> {
    let names = distortion.family().map(Family::parameters).unwrap_or_default();
    let mut copy = distortion.clone();
    let values = copy.stage_mut().map(Stage::values).unwrap_or_default();
    values.iter().zip(names).map(|(value, parameter)| format!("{}={value}", parameter.name())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str) -> Row {
        Row::of(Family::named(name).unwrap()).unwrap()
    }

    #[test]
    fn labels_have_the_parameters_that_differ() {
        let occlude = row("occlude");
        assert_eq!(
            (occlude.name, &occlude.fixed[..]),
            ("occlude", &["grid=8".to_owned(), "fill=black".into()][..])
        );
        let labels: Vec<_> = occlude.cells.iter().map(|cell| cell.label.as_str()).collect();
        assert_eq!(labels, ["share=0.1", "share=0.25", "share=0.5", "share=0.75", "share=0.9"]);
        assert_eq!(row("motion-blur").fixed, ["angle=0..180"]);
    }

    #[test]
    fn families_without_levels_have_one_cell() {
        assert_eq!(row("blank").fixed, ["fill=black"]);
        assert_eq!((row("swap").cells.len(), row("swap").fixed.len()), (1, 0));
    }
}
