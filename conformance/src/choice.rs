//! Which cells of the table are played.

use crate::case::Case;
use crate::engine::{ENGINES, Engine};
use crate::families::{FAMILIES, cases};

/// Some of the cases on some of the engines.
#[derive(Clone, Debug)]
pub struct Choice {
    cases: Vec<Case>,
    engines: Vec<&'static Engine>,
}

impl Choice {
    /// Cases that one of these patterns matches, on these engines; no pattern and no engine means all of them.
    ///
    /// # Errors
    /// A pattern that matches no case, or an engine that there is not; what there is is named.
    pub fn new(patterns: &[String], engines: &[String]) -> Result<Self, String> {
        let all = cases();
        for pattern in patterns {
            if !all.iter().any(|case| matches(pattern, case.name)) {
                let families: Vec<_> = FAMILIES.iter().map(|family| format!("{}.*", family.name)).collect();
                return Err(format!("no case is called {pattern}; there are {}", families.join(", ")));
            }
        }
        let named = |name: &String| {
            Engine::named(name).ok_or_else(|| {
                let known: Vec<_> = ENGINES.iter().map(|engine| engine.name).collect();
                format!("no engine is called {name}; there are {}", known.join(", "))
            })
        };
        let engines = engines.iter().map(named).collect::<Result<Vec<_>, _>>()?;
        let engines = if engines.is_empty() { ENGINES.iter().collect() } else { engines };
        let wanted = |case: &Case| patterns.is_empty() || patterns.iter().any(|pattern| matches(pattern, case.name));
        Ok(Self { cases: all.into_iter().filter(wanted).collect(), engines })
    }

    /// The cells, in the order of the table: also those that nobody claims.
    pub fn cells(&self) -> impl Iterator<Item = (&Case, &'static Engine)> {
        self.cases.iter().flat_map(|case| {
            let family = FAMILIES.iter().find(|family| family.name == case.family());
            let columns = family.into_iter().flat_map(crate::families::Family::engines);
            columns
                .filter(|column| self.engines.iter().any(|engine| engine.name == column.name))
                .map(move |e| (case, e))
        })
    }

    /// The engines that have to run for it, each with the variable that says where; each once.
    pub fn needs(&self) -> Vec<(&'static str, &'static str)> {
        let claimed = self.cells().filter(|(case, engine)| case.unclaimed(engine.name).is_none());
        let mut needs: Vec<_> = claimed.flat_map(|(_, engine)| engine.needs.iter().copied()).collect();
        needs.sort_unstable();
        needs.dedup();
        needs
    }
}

/// Whether a pattern, in which `*` stands for anything, is this name.
pub fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|behind| {
            (0..=behind.len()).any(|at| behind.is_char_boundary(at) && matches(rest, &behind[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything_and_nothing_else_does() {
        for (pattern, name) in [("store.commit", "store.commit"), ("store.*", "store.commit"), ("*kill*", "bus.kill")] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("store", "store.commit"), ("store.?ommit", "store.commit"), ("*.kill", "bus.killed")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn an_unknown_case_or_engine_is_told_what_there_is() {
        let told = Choice::new(&["stare.*".to_owned()], &[]).unwrap_err();
        assert!(told.contains("stare.*") && told.contains("store.*"), "{told}");
        let told = Choice::new(&[], &["oracle".to_owned()]).unwrap_err();
        assert!(told.contains("oracle") && told.contains("pgbouncer"), "{told}");
    }

    #[test]
    fn what_is_not_claimed_needs_no_engine() {
        let choice = Choice::new(&["bus.order".to_owned()], &["sqlite".to_owned(), "kafka".to_owned()]).unwrap();
        assert_eq!(choice.needs(), [("kafka", "FX_TEST_KAFKA")]);
        let choice = Choice::new(&["bus.move".to_owned()], &["postgres".to_owned()]).unwrap();
        assert_eq!((choice.cells().count(), choice.needs()), (1, vec![]));
    }
}
