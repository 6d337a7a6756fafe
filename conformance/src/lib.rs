//! What is promised of every engine, as one list of named cases.
//!
//! A [`Case`] belongs to a [`Family`], which says on which of the [`ENGINES`] its cases are played. It gives the figure
//! that it saw, and it has a fault that can be planted on its stage and then has to make it fail: a case that cannot fail
//! shows nothing. [`play`] runs a choice of them; [`Sheet`] keeps what they saw as a document.

mod bus;
mod cache;
mod case;
mod choice;
mod config;
mod engine;
mod families;
mod idempotency;
mod jobs;
mod place;
mod play;
mod redis;
mod registry;
mod secrets;
mod sheet;
mod store;

pub use case::Case;
pub use choice::{Choice, matches};
pub use engine::{ENGINES, Engine};
pub use families::{FAMILIES, Family, cases};
pub use place::{Addresses, Again, Place, play_part};
pub use play::{Cell, Played, play};
pub use sheet::{PAGE, Sheet, misfits};
