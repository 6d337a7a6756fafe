//! Scenes with a real database: events and jobs as the kernel runs them, each in a unit of its own.

pub(crate) mod city;
mod days;
