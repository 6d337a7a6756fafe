//! Whose rows a unit of work or a read may touch: those of some organisations, or everybody's.
//!
//! The kernel says it around whatever it runs: a caller's request, an event, a timer, a job. PostgreSQL holds to it by
//! row-level security; on both engines the kernel itself refuses to write, and drops from answers, what is outside.

use std::sync::Arc;

use parking_lot::Mutex;
use uuid::Uuid;

use super::error::StoreError;
use super::row::ColumnShape;
use super::value::{Kind, Value};

tokio::task_local! {
    static HERE: Scope;
}

/// Whose rows may be touched. Rows of the nil organisation belong to no tenant and are within every scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every organisation's. For callers who act for none, jobs, and the kernel's own book-keeping.
    Everybody,
    /// Those of these organisations.
    Orgs(Arc<[Uuid]>),
    /// Nobody said; every statement is refused.
    Undeclared,
}

impl Scope {
    /// The rows of one organisation.
    pub fn org(org: Uuid) -> Self {
        Self::Orgs([org].into())
    }

    /// Runs `work` with this as the scope of its units and reads.
    pub async fn around<F: Future>(self, work: F) -> F::Output {
        HERE.scope(self, work).await
    }

    /// What was said around the calling code, if anything was.
    pub(crate) fn here() -> Option<Self> {
        HERE.try_with(Clone::clone).ok()
    }

    /// `work` bound to what was said around the calling code, for a task of its own.
    pub(crate) fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
        let here = Self::here();
        async move {
            match here {
                Some(scope) => scope.around(work).await,
                None => work.await,
            }
        }
    }

    /// Whether a row of this organisation is within.
    pub fn admits(&self, org: Uuid) -> bool {
        match self {
            Self::Everybody => true,
            Self::Orgs(orgs) => org.is_nil() || orgs.contains(&org),
            Self::Undeclared => false,
        }
    }

    /// The setting that the policies of the tables read; see `policies.rs` of the PostgreSQL engine.
    pub(crate) fn setting(&self) -> String {
        match self {
            Self::Everybody => "*".to_owned(),
            Self::Orgs(orgs) => {
                let all: Vec<String> = [Uuid::nil()].iter().chain(orgs.iter()).map(Uuid::to_string).collect();
                all.join(",")
            }
            Self::Undeclared => String::new(),
        }
    }

    pub(crate) fn refuse_undeclared(&self) -> Result<(), StoreError> {
        if *self == Self::Undeclared {
            return Err(StoreError::Refused(
                "nobody said for which organisations this runs; put Scope::around about it, or use Store::in_org or Store::across".into(),
            ));
        }
        Ok(())
    }

    /// Refuses a row of an organisation outside.
    pub(crate) fn refuse_foreign(&self, shape: &[ColumnShape], values: &[Value]) -> Result<(), StoreError> {
        match org_column(shape).map(|at| &values[at]) {
            Some(Value::Uuid(org)) if !self.admits(*org) => Err(foreign(*org)),
            _ => Ok(()),
        }
    }

    /// The rows that are within. Where the server has held to it already, all of them are.
    pub(crate) fn visible(&self, shape: &[ColumnShape], mut rows: Vec<Vec<Value>>) -> Vec<Vec<Value>> {
        if let (Self::Orgs(_), Some(at)) = (self, org_column(shape)) {
            rows.retain(|row| !matches!(&row[at], Value::Uuid(org) if !self.admits(*org)));
        }
        rows
    }
}

pub(crate) fn foreign(org: Uuid) -> StoreError {
    StoreError::Refused(format!("this unit may not touch what is of organisation {org}"))
}

fn org_column(shape: &[ColumnShape]) -> Option<usize> {
    shape.iter().position(|column| column.name == "org_id" && column.kind == Kind::Uuid)
}

/// The scope of one unit, which a consumer moves from event to event.
#[derive(Clone)]
pub(crate) struct ScopeCell(Arc<Mutex<Scope>>);

impl ScopeCell {
    pub(crate) fn new(scope: Scope) -> Self {
        Self(Arc::new(Mutex::new(scope)))
    }

    pub(crate) fn get(&self) -> Scope {
        self.0.lock().clone()
    }

    pub(crate) fn set(&self, scope: Scope) {
        *self.0.lock() = scope;
    }
}

/// What a handle on a store does about the scope of its callers.
#[derive(Clone)]
pub(super) enum Bound {
    /// Theirs, or everybody's where none was said.
    Open,
    /// Theirs; where none was said, nothing runs.
    Guarded,
    /// This one, whatever they said.
    Fixed(Scope),
}

impl Bound {
    pub(super) fn scope(&self) -> Scope {
        match self {
            Self::Fixed(scope) => scope.clone(),
            Self::Open => Scope::here().unwrap_or(Scope::Everybody),
            Self::Guarded => Scope::here().unwrap_or(Scope::Undeclared),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Uuid = Uuid::from_u128(1);
    const THEIRS: Uuid = Uuid::from_u128(2);

    #[test]
    fn a_scope_admits_its_organisations_and_what_is_nobodys() {
        let scope = Scope::org(OURS);
        assert!(scope.admits(OURS) && scope.admits(Uuid::nil()) && !scope.admits(THEIRS));
        assert!(Scope::Everybody.admits(THEIRS) && !Scope::Undeclared.admits(Uuid::nil()));
        assert_eq!(scope.setting(), format!("{},{OURS}", Uuid::nil()));
    }

    #[test]
    fn rows_of_others_are_dropped_and_refused() {
        let shape = [ColumnShape { name: "org_id", kind: Kind::Uuid, nullable: false }];
        let rows = vec![vec![Value::Uuid(OURS)], vec![Value::Uuid(THEIRS)]];
        let scope = Scope::org(OURS);
        assert_eq!(scope.visible(&shape, rows.clone()), [[Value::Uuid(OURS)]]);
        assert_eq!(Scope::Everybody.visible(&shape, rows), [[Value::Uuid(OURS)], [Value::Uuid(THEIRS)]]);
        assert!(scope.refuse_foreign(&shape, &[Value::Uuid(THEIRS)]).is_err());
        assert!(scope.refuse_foreign(&shape, &[Value::Uuid(OURS)]).is_ok());
        assert!(scope.refuse_foreign(&[], &[]).is_ok());
    }

    #[tokio::test]
    async fn a_guarded_handle_takes_what_was_said_and_nothing_else() {
        assert_eq!(Bound::Guarded.scope(), Scope::Undeclared);
        assert_eq!(Bound::Open.scope(), Scope::Everybody);
        let said = Scope::org(OURS).around(async { (Bound::Guarded.scope(), Bound::Open.scope()) }).await;
        assert_eq!(said, (Scope::org(OURS), Scope::org(OURS)));
        let fixed = Scope::org(OURS).around(async { Bound::Fixed(Scope::org(THEIRS)).scope() }).await;
        assert_eq!(fixed, Scope::org(THEIRS));
    }
}
