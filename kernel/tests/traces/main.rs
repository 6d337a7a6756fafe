//! Spans of a real service, as a collector gets them; and that no collector, dead or slow, costs the service anything.
#![cfg(feature = "otlp")]

mod collector;
mod desk;
mod outage;
mod spans;
