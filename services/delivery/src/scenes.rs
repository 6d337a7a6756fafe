//! Scenes with a real database: events, timers and handlers as the kernel runs them, each in a unit of its own.

mod city;
mod days;
