//! Functions whose number of arguments varies. Rust has no such functions, so these are in assembly, and for x86-64 only.

#![allow(non_snake_case)]

use crate::calls::{exec, stdio};
use crate::symbols::real;

/// A function with arguments one by one (`path`, then the list). To have them in memory one after the other, those in
/// registers are pushed below those that the caller pushed, and the return address is put below all of them.
macro_rules! listed {
    ($name:ident => $handler:path) => {
        #[unsafe(naked)]
        #[cfg_attr(not(test), unsafe(no_mangle))]
        unsafe extern "C" fn $name() {
            core::arch::naked_asm!(
                "pop rax",
                "push r9",
                "push r8",
                "push rcx",
                "push rdx",
                "push rsi",
                "mov rsi, rsp",
                "push rax",
                "call {handler}",
                "pop rcx",
                "add rsp, 40",
                "jmp rcx",
                handler = sym $handler,
            )
        }
    };
}

/// A function whose first argument is a descriptor, and whose others are unknown (dprintf): [`takes`], then the real
/// one with everything as it was. In `al` is how many vector registers carry arguments (System V ABI, 3.5.7).
macro_rules! forwarded {
    ($name:ident, $find:ident) => {
        extern "C" fn $find() -> usize {
            real::address(match core::ffi::CStr::from_bytes_with_nul(
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
                takes = sym stdio::takes,
                find = sym $find,
            )
        }
    };
}

listed!(execl => exec::execl);
listed!(execlp => exec::execlp);
listed!(execle => exec::execle);
forwarded!(dprintf, real_dprintf);
forwarded!(__dprintf_chk, real_dprintf_chk);
