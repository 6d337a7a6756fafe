//! Whole journeys with the real binary, as a person at a terminal makes them: each on a city of its own, on free ports.

mod books;
mod bus;
mod changes;
mod cluster;
mod conform;
mod documents;
mod engines;
mod full_disk;
mod load;
mod order;
mod processes;
mod program;
mod violence;
