//! ipcd's sockets: where it listens, who is connected, and what goes over each connection.

pub mod owner;
pub mod page;
pub mod place;
pub mod record;
pub mod server;
pub mod session;
