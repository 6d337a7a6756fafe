//! What can go wrong in a store, split by what the caller can do about it.

use thiserror::Error;

/// Why a database is out of reach for a while.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Away {
    /// Nobody answers, or not the one who decides.
    #[error("connection lost: {0}")]
    Gone(String),
    /// The disk that holds it has no room for what was to be written.
    #[error("no room: {0}")]
    Full(String),
}

/// A statement that failed, or was refused. The first one seals its unit of work.
#[derive(Debug, Clone, Error)]
pub enum StoreError {
    /// An earlier statement of this unit failed; nothing more runs in it.
    #[error("the unit of work is sealed by its first error: {0}")]
    Sealed(String),
    /// The unit has ended; a handle that was kept beyond it does nothing.
    #[error("the unit of work has ended")]
    Ended,
    /// The result does not have the declared columns.
    #[error("decoding {0}")]
    Decode(String),
    /// Exactly one row was asked for and none came.
    #[error("no row where exactly one was expected")]
    NoRow,
    /// At most one row was asked for and more came.
    #[error("more than one row where at most one was expected")]
    ManyRows,
    /// A unique, check, foreign-key or not-null rule of the schema.
    #[error("constraint: {0}")]
    Constraint(String),
    /// Somebody else holds the row for longer than the lock timeout.
    #[error("a lock was not free in time")]
    LockTimeout,
    /// The statement is not one that a unit may send.
    #[error("refused: {0}")]
    Refused(String),
    /// A serialisation failure or deadlock: the whole unit may run again.
    #[error("conflict between transactions: {0}")]
    Conflict(String),
    /// The database is out of reach or out of room; nothing of this unit is durable, and a later one may be.
    #[error("{0}")]
    Lost(Away),
    /// The server does not let this login in.
    #[error("{0}")]
    Login(String),
    /// Anything else the engine said.
    #[error("{0}")]
    Engine(String),
}

impl StoreError {
    /// The connection was lost.
    pub(crate) fn gone(why: impl Into<String>) -> Self {
        Self::Lost(Away::Gone(why.into()))
    }

    /// There is no room on the disk.
    pub(crate) fn full(why: impl Into<String>) -> Self {
        Self::Lost(Away::Full(why.into()))
    }

    /// Whether another connection may do better.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Lost(Away::Gone(_)))
    }

    /// Whether a disk is full.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Lost(Away::Full(_)))
    }
}

/// How a unit of work ended when it did not commit.
#[derive(Debug, Error)]
pub enum WriteError<E> {
    /// The unit refused; it was rolled back.
    #[error("{0}")]
    Unit(E),
    /// The unit panicked; it was rolled back.
    #[error("the unit of work panicked: {0}")]
    Panicked(String),
    /// The unit took longer than its deadline; it was rolled back.
    #[error("the unit of work passed its deadline")]
    Deadline,
    /// The engine failed; nothing of this unit is durable.
    #[error(transparent)]
    Store(StoreError),
    /// The answer to COMMIT was lost: only a later look can tell whether it happened.
    #[error("the answer to COMMIT was lost; the outcome is unknown")]
    Unknown,
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
}

impl<E> WriteError<E> {
    /// What kind of failure it was, in a word; a unit that refused did not fail.
    pub(crate) fn failure(&self) -> Option<&'static str> {
        match self {
            Self::Unit(_) => None,
            Self::Panicked(_) => Some("panicked"),
            Self::Deadline => Some("deadline"),
            Self::Store(_) => Some("store"),
            Self::Unknown => Some("unknown"),
            Self::Closed => Some("closed"),
        }
    }

    /// The same ending with the unit's own refusal turned into another type.
    pub fn map_unit<F>(self, with: impl FnOnce(E) -> F) -> WriteError<F> {
        match self {
            Self::Unit(e) => WriteError::Unit(with(e)),
            Self::Panicked(why) => WriteError::Panicked(why),
            Self::Deadline => WriteError::Deadline,
            Self::Store(e) => WriteError::Store(e),
            Self::Unknown => WriteError::Unknown,
            Self::Closed => WriteError::Closed,
        }
    }
}
