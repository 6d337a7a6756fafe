//! What a service does about somebody else's event, with its types erased.

use std::pin::Pin;
use std::sync::Arc;

use super::{Envelope, Event, EventDef, Payload as _, Received};
use crate::store::{StoreError, Tx};

/// Why an event was not handled, and whether trying again may help.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Fault {
    /// A passing trouble: the event is tried again in place.
    #[error("{0}")]
    Retry(String),
    /// Trying again cannot help: the event and all later ones of its aggregate are parked.
    #[error("{0}")]
    Park(String),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::LockTimeout | StoreError::Conflict(_) | StoreError::Lost(_) | StoreError::Engine(_) => {
                Self::Retry(error.to_string())
            }
            other => Self::Park(other.to_string()),
        }
    }
}

pub(crate) type Reacting = Pin<Box<dyn Future<Output = Result<(), Fault>> + Send>>;

/// One event type that a service hears, and what it does about it inside the consumer's unit of work.
#[derive(Clone)]
pub struct Reaction {
    /// The event type.
    pub def: EventDef,
    run: Arc<dyn Fn(Tx, &Envelope) -> Reacting + Send + Sync>,
    pub(crate) keeps: Option<Keeps>,
}

/// What a reaction that only keeps a copy does with an event, so that the copy can be made anew from the log.
#[derive(Clone, Copy)]
pub(crate) struct Keeps {
    /// Whether the payload is one that this service can read.
    pub(crate) reads: fn(&Envelope) -> Result<(), Fault>,
    /// Whether the event says that the thing is gone.
    pub(crate) gone: bool,
}

/// An event whose payload belongs to another organisation than the event says: no bug of ours can be trusted with it.
pub(super) fn foreign(envelope: &Envelope) -> Fault {
    Fault::Park(format!("{} says organisation {}, its payload another", envelope.id, envelope.orgid))
}

impl Reaction {
    /// A reaction to events of type `E`.
    pub fn new<E, F, Fut>(react: F) -> Self
    where
        E: Event,
        F: Fn(Tx, Received<E>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Fault>> + Send + 'static,
    {
        let run = move |tx: Tx, envelope: &Envelope| -> Reacting {
            match Received::<E>::open(envelope) {
                Ok(received) if received.event.payload().subject().org != envelope.orgid => {
                    let why = foreign(envelope);
                    Box::pin(async move { Err(why) })
                }
                Ok(received) => Box::pin(react(tx, received)),
                Err(error) => {
                    let why = format!("{} does not read as {}: {error}", envelope.id, E::DEF.name);
                    Box::pin(async move { Err(Fault::Park(why)) })
                }
            }
        };
        Self { def: E::DEF, run: Arc::new(run), keeps: None }
    }

    /// A reaction that keeps a copy of the event's state.
    pub(crate) fn keeping(
        def: EventDef,
        keeps: Keeps,
        run: impl Fn(Tx, &Envelope) -> Reacting + Send + Sync + 'static,
    ) -> Self {
        Self { def, run: Arc::new(run), keeps: Some(keeps) }
    }

    /// Handles one event in the given unit.
    pub(crate) fn react(&self, tx: Tx, envelope: &Envelope) -> Reacting {
        (self.run)(tx, envelope)
    }
}

impl std::fmt::Debug for Reaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reaction({})", self.def.name)
    }
}
