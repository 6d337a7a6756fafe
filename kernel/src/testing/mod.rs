//! What tests may reach that services may not.

pub mod store;
