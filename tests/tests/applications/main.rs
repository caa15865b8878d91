//! Programs as they are installed: natively, with the shim at both ends, at one end, and without ipcd. Their answers
//! must be the same, and with the shim at both ends their streams must leave TCP (docs/applications.md).

mod apache;
mod files;
mod haproxy;
mod http;
mod mariadb;
mod memcached;
mod messages;
mod network_tools;
mod nginx;
mod openssh;
mod postgres;
mod redis;
mod runtimes;
mod tools;
