//! What the program calls. Exports decide nothing; they call the handler.

use super::real;
use super::table::*;
use crate::calls::{
    connect, descriptors, epoll, exec, options, process, read, select, spawn, stdio, syscall, wait, write,
};
use crate::host::confine;
use crate::stream::splice;

macro_rules! export {
    ($($name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? => $handler:path;)+) => {
        $(
            #[cfg_attr(not(test), unsafe(no_mangle))]
            unsafe extern "C" fn $name($($arg: $ty),*) $(-> $ret)? {
                const CONFINES: bool = !confine::looks_after_itself(stringify!($name));
                if CONFINES && confine::is_confined() {
                    // SAFETY: the program's own call.
                    return unsafe { real::$name()($($arg),*) };
                }
                // SAFETY: the program's own arguments.
                unsafe { $handler($($arg),*) }
            }
        )+
    };
}

for_each_symbol!(export);
