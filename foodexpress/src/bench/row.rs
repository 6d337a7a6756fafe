//! One line of the result: a figure, what it was held against, and whether it keeps its budget.

use serde::Serialize;

use super::figures::Spread;

/// A figure. Every budget is a ceiling.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) name: &'static str,
    /// The median of all rounds; none if it could not be measured.
    pub(crate) value: Option<f64>,
    /// Of the value, the limits and the extremes.
    pub(crate) unit: &'static str,
    /// What ran beside it, with its own figure.
    pub(crate) against: Option<String>,
    /// The value may not be above this.
    pub(crate) must: Option<f64>,
    /// And is meant to be below this.
    pub(crate) goal: Option<f64>,
    /// Whether the budget is kept; none without a budget or without a value.
    pub(crate) ok: Option<bool>,
    /// Of the rounds.
    pub(crate) min: Option<f64>,
    /// Of the rounds.
    pub(crate) max: Option<f64>,
    /// How often it was measured.
    pub(crate) rounds: usize,
    /// What a reader should know.
    pub(crate) note: String,
    /// It broke, which is worse than being slow.
    pub(crate) broken: bool,
}

impl Row {
    /// A figure from the values of all rounds.
    pub(super) fn measured(name: &'static str, unit: &'static str, spread: Spread) -> Self {
        let Spread { median, min, max, rounds } = spread;
        let value = Some(short(median));
        Self { value, min: Some(short(min)), max: Some(short(max)), rounds, ..Self::empty(name, unit) }
    }

    /// A figure that this machine has no means for.
    pub(super) fn skipped(name: &'static str, unit: &'static str, why: impl Into<String>) -> Self {
        Self { note: format!("skipped: {}", why.into()), ..Self::empty(name, unit) }
    }

    /// A scenario that broke has no figure.
    pub(super) fn broken(name: &'static str, why: impl Into<String>) -> Self {
        Self { note: why.into(), ok: Some(false), broken: true, ..Self::empty(name, "") }
    }

    fn empty(name: &'static str, unit: &'static str) -> Self {
        Self {
            name,
            unit,
            value: None,
            against: None,
            must: None,
            goal: None,
            ok: None,
            min: None,
            max: None,
            rounds: 0,
            note: String::new(),
            broken: false,
        }
    }

    /// Holds the figure against its budget.
    pub(super) fn budget(self, must: f64, goal: f64) -> Self {
        let ok = self.value.map(|value| value <= must);
        Self { must: Some(must), goal: Some(goal), ok, ..self }
    }

    /// Says what ran beside it.
    pub(super) fn against(self, what: impl Into<String>) -> Self {
        Self { against: Some(what.into()), ..self }
    }

    /// Says what a reader should know.
    pub(super) fn note(self, what: impl Into<String>) -> Self {
        Self { note: what.into(), ..self }
    }
}

/// Four digits are more than any of these figures is good for.
fn short(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_a_ceiling_and_a_missing_figure_keeps_none() {
        let row = |value| Row::measured("x", "ms", Spread::of(vec![value])).budget(2.0, 1.0);
        assert_eq!(row(2.0).ok, Some(true));
        assert_eq!(row(2.01).ok, Some(false));
        assert_eq!(Row::skipped("x", "ms", "no means").budget(2.0, 1.0).ok, None);
        assert_eq!(Row::broken("x", "lost one").ok, Some(false));
    }

    #[test]
    fn figures_are_cut_to_what_they_are_good_for() {
        assert!((short(1234.567) - 1235.0).abs() < 1e-9);
        assert!((short(0.001_234_56) - 0.001_235).abs() < 1e-12);
    }
}
