//! Real engines for development and tests: started from what this machine has, never as root, gone with whoever started
//! them.
//!
//! [`Fleet::up`] starts a set of the [`ENGINES`] inside a folder and holds their leash: however the process ends that
//! called it, they end with it. [`serve`] lets other processes ask things of that fleet through [`Remote`].
//! What runs once is a *node*: `kafka3` is one engine with three nodes, every other engine has one of its own name.

mod action;
mod addresses;
mod build;
mod cache;
mod fleet;
mod node;
mod place;
mod ports;
mod process;
mod program;
mod recipes;
mod remote;
mod replication;
mod serve;
mod spawn;
mod sql;
mod table;
mod user;

pub use action::Action;
pub use addresses::{ADDRESSES, Card, VARIABLES};
pub use cache::default_cache;
pub use fleet::{Fleet, Setup};
pub use node::{State, Status};
pub use program::{Missing, Need};
pub use remote::Remote;
pub use serve::serve;
pub use table::{ENGINES, Engine, Group, chosen, named};
