//! The C library's own input and output: it reads and writes with calls of its own that no hook sees.
//!
//! Before the promise such bytes are noticed, because the kernel counts them. After it they would go over a transport
//! that the direction may have left. So an endpoint that stdio has in hand makes no promise.

use core::ffi::c_char;

use libc::{FILE, c_int};
use matcher::reason::Reason;

use crate::endpoint::{self, Id};
use crate::fds::{self, Kind};
use crate::guard::Errno;
use crate::hooks::real;
use crate::process;

/// Whether the endpoint is one of the three that a program finds open in `stdin`, `stdout` and `stderr`.
pub fn is_standard(id: Id) -> bool {
    fds::numbers_of(id).any(|fd| fd <= libc::STDERR_FILENO)
}

/// From here on the C library may act on the descriptor by itself.
pub extern "C" fn takes(fd: c_int) {
    fds::note_written(fd);
    if !fds::needs_us(fd) || !process::is_announced() {
        return;
    }
    let _errno = Errno::keep();
    if let Some((id, Kind::Active)) = fds::lookup(fd)
        && !endpoint::stay(*id, Reason::Stdio)
    {
        crate::dual::land(*id, Reason::Stdio);
    }
}

pub unsafe fn fdopen(fd: c_int, mode: *const c_char) -> *mut FILE {
    takes(fd);
    // SAFETY: the program's own call.
    unsafe { real::fdopen()(fd, mode) }
}

/// A list of arguments (va_list), passed on as it is.
pub type Arguments = *mut core::ffi::c_void;

pub unsafe fn vdprintf(fd: c_int, format: *const c_char, arguments: Arguments) -> c_int {
    takes(fd);
    // SAFETY: the program's own call.
    unsafe { real::vdprintf()(fd, format, arguments) }
}

pub unsafe fn vdprintf_chk(fd: c_int, flag: c_int, format: *const c_char, arguments: Arguments) -> c_int {
    takes(fd);
    // SAFETY: the program's own call.
    unsafe { real::__vdprintf_chk()(fd, flag, format, arguments) }
}

/// A function whose first argument is a descriptor, and whose others nobody knows (dprintf): [`takes`], then the real
/// one with everything as it was. In `al` is how many vector registers carry arguments (System V ABI, 3.5.7).
#[cfg(target_arch = "x86_64")]
#[macro_export]
macro_rules! forwarded {
    ($name:ident, $find:ident) => {
        extern "C" fn $find() -> usize {
            $crate::hooks::real_address(match core::ffi::CStr::from_bytes_with_nul(
                concat!(stringify!($name), "\0").as_bytes(),
            ) {
                Ok(name) => name,
                Err(_) => c"",
            })
        }

        #[unsafe(naked)]
        #[cfg_attr(not(test), unsafe(no_mangle))]
        unsafe extern "C" fn $name() {
            core::arch::naked_asm!(
                "push rbp",
                "mov rbp, rsp",
                "sub rsp, 192",
                "mov [rsp], rax",
                "mov [rsp + 8], rdi",
                "mov [rsp + 16], rsi",
                "mov [rsp + 24], rdx",
                "mov [rsp + 32], rcx",
                "mov [rsp + 40], r8",
                "mov [rsp + 48], r9",
                "movups [rsp + 64], xmm0",
                "movups [rsp + 80], xmm1",
                "movups [rsp + 96], xmm2",
                "movups [rsp + 112], xmm3",
                "movups [rsp + 128], xmm4",
                "movups [rsp + 144], xmm5",
                "movups [rsp + 160], xmm6",
                "movups [rsp + 176], xmm7",
                "call {takes}",
                "call {find}",
                "mov r11, rax",
                "mov rax, [rsp]",
                "mov rdi, [rsp + 8]",
                "mov rsi, [rsp + 16]",
                "mov rdx, [rsp + 24]",
                "mov rcx, [rsp + 32]",
                "mov r8, [rsp + 40]",
                "mov r9, [rsp + 48]",
                "movups xmm0, [rsp + 64]",
                "movups xmm1, [rsp + 80]",
                "movups xmm2, [rsp + 96]",
                "movups xmm3, [rsp + 112]",
                "movups xmm4, [rsp + 128]",
                "movups xmm5, [rsp + 144]",
                "movups xmm6, [rsp + 160]",
                "movups xmm7, [rsp + 176]",
                "leave",
                "jmp r11",
                takes = sym $crate::calls::stdio::takes,
                find = sym $find,
            )
        }
    };
}
