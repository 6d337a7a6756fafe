//! HTTP: a server with limits, route tables whose rows are their own documentation, one shape for every error.

mod answer;
pub mod assertion;
pub mod body;
mod connection;
mod late;
mod nul;
pub mod page;
mod pipeline;
pub mod problem;
mod refusal;
mod request;
mod routes;
pub mod server;

pub use answer::{Accepted, Answer, Created, Done, Json, Reply};
pub use assertion::{Identity, Signer};
pub use late::OutOfTime;
pub use nul::TextRefusal;
pub use page::Page;
pub use pipeline::guard;
pub(crate) use pipeline::{Front, router};
pub use problem::Problem;
pub use refusal::Fail;
pub use request::{Arg, Args, Body, Caller, Form, MaybeCaller, Path, Query, Request, Whole};
pub use routes::{Reads, Routes, Writes};
pub use server::Limits;
