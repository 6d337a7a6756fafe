//! A connection together with what is known of each statement text, so that a text is read and checked once.

use std::borrow::Cow;
use std::collections::HashMap;

use rusqlite::{Connection, Statement};

use crate::store::error::StoreError;
use crate::store::row::ColumnShape;
use crate::store::text;
use crate::store::value::Value;

use super::{cells, engine_error};

/// Texts remembered at the most: those of one service are a hundred, and lists put together at run time a few more.
const TEXTS: usize = 1024;

pub(crate) struct Line {
    pub(super) connection: Connection,
    plans: HashMap<Box<str>, Plan>,
}

/// What a text says, found out when it is first seen.
struct Plan {
    /// As SQLite takes it.
    text: Box<str>,
    parameters: usize,
    /// For each place in the statement the number of the parameter that belongs there.
    binds: Vec<usize>,
    has_rows: bool,
    /// The row type it was last read into, and where that type's columns stand.
    places: Option<(&'static [ColumnShape], Vec<usize>)>,
}

impl Line {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, plans: HashMap::new() }
    }

    /// Says one of the engine's own words, such as COMMIT.
    pub(super) fn say(&self, control: &str) -> Result<(), StoreError> {
        let mut statement = self.connection.prepare_cached(control).map_err(|e| engine_error(&e))?;
        statement.raw_execute().map(drop).map_err(|e| engine_error(&e))
    }

    pub(super) fn query(
        &mut self,
        text: &str,
        params: &[Value],
        shape: &'static [ColumnShape],
    ) -> Result<Vec<Vec<Value>>, StoreError> {
        let (connection, plan) = self.planned(text, params)?;
        let mut statement = connection.prepare_cached(&plan.text).map_err(|e| engine_error(&e))?;
        cells::bind(&mut statement, &plan.binds, params)?;
        let places = plan.places_of(&statement, shape)?;
        let mut rows = statement.raw_query();
        let mut out = Vec::new();
        while let Some(row) = rows.next().map_err(|e| engine_error(&e))? {
            out.push(cells::read(row, places, shape)?);
        }
        Ok(out)
    }

    pub(super) fn execute(&mut self, text: &str, params: &[Value]) -> Result<u64, StoreError> {
        let (connection, plan) = self.planned(text, params)?;
        if plan.has_rows {
            return Err(StoreError::Refused(format!("a statement with rows needs a row type: {text}")));
        }
        let mut statement = connection.prepare_cached(&plan.text).map_err(|e| engine_error(&e))?;
        cells::bind(&mut statement, &plan.binds, params)?;
        let touched = statement.raw_execute().map_err(|e| engine_error(&e))?;
        Ok(touched as u64)
    }

    /// The text's plan, once it is known to fit these parameters.
    fn planned(&mut self, text: &str, params: &[Value]) -> Result<(&Connection, &mut Plan), StoreError> {
        if !self.plans.contains_key(text) {
            if self.plans.len() >= TEXTS {
                self.plans.clear();
            }
            let plan = Plan::of(&self.connection, text)?;
            self.plans.insert(text.into(), plan);
        }
        let plan = self.plans.get_mut(text).expect("it was there or has just been put there");
        text::fits(text, plan.parameters, params.len())?;
        Ok((&self.connection, plan))
    }
}

impl Plan {
    fn of(connection: &Connection, text: &str) -> Result<Self, StoreError> {
        let parameters = text::parameters(text)?;
        text::refuse_control(text)?;
        let dialect = dialect(text).into_owned();
        let statement = connection.prepare_cached(&dialect).map_err(|e| engine_error(&e))?;
        let binds = cells::numbers(&statement, parameters)?;
        let has_rows = statement.column_count() > 0;
        drop(statement);
        Ok(Self { text: dialect.into(), parameters, binds, has_rows, places: None })
    }

    fn places_of(&mut self, statement: &Statement<'_>, shape: &'static [ColumnShape]) -> Result<&[usize], StoreError> {
        if !self.places.as_ref().is_some_and(|(known, _)| std::ptr::eq(*known, shape)) {
            self.places = Some((shape, cells::places(statement, shape)?));
        }
        Ok(self.places.as_ref().map_or(&[], |(_, places)| places))
    }
}

/// `= ANY($n)` as SQLite knows it.
pub(super) fn dialect(text: &str) -> Cow<'_, str> {
    if !text.contains("= ANY($") {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(at) = rest.find("= ANY($") {
        let Some(close) = rest[at..].find(')') else { break };
        out.push_str(&rest[..at]);
        out.push_str("IN rarray(");
        out.push_str(&rest[at + "= ANY(".len()..=at + close]);
        rest = &rest[at + close + 1..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_rewritten_for_sqlite() {
        assert_eq!(dialect("a = ANY($1) AND NOT (b = ANY($2))"), "a IN rarray($1) AND NOT (b IN rarray($2))");
    }

    #[test]
    fn a_text_is_checked_each_time_against_what_it_is_given() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE t (a INTEGER, b INTEGER)").unwrap();
        let mut line = Line::new(connection);
        let text = "INSERT INTO t (b, a) VALUES ($2, $1)";
        for _ in 0..2 {
            assert_eq!(line.execute(text, &[Value::Int(1), Value::Int(2)]).unwrap(), 1);
            assert!(line.execute(text, &[Value::Int(1)]).unwrap_err().to_string().contains("1 parameters"));
        }
        let swapped: i64 =
            line.connection.query_row("SELECT COUNT(*) FROM t WHERE a = 1 AND b = 2", [], |r| r.get(0)).unwrap();
        assert_eq!(swapped, 2);
    }
}
