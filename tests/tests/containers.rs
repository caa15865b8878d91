//! Containers of a real engine: which streams move, between which places, and what happens when something dies.

#[path = "containers/applications.rs"]
mod applications;
#[path = "containers/faults.rs"]
mod faults;
#[path = "containers/places.rs"]
mod places;
