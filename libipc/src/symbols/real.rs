//! The next definition of every symbol in the table: what the program would have called without the shim.

use core::ffi::{CStr, c_char, c_void};
use core::sync::atomic::{AtomicPtr, Ordering::*};

use super::table::*;

unsafe extern "C" {
    /// Linked by its first version, so that the object loads on every glibc since: the default version came with 2.34,
    /// when the function moved from libdl to libc.
    #[cfg_attr(target_arch = "x86_64", link_name = "dlsym@GLIBC_2.2.5")]
    #[cfg_attr(target_arch = "aarch64", link_name = "dlsym@GLIBC_2.17")]
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// The address of a symbol; null if there is none.
pub(crate) fn symbol(handle: *mut c_void, name: &'static CStr) -> *mut c_void {
    // SAFETY: a terminated name; RTLD_NEXT is looked up from this object.
    unsafe { dlsym(handle, name.as_ptr()) }
}

/// The next definition of a symbol after the shim's, found at its first use.
struct Next(AtomicPtr<c_void>);

impl Next {
    const fn new() -> Next {
        Next(AtomicPtr::new(core::ptr::null_mut()))
    }

    #[inline(always)]
    fn get(&self, name: &'static CStr) -> *mut c_void {
        let known = self.0.load(Relaxed);
        if known.is_null() { self.find(name) } else { known }
    }

    #[cold]
    fn find(&self, name: &'static CStr) -> *mut c_void {
        let found = address(name) as *mut c_void;
        self.0.store(found, Relaxed);
        found
    }
}

/// Stands for a function that this libc does not have.
extern "C" fn missing() -> c_long {
    // SAFETY: libc's errno of the calling thread.
    unsafe { *libc::__errno_location() = libc::ENOSYS };
    -1
}

/// The next definition of a symbol; a function that reports an error if there is none.
pub(crate) fn address(name: &'static CStr) -> usize {
    let found = symbol(libc::RTLD_NEXT, name);
    if found.is_null() { missing as *mut c_void as usize } else { found as usize }
}

macro_rules! define {
    ($($name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? => $handler:path;)+) => {
        mod slots {
            #![allow(non_upper_case_globals)]
            $(pub(super) static $name: super::Next = super::Next::new();)+
        }

        /// The functions behind the hooks, if they have been found already: for the shortest paths.
        pub(crate) mod known {
            use super::*;
            $(
                #[allow(non_snake_case, dead_code)]
                #[inline(always)]
                pub(crate) fn $name() -> Option<unsafe extern "C" fn($($ty),*) $(-> $ret)?> {
                    // SAFETY: null, or the symbol of this name, which has this signature; null is None.
                    unsafe { core::mem::transmute(slots::$name.0.load(Relaxed)) }
                }
            )+
        }

        $(
            #[allow(non_snake_case)]
            #[inline(always)]
            pub(crate) fn $name() -> unsafe extern "C" fn($($ty),*) $(-> $ret)? {
                const NAME: &CStr = match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                    Ok(name) => name,
                    Err(_) => c"",
                };
                // SAFETY: the symbol of this name has this signature (the manual page of the same name).
                unsafe { core::mem::transmute(slots::$name.get(NAME)) }
            }
        )+

        /// Finds every function now, so that a signal handler never has to.
        pub(crate) fn find_all() {
            $($name();)+
        }
    };
}

for_each_symbol!(define);
