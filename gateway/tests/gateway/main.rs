//! The gateway between real sockets: clients in front, small services behind.

mod abuse;
mod city;
mod door;
mod forwarding;
mod lines;
mod mint;
mod together;
mod tokens;
